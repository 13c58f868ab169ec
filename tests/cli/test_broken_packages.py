"""Packages that do not load, under every command: a sentence with the command that mends it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# What glibc's loader and Python say, word for word.
_ABSENT = "{}: cannot open shared object file: No such file or directory"
ERRORS = {
    _ABSENT.format("libGL.so.1"): "apt-get install libgl1",
    _ABSENT.format("libxcb.so.1"): "apt-get install libgl1",
    _ABSENT.format("libgthread-2.0.so.0"): "libglib2.0-0",
    _ABSENT.format("libgomp.so.1"): "apt-get install libgomp1",
    _ABSENT.format("libcuda.so.1"): "apt-get install nvidia-driver",
    _ABSENT.format("libodd.so.7"): "apt-file search libodd.so.7",
    "/l/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by x.so)": "libstdc++6",
    "/l/libc.so.6: version `GLIBC_2.38' not found (required by x.so)": "a newer system",
    "/x/libgomp-d22c30c5.so.1.0.0: cannot allocate memory in static TLS block": "LD_PRELOAD=/x/lib",
}
RUN = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from click.testing import CliRunner
from dff_edge.cli import main
answers = []
for error in json.loads(sys.argv[2]):
    os.environ["BROKEN"] = error
    done = CliRunner().invoke(main, sys.argv[3:])
    answers.append([done.exit_code, done.stderr])
print(json.dumps(answers))
"""
COMMANDS = {
    "cv2": (
        ["run", "{bundle}", "x.mp4", "-o", "y.mp4"],
        ["benchmark", "{bundle}"],
        ["calibrate", "{bundle}", "--source", "synthetic://street?clips=1"],
    ),
    "av": (["run", "{bundle}", "synthetic://street?frames=2", "-o", "y.mp4"],),
    "numpy": (["run", "{bundle}", "x.mp4"], ["inspect", "{bundle}"]),
    "onnxruntime": (["run", "{bundle}", "synthetic://street?frames=2", "-o", "y.jsonl"],),
    "torch": (["train", "{config}", "-o", "new"], ["export", "street", "-o", "new"]),
}


@pytest.mark.parametrize("module", COMMANDS)
def test_a_library_that_does_not_load_is_one_message(module, bundle_path, tmp_path):
    (tmp_path / f"{module}.py").write_text(
        "import os\nraise ImportError(os.environ['BROKEN'], name=__name__)\n"
    )
    config = tmp_path / "street.yaml"
    config.touch()
    for command in COMMANDS[module]:
        words = [word.format(bundle=bundle_path, config=config) for word in command]
        done = subprocess.run(
            [sys.executable, "-c", RUN, tmp_path, json.dumps(list(ERRORS)), *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        answers = json.loads(done.stdout.splitlines()[-1])
        for (code, told), (error, advice) in zip(answers, ERRORS.items(), strict=True):
            assert code == 1, (words, error, told)
            assert told.startswith("Error: "), (words, error, told)
            assert error in told, (words, error, told)
            assert advice in told, (words, error, told)
