"""Promises of the package: its imports, its installation, its Pythons."""

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


def test_runtime_loads_nothing_that_is_above_it():
    loaded = run_python("""
import importlib, pkgutil
import dff_edge.runtime
for module in pkgutil.walk_packages(dff_edge.runtime.__path__, "dff_edge.runtime."):
    importlib.import_module(module.name)
print(*[name for name in sys.modules if name.startswith("dff_edge.")])
""").split()

    parts = {name.split(".")[1] for name in loaded}
    above = {"cli", "data", "deploy", "evaluation", "experiment", "export", "onnx_graphs", "report"}
    above |= {"calibration", "plan", "serve", "trainer", "zoo"}
    assert parts >= {"runtime", "bundle", "_native"}
    assert not parts & above


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


def requirements() -> dict[str, dict[str, str]]:
    """Requirements of each extra ("" for none), by name, with those of extras that it names."""
    direct: dict[str, dict[str, str]] = {"": {}}
    inner: dict[str, set[str]] = {}
    for line in metadata.requires("dff-edge") or []:
        requirement, _, marker = line.partition(";")
        found = re.search(r"extra == ['\"](\w+)['\"]", marker)
        extra = found[1] if found else ""
        name = re.split(r"[^A-Za-z0-9-]", requirement.strip(), maxsplit=1)[0].lower()
        if name == "dff-edge":
            extras = re.search(r"\[(.*)\]", requirement)
            assert extras is not None
            inner.setdefault(extra, set()).update(extras[1].split(","))
        else:
            direct.setdefault(extra, {})[name] = requirement.strip()

    def all_of(extra: str) -> dict[str, str]:
        found = dict(direct.get(extra, {}))
        for other in inner.get(extra, ()):
            found |= all_of(other)
        return found

    return {extra: all_of(extra) for extra in (*direct, *inner)}


@pytest.mark.parametrize(
    "pair",
    [("onnxruntime", "onnxruntime-gpu"), ("opencv-python", "opencv-python-headless")],
    ids=["onnxruntime", "OpenCV"],
)
def test_packages_that_write_the_same_files_are_in_no_extra_together(pair):
    by_extra = requirements()

    assert not by_extra[""].keys() & set(pair)
    assert all(not names.keys() >= set(pair) for names in by_extra.values())
    assert all(any(name in names for names in by_extra.values()) for name in pair)


def test_what_computes_brings_an_opencv_and_only_window_and_dev_the_one_with_windows():
    by_extra = requirements()

    with_windows = {extra for extra, names in by_extra.items() if "opencv-python" in names}
    headless = {extra for extra, names in by_extra.items() if "opencv-python-headless" in names}
    assert with_windows == {"window", "dev"}
    assert headless >= {"cpu", "cuda", "tensorrt", "pycuda", "openvino", "export", "train"}


def test_the_developers_extra_has_what_the_users_extras_have():
    by_extra = requirements()
    dev = by_extra["dev"]

    for extra in ("cpu", "window", "openvino", "export", "train", "serve", "report", "rtx"):
        for name, text in by_extra[extra].items():
            if name != "opencv-python-headless":
                assert dev.get(name) == text, f"dev has {dev.get(name)} of {extra}'s {text}"


def test_opencv_is_imported_in_one_place():
    """Where it says which package to install; a bare ``import cv2`` ends in the loader's words."""
    folders = [ROOT / name for name in ("trainer", "calibration", "runtime")]
    folders += [path for path in (ROOT / "dff_edge").iterdir() if not path.is_symlink()]
    found = [
        str(path.relative_to(ROOT))
        for folder in folders
        for path in ([folder] if folder.suffix == ".py" else folder.rglob("*.py"))
        if re.search(r"^\s*(import cv2|from cv2 import)", path.read_text(), re.MULTILINE)
    ]

    assert found == ["dff_edge/opencv.py"]


def test_a_machine_without_compiler_is_told_so_before_anything_is_downloaded(tmp_path):
    build = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'plugins/python')!r}); import build_backend; "
        "build_backend.get_requires_for_build_wheel(eval(sys.argv[1]))"
    )

    def run(options: object = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-B", "-c", build, repr(options)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={"PATH": str(tmp_path)},
        )

    done = run()
    assert done.returncode == 1
    assert done.stderr.startswith("dff-edge has native code to build, and there is no C++ compiler")
    assert "apt-get install g++" in done.stderr
    assert len(done.stderr.splitlines()) == 1

    # Who names a compiler to CMake is left to CMake.
    chosen = {"cmake.define.CMAKE_CXX_COMPILER": "/opt/c++"}
    assert run(chosen).returncode == 0

    # One that is there and does not do.
    (tmp_path / "c++").write_text("#!/bin/sh\necho 'error: no such standard' >&2; exit 1\n")
    (tmp_path / "c++").chmod(0o755)
    assert "c++ does not compile C++17 (error: no such standard)" in run().stderr


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
