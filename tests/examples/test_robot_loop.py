"""The example runs as it stands, on a scene played as if it were live."""

import subprocess
import sys
from pathlib import Path

from tests.bundle.bundles import make_bundle

EXAMPLE = Path(__file__).parents[2] / "examples" / "robot_loop.py"


def test_robot_loop_runs_to_the_end(tmp_path):
    make_bundle(tmp_path / "bundle")
    scene = "synthetic://street?seed=3&frames=8&height=32&width=64&rate=5"

    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(tmp_path / "bundle"), scene],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("frame ") and line.endswith(" ms old") for line in lines), lines
    assert lines[-1].startswith("the source has ended: FrameCounts(read=")
