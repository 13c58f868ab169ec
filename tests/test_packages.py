"""Advice on packages, in environments of every kind: what is said is done, and nothing breaks."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from dff_edge import packages
from dff_edge.errors import MissingDependencyError, require
from dff_edge.packages import (
    broken_package_advice,
    import_advice,
    install_command,
    overlaid,
    package_command,
    same_files,
)

EXTRAS = ("cpu", "window", "cuda", "tensorrt", "pycuda", "openvino", "export", "train", "report")
# What `pip install 'dff-edge[...]'` leaves, as far as it matters here.
CPU = ("onnxruntime", "opencv-python-headless")
WINDOW = ("onnxruntime", "opencv-python")
CUDA = ("cuda-python", "onnxruntime-gpu", "opencv-python-headless")
ENVIRONMENTS = {
    "base": (),
    "cpu": CPU,
    "window": WINDOW,
    "cuda": CUDA,
    "train": (*CPU, "onnx", "onnxscript", "safetensors", "torch", "lightning", "pyyaml"),
    "openvino": ("openvino", "opencv-python-headless"),
    "contrib": ("opencv-contrib-python",),
    "the user's own OpenCV": ("opencv-python",),
}


@pytest.fixture
def environment(monkeypatch):
    """Make this process believe that just these distributions are installed."""

    def pretend(*installed: str, found: tuple[str, ...] = ()) -> None:
        names = set(installed)
        monkeypatch.setattr(packages, "version_of", lambda name: "1.0" if name in names else None)
        monkeypatch.setattr(packages, "is_found", lambda module: module in found)
        monkeypatch.setattr(packages, "_JETSON", Path("/no/such/file"))

    return pretend


def requirements_of(extra: str) -> set[str]:
    """Distributions that an extra brings, as ``pip`` reads the metadata."""
    found = set()
    for line in metadata.requires("dff-edge") or []:
        requirement, _, marker = line.partition(";")
        if re.search(rf"extra == ['\"]{extra}['\"]", marker):
            name, _, inner = requirement.strip().rstrip("]").partition("[")
            name = re.split(r"[<>=!~ ]", name, maxsplit=1)[0].lower()
            found |= requirements_of(inner) if name == "dff-edge" else {name}
    return found


def after(installed: set[str], command: str) -> set[str]:
    """The packages installed after a command has run."""
    result = set(installed)
    for part in command.partition("   #")[0].split("&&"):
        words = shlex.split(part)
        assert words[0] == "pip", command
        names = [word for word in words[2:] if not word.startswith("-")]
        for name in names:
            own = re.fullmatch(r"dff-edge\[(.*)\]", name)
            change = requirements_of(own[1]) if own else {re.split(r"[<>=]", name)[0].lower()}
            result = result - change if words[1] == "uninstall" else result | change
    return result


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("installed", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_no_advice_installs_a_package_over_another(environment, installed, extra):
    environment(*installed)

    left = after(set(installed), install_command(extra))

    for family in (same_files("onnxruntime"), same_files("opencv-python")):
        assert len(left & set(family)) <= 1, install_command(extra)
    # All that the extra asks for is there, or another build of it.
    for wanted in requirements_of(extra):
        assert left & set(same_files(wanted)), f"{install_command(extra)} leaves out {wanted}"


@pytest.mark.parametrize(
    ("installed", "extra", "command"),
    [
        ((), "cpu", "pip install 'dff-edge[cpu]'"),
        (CPU, "tensorrt", "pip install 'dff-edge[tensorrt]'"),
        (
            CPU,
            "cuda",
            "pip uninstall -y onnxruntime && "
            "pip install 'cuda-python>=12.3' 'onnxruntime-gpu>=1.18'",
        ),
        (
            CPU,
            "window",
            "pip uninstall -y opencv-python-headless && pip install 'opencv-python>=4.8'",
        ),
        (("opencv-python",), "cpu", "pip install 'onnxruntime>=1.18'"),
        (CUDA, "cpu", "pip install --force-reinstall onnxruntime-gpu opencv-python-headless"),
        (WINDOW, "openvino", "pip install 'openvino>=2024.5'"),
    ],
)
def test_advice_is_made_for_what_is_installed(environment, installed, extra, command):
    environment(*installed)

    assert install_command(extra) == command


def test_one_package_comes_with_the_bound_that_dff_edge_has_for_it(environment):
    environment(*CPU)

    assert package_command("cuda-python") == "pip install 'cuda-python>=12.3'"
    assert package_command("onnxruntime-openvino") == (
        "pip uninstall -y onnxruntime && pip install onnxruntime-openvino"
    )


def test_a_copy_of_the_folder_that_is_not_installed_names_the_extra(environment, monkeypatch):
    environment()
    monkeypatch.setattr(packages, "_own_requirements", tuple)

    assert install_command("cpu") == "pip install 'dff-edge[cpu]'"


def test_bindings_of_cuda_alone_are_enough(environment):
    environment(*CUDA[1:], "cuda-bindings")

    assert "cuda-python" not in install_command("cuda").partition("force-reinstall")[0]


def test_opencv_that_pip_does_not_know_is_left_alone(environment):
    environment(found=("cv2",))

    assert install_command("cpu") == "pip install 'onnxruntime>=1.18'"


def test_jetson_takes_tensorrt_from_jetpack(environment, monkeypatch, tmp_path):
    environment(*CPU)
    (tmp_path / "nv_tegra_release").touch()
    monkeypatch.setattr(packages, "_JETSON", tmp_path / "nv_tegra_release")

    assert "--system-site-packages" in install_command("tensorrt")
    assert "pip install" in install_command("cuda")


@pytest.mark.parametrize(
    ("installed", "kept"),
    [
        (("opencv-python", "opencv-python-headless"), "opencv-python"),
        (("opencv-python-headless", "opencv-contrib-python"), "opencv-contrib-python"),
    ],
)
def test_two_opencvs_are_told_and_the_fuller_one_is_kept(environment, installed, kept):
    environment(*installed)
    found = overlaid("cv2")

    assert found is not None
    assert set(found.distributions) == set(installed)
    assert str(found).endswith("are installed over each other")
    assert after(set(installed), found.fix) == {kept}


@pytest.mark.parametrize(
    ("has_driver", "kept"), [(True, "onnxruntime-gpu"), (False, "onnxruntime")]
)
def test_of_two_onnxruntimes_the_one_for_this_machine_is_kept(
    environment, monkeypatch, tmp_path, has_driver, kept
):
    environment("onnxruntime", "onnxruntime-gpu")
    driver = tmp_path / "version"
    if has_driver:
        driver.touch()
    monkeypatch.setattr(packages, "_NVIDIA", driver)
    found = overlaid("onnxruntime")

    assert found is not None
    assert after({"onnxruntime", "onnxruntime-gpu"}, found.fix) == {kept}


def test_one_package_of_each_kind_is_no_mixture(environment):
    environment(*CPU)

    assert overlaid("cv2") is None
    assert overlaid("onnxruntime") is None
    assert overlaid("numpy") is None


def test_a_mixture_is_logged_once_where_it_is_imported(environment, caplog):
    environment("onnxruntime", "onnxruntime-gpu")
    packages.warn_of_overlaid.cache_clear()
    for _ in range(2):
        require("onnxruntime", extra="cpu", purpose="a test")
    packages.warn_of_overlaid.cache_clear()

    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "onnxruntime-gpu and onnxruntime are installed over each other" in record.message
    assert "pip uninstall -y" in record.message


@pytest.mark.parametrize(
    ("raised", "advice"),
    [
        (
            "ImportError('libGL.so.1: cannot open shared object file: No such file or directory')",
            "The system lacks the library libGL.so.1. Repair it with: sudo apt-get install libgl1 ",
        ),
        ("OSError('libgomp.so.1: cannot open shared object file: No such file')", "libgomp1"),
        ("RuntimeError('compiled for another numpy')", "could not be imported (compiled for"),
        ("ImportError()", "could not be imported (ImportError)"),
    ],
)
def test_a_package_that_breaks_on_import_is_a_missing_dependency(
    tmp_path, monkeypatch, raised, advice
):
    (tmp_path / "broken_package.py").write_text(f"raise {raised}\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(MissingDependencyError) as told:
        require("broken_package", purpose="A test")

    assert str(told.value).startswith("A test needs 'broken_package', which could not be imported")
    assert advice in str(told.value)


def test_a_package_that_is_there_and_broken_is_installed_again(environment):
    environment("opencv-python", found=("cv2",))

    advice = import_advice(AttributeError("_ARRAY_API not found"), "cv2", extra="cpu")

    assert advice == "It is installed and broken: pip install --force-reinstall opencv-python"


def test_errors_of_other_kinds_are_none_of_a_package():
    assert broken_package_advice(ImportError("cannot import name 'x' from 'dff_edge'")) is None
    assert broken_package_advice(OSError("No space left on device")) is None
    own = ModuleNotFoundError("No module named 'dff_edge.runtime.x'", name="dff_edge.runtime.x")
    assert broken_package_advice(own) is None
    absent = ModuleNotFoundError("No module named 'av'", name="av")
    assert "pip install" in (broken_package_advice(absent) or "")


# With real pip, on wheels that the test makes: their names and metadata are real, they are empty.
WHEELS = {
    "opencv-python": "5.0",
    "opencv-python-headless": "5.0",
    "onnxruntime": "1.30",
    "onnxruntime-gpu": "1.30",
    "cuda-python": "13.0",
    "av": "18.0",
    "click": "8.2",
    "numpy": "2.4",
    "pydantic": "2.10",
    "rich": "14.0",
}


def make_wheel(folder: Path, name: str, version: str, *lines: str, **files: str) -> None:
    stem = f"{name.replace('-', '_')}-{version}"
    head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(f"{path}.py", text)
        info = f"{stem}.dist-info"
        wheel.writestr(f"{info}/METADATA", "\n".join(head) + "\n")
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")


class Environment:
    """A virtual environment, with a pip that reaches the test's wheels and nothing else."""

    def __init__(self, folder: Path) -> None:
        wheels = folder / "wheels"
        wheels.mkdir()
        for name, version in WHEELS.items():
            module = {"opencv-python": "cv2", "opencv-python-headless": "cv2"}.get(name)
            make_wheel(wheels, name, version, **({module: f"BUILD = {name!r}"} if module else {}))
        own = metadata.requires("dff-edge") or []
        extras = {extra for line in own for extra in re.findall(r"extra == ['\"](\w+)", line)}
        make_wheel(
            wheels,
            "dff-edge",
            "0.1",
            *(f"Requires-Dist: {line}" for line in own),
            *(f"Provides-Extra: {extra}" for extra in sorted(extras)),
        )
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self._python = folder / "venv/bin/python"
        command = folder / "bin/pip"
        command.parent.mkdir()
        command.write_text(
            f'#!/bin/sh\nexec {sys.executable} -m pip -q --python {self._python} "$@"\n'
        )
        command.chmod(0o755)
        self._variables = {
            **{name: text for name, text in os.environ.items() if not name.startswith("PIP_")},
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def shell(self, command: str) -> None:
        done = subprocess.run(
            command, shell=True, env=self._variables, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"

    def ask(self, *expressions: str) -> list[Any]:
        """Values of expressions with ``packages`` in this environment."""
        root = Path(__file__).parents[1]
        code = (
            f"import json, sys; sys.path.append({str(root)!r}); "
            f"from dff_edge import packages; print(json.dumps([{', '.join(expressions)}]))"
        )
        done = subprocess.run(
            [self._python, "-c", code], capture_output=True, text=True, cwd=root.parent
        )
        assert done.returncode == 0, done.stderr
        answers: list[Any] = json.loads(done.stdout)
        return answers


def test_advice_carried_out_by_pip_leaves_one_opencv_and_one_onnxruntime(tmp_path):
    there = Environment(tmp_path)
    # Somebody has OpenCV with windows, and adds dff-edge as the advice says: theirs stays.
    there.shell("pip install opencv-python dff-edge")
    (advice,) = there.ask("packages.install_command('cpu')")
    there.shell(advice)
    versions = f"{{name: packages.version_of(name) for name in {sorted(WHEELS)}}}"
    (installed,) = there.ask(versions)
    assert (installed["onnxruntime"], installed["opencv-python-headless"]) == ("1.30", None)

    # Or without advice: both lie over each other now, which is told, and mended.
    there.shell("pip install 'dff-edge[cpu]'")
    told, fix = there.ask("str(packages.overlaid('cv2'))", "packages.overlaid('cv2').fix")
    assert told == "opencv-python and opencv-python-headless are installed over each other"
    there.shell(fix)
    build, advice = there.ask("__import__('cv2').BUILD", "packages.install_command('cuda')")
    assert build == "opencv-python"

    # A GPU comes into the machine.
    there.shell(advice)
    (installed,) = there.ask(versions)
    assert (installed["onnxruntime"], installed["onnxruntime-gpu"]) == (None, "1.30")
    assert (installed["opencv-python"], installed["opencv-python-headless"]) == ("5.0", None)
    assert installed["cuda-python"] == "13.0"
