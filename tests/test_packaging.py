"""What the package promises of itself: its imports, its installation, its Pythons."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import dff_edge

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "onnx", "onnxruntime", "onnxscript", "lightning", "tensorrt", "pycuda")
HELP_BUDGET_S = 0.5

# Any import of a blocked module fails, as it does where the module is not installed.
BLOCKER = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ImportError(f"{{name}} is blocked by the test")
sys.meta_path.insert(0, Blocker())
"""


def run_python(code: str) -> str:
    """Run code in a fresh interpreter with the heavy packages blocked; give its stdout."""
    result = subprocess.run(
        [sys.executable, "-c", BLOCKER + code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_module_of_runtime_imports_without_torch_and_onnx():
    names = run_python("""
import importlib, pkgutil
import dff_edge.runtime
for module in pkgutil.walk_packages(dff_edge.runtime.__path__, "dff_edge.runtime."):
    importlib.import_module(module.name)
    print(module.name)
""").split()

    files = [p for p in (ROOT / "runtime").rglob("*.py") if p.name != "__init__.py"]
    assert {name.rpartition(".")[2] for name in names} >= {path.stem for path in files}


def test_runtime_imports_no_other_part_of_the_project():
    loaded = run_python("""
import importlib, pkgutil
import dff_edge.runtime
for module in pkgutil.walk_packages(dff_edge.runtime.__path__, "dff_edge.runtime."):
    importlib.import_module(module.name)
print(*[name for name in sys.modules if name.startswith("dff_edge.")])
""").split()

    parts = {name.split(".")[1] for name in loaded}
    assert parts == {"runtime", "_native"}


def test_help_of_every_command_needs_neither_torch_nor_onnx():
    shown = run_python("""
import click
from dff_edge.cli import main

def show(command, words):
    try:
        command.main([*words, "--help"], prog_name="dff-edge", standalone_mode=False)
    except SystemExit as end:
        assert not end.code
    found = main
    for word in words:
        found = found.get_command(click.Context(found), word)
    if isinstance(found, click.Group):
        for name in found.list_commands(click.Context(found)):
            show(command, [*words, name])

show(main, [])
""")

    assert "Usage: dff-edge" in shown
    for command in (
        "train",
        "export",
        "calibrate",
        "evaluate",
        "run",
        "benchmark",
        "inspect",
        "doctor",
    ):
        assert f"Usage: dff-edge {command}" in shown


def test_package_is_run_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "dff_edge", "run"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: python -m dff_edge run ")


def test_help_comes_at_once():
    command = [sys.executable, "-c", "from dff_edge.cli import main; main(['--help'])"]
    times = []
    for _ in range(3):
        before = os.times()
        subprocess.run(command, check=True, capture_output=True)
        after = os.times()
        # Of the processor, not of the clock, so that a busy machine changes little.
        user, system = (
            getattr(after, kind) - getattr(before, kind)
            for kind in ("children_user", "children_system")
        )
        times.append(user + system)

    assert min(times) < HELP_BUDGET_S


def test_importing_the_package_loads_nothing_else():
    loaded = run_python("""
import dff_edge
print(*[name for name in sys.modules if name.startswith(("dff_edge.", "numpy", "cv2"))])
""")

    assert loaded.split() == []


def test_the_version_is_that_of_the_installed_package():
    assert dff_edge.__version__ == metadata.version("dff-edge")


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dff_edge.nothing  # noqa: B018


def test_onnxruntime_and_its_gpu_build_are_in_no_extra_together():
    both = {"onnxruntime", "onnxruntime-gpu"}
    by_extra: dict[str, set[str]] = {}
    for line in metadata.requires("dff-edge") or []:
        name = re.split(r"[^A-Za-z0-9-]", line, maxsplit=1)[0].lower()
        extra = re.search(r"extra == ['\"](\w+)['\"]", line)
        by_extra.setdefault(extra.group(1) if extra else "", set()).add(name)

    assert not by_extra[""] & both
    assert all(not names >= both for names in by_extra.values())
    assert "onnxruntime-gpu" in by_extra["cuda"]


def test_links_lead_to_the_folders_at_the_top():
    for name in ("trainer", "calibration", "runtime"):
        link = ROOT / "dff_edge" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..", name)


def test_no_file_needs_a_python_later_than_3_10():
    result = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--target-version", "py310", "--select", "E9,F7"]
        + ["--no-cache", str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("bounds", ["latest", "lowest"])
def test_dependencies_resolve_for_python_3_10(tmp_path, bounds):
    """Base, cpu and report have wheels for 3.10, newest and lowest versions."""
    wanted = []
    for line in metadata.requires("dff-edge") or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        if extra is None or extra.group(1) in ("cpu", "report"):
            wanted.append(requirement.strip())
    assert len(wanted) >= 8
    if bounds == "lowest":
        wanted = [re.sub(r">=([0-9.]+)", r"==\1.*", requirement) for requirement in wanted]

    result = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--python-version", "3.10"]
        + ["--only-binary=:all:", "--target", str(tmp_path), "--retries", "1", *wanted],
        capture_output=True,
        text=True,
        check=False,
    )

    if re.search(r"(connection|resolution|timed out|Network)", result.stderr, re.IGNORECASE):
        if result.returncode and "ResolutionImpossible" not in result.stderr:
            pytest.skip("the package index cannot be reached")
    assert result.returncode == 0, result.stderr
    assert "Would install" in result.stdout
