"""Commands and statements of the README are true."""

import re
import shlex
from pathlib import Path

import av
import numpy as np
import pytest

from dff_edge.cli import main
from tests.bundle.bundles import make_bundle

README = Path(__file__).parent.parent / "README.md"


def code_blocks(language):
    blocks = re.findall(r"```(\w*)\n(.*?)```", README.read_text(), re.DOTALL)
    return [code for name, code in blocks if name == language]


def test_ten_lines_of_python_run(tmp_path, monkeypatch, capsys):
    (code,) = code_blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    make_bundle(tmp_path / "demo/bundle", (32, 64), classes=8, precisions=("fp32", "int8"))
    with av.open(str(tmp_path / "street.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for value in range(3):
            image = np.full((32, 64, 3), 80 * value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode())
    monkeypatch.chdir(tmp_path)

    exec(compile(code, "README.md", "exec"), {})  # noqa: S102

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["frame 0", "frame 1", "frame 2"]
    assert "features 2 frames old" in lines[2]


def commands():
    text = "\n".join(code_blocks(""))
    return [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("dff-edge")]


@pytest.mark.parametrize("line", commands())
def test_commands_and_options_exist(line):
    """Every option that the README shows is one of its command's."""
    _, name, *arguments = shlex.split(line)
    command = main.get_command(None, name)
    known = {text for parameter in command.params for text in parameter.opts}
    options = [
        word for word in arguments if word.startswith("-") and not word.lstrip("-").isdigit()
    ]
    assert set(options) <= known
