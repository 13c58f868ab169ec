"""dff-edge doctor, as its users type it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from dff_edge.report import doctor
from dff_edge.report.doctor import Finding


@pytest.fixture
def sections(monkeypatch):
    """Results of ``examine``, for the test to fill."""
    found = {"Runtime": [Finding("numpy", "ok", "2.0", is_needed=True)]}
    monkeypatch.setattr(doctor, "examine", lambda: found)
    return found


def test_this_machine_is_fit(dff_edge):
    done = dff_edge("doctor", "--json", "-")
    assert done.exit_code == 0
    content = json.loads(done.stdout)
    assert content["is_fit"] is True
    runtime = {finding["name"]: finding for finding in content["sections"]["Runtime"]}
    assert runtime["numpy"]["text"] == np.__version__
    assert runtime["dff_edge._native"]["state"] == "ok"
    assert "CPUExecutionProvider" in runtime["providers"]["text"]
    video = {finding["name"]: finding for finding in content["sections"]["Video"]}
    assert "libx264" in video["PyAV: encoders"]["text"]


def test_what_works_less_well_is_told_with_its_command(dff_edge, sections):
    sections["Clock"] = [Finding("governor", "warn", "powersave", "echo performance")]
    done = dff_edge("doctor")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    warning = next(number for number, line in enumerate(lines) if "governor" in line)
    assert lines[warning].split() == ["warn", "governor", "powersave"]
    assert lines[warning + 1].split() == [">", "echo", "performance"]
    assert lines[-1] == "Everything for running on the CPU is installed."


def test_what_is_needed_and_missing_is_exit_code_1(dff_edge, sections, tmp_path):
    sections["Video"] = [Finding("av", "missing", "not installed", "pip install av", True)]
    done = dff_edge("doctor", "--json", tmp_path / "doctor.json")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "Missing for running on the CPU: av."
    assert json.loads((tmp_path / "doctor.json").read_text())["is_fit"] is False


def test_what_is_missing_and_not_needed_is_exit_code_0(dff_edge, sections):
    sections["GPU"] = [Finding("tensorrt", "missing", "broken", "pip install tensorrt")]
    assert dff_edge("doctor").exit_code == 0


def test_doctor_itself_loads_no_package_that_may_be_broken():
    code = """
import sys
for name in ("numpy", "cv2", "av", "onnxruntime", "pydantic", "dff_edge._native"):
    sys.modules[name] = None
from dff_edge.report import doctor
from dff_edge.report.doctor import packages
packages.examine_packages = dict
from dff_edge.cli import main
main(["doctor"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "memory" in done.stdout
