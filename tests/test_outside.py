"""Effects of the process outside itself: under strace, whose log is checked against a list.

Packages that are loaded at run time write ids and caches into the home folder and call their
makers. A home that is empty before must be so after, and nothing may speak to a network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundle.bundles import make_bundle
from tests.trainer.tiny import STAGE, write_config

TIMEOUT_S = 300
SENDING = {"connect", "bind", "listen", "sendto", "sendmsg", "sendmmsg"}
OPENING = {"open", "creat", "openat"}
MAKING = {"mkdir", "mkdirat", "mknod", "mknodat", "symlink", "symlinkat"}
MOVING = {"rename", "renameat", "renameat2", "link", "linkat"}


class Log:
    """System calls of a program under strace that succeeded."""

    def __init__(self, text: str) -> None:
        found = re.findall(r"^\d+ +(\w+)\((.*)", text, re.MULTILINE)
        self._calls = [(name, rest) for name, rest in found if " = -1 " not in rest]

    def sockets(self) -> list[str]:
        return [rest for name, rest in self._calls if name == "socket"]

    def network(self) -> list[str]:
        """Calls that reach beyond this machine's own sockets, or are reached."""
        return [rest for name, rest in self._calls if name in SENDING and "AF_INET" in rest]

    def written(self, *allowed: Path) -> list[str]:
        """Paths that were opened for writing, or made, and lie in none of these folders."""
        paths = set()
        for name, rest in self._calls:
            opened = name in OPENING and re.search(r"O_WRONLY|O_RDWR|O_CREAT", rest)
            if opened or name in MAKING | MOVING:
                paths.update(re.findall(r'"([^"]+)"', rest))
        folders = (*(f"{folder}/" for folder in allowed), "/dev/", "/proc/self/")
        # A relative path is in the folder that the program was started in, which is allowed.
        return sorted(p for p in paths if p.startswith("/") and not f"{p}/".startswith(folders))


@pytest.fixture(scope="module")
def strace():
    """strace, where it is installed and may look."""
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not installed: apt-get install strace")
    # Other calls pass at full speed with the filter, which older kernels and versions have not.
    for command in ([path, "-f", "--seccomp-bpf"], [path, "-f"]):
        tried = subprocess.run(
            [*command, "-o", "/dev/null", "true"], capture_output=True, check=False
        )
        if tried.returncode == 0:
            return command
    pytest.skip(f"strace may not look at processes here: {tried.stderr.decode()[-200:]}")


@pytest.fixture
def traced(strace, tmp_path):
    """Run Python code under strace, in a folder of its own with an empty home."""
    home, here, temporary = (tmp_path / name for name in ("home", "here", "tmp"))
    for folder in (home, here, temporary):
        folder.mkdir()

    def run(code: str) -> Log:
        log = tmp_path / "log"
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ORT_", "XDG_", "DFF_", "MPL", "COV_", "PYTEST"))
        }
        done = subprocess.run(
            [*strace, "-qq", "-s", "300", "-e", "trace=network,%file", "-o", str(log)]
            + [sys.executable, "-c", code],
            cwd=here,
            env=environment
            | {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return Log(log.read_text(errors="replace"))

    run.home, run.here, run.temporary = home, here, temporary
    return run


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_run_opens_no_socket_and_writes_its_outputs_only(traced, tmp_path, engine):
    pytest.importorskip(engine)
    bundle = make_bundle(tmp_path / "bundle", (32, 64)).path
    log = traced(f"""
from dff_edge.cli import main
main(["run", {str(bundle)!r}, "synthetic://street?frames=3", "--engine", {engine!r},
      "-o", "out.mp4", "-o", "out.jsonl", "--json", "numbers.json"])
""")
    assert log.sockets() == []
    assert log.written(traced.here) == []
    assert sorted(path.name for path in traced.here.iterdir()) == [
        "numbers.json",
        "out.jsonl",
        "out.mp4",
    ]
    assert list(traced.home.iterdir()) == []


def test_the_page_is_the_one_socket_of_a_run_that_serves_it(traced, tmp_path):
    pytest.importorskip("aiohttp")
    bundle = make_bundle(tmp_path / "bundle", (32, 64)).path
    log = traced(f"""
from dff_edge.cli import main
main(["run", {str(bundle)!r}, "synthetic://street?frames=3", "--serve", "0"])
""")
    assert len(log.sockets()) == 1
    (bound,) = log.network()
    assert 'sin_addr=inet_addr("127.0.0.1")' in bound
    assert log.written(traced.here) == []


def test_from_training_to_accuracy_nobody_is_called_and_the_home_is_left_alone(traced):
    """All commands of a workstation, one after the other."""
    config = write_config(
        traced.here / "tiny.yaml",
        stages=[{"kind": "pairs", **STAGE, "steps": 1, "epoch_steps": 1}],
    )
    log = traced(f"""
from dff_edge.cli import main

def run(*arguments):
    main(arguments, standalone_mode=False)

street = "synthetic://street?height=32&width=64"
run("train", {config.name!r}, "-o", "run")
run("export", "run/checkpoint", "-o", "bundle")
run("calibrate", "bundle", "--flavour", "ort", "--source", street + "&clips=3&frames=10")
run("evaluate", "bundle", "--source", street + "&clips=1&frames=3", "--max-interval", "2")
""")
    assert log.network() == []
    # matplotlib, which training loads with its metrics, lists the machine's fonts once for all.
    fonts = (traced.home / ".cache" / "matplotlib", traced.home / ".config" / "matplotlib")
    parents = [str(folder.parent) for folder in fonts]
    written = log.written(traced.here, traced.temporary, *fonts)
    assert [path for path in written if path not in parents] == []
    left = [path.name for path in traced.temporary.iterdir()]
    assert [name for name in left if not name.startswith("torchinductor_")] == []


def test_what_is_forbidden_would_be_seen(traced):
    """The eyes of the tests above: a datagram to nobody, and a file in the home folder."""
    log = traced("""
import socket
from pathlib import Path
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", 9))
(Path.home() / "id").write_text("1")
(Path.home() / "folder").mkdir()
""")
    assert len(log.network()) == 1
    assert log.written(traced.here) == [str(traced.home / name) for name in ("folder", "id")]
