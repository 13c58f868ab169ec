"""The doctor on packages: present, absent, broken, and over each other."""

from __future__ import annotations

from pathlib import Path

import pytest

import dff_edge.packages
from dff_edge.report.doctor import Finding, is_fit
from dff_edge.report.doctor import packages as doctor_packages
from dff_edge.report.doctor.packages import PACKAGES, Package, examine_packages
from dff_edge.report.doctor.probe import ENCODERS, opencv_build
from tests.report.doctor.machines import by_name, tree

# As printed by the wheel, the headless wheel, and a build of version 4.5 with GTK.
BUILD = "  Video I/O:\n    GStreamer:  {}\n    v4l/v4l2:   YES (linux/videodev2.h)\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  GUI:   QT5\n    QT:  YES (ver 5.15.0)\n" + BUILD.format("NO"), ("NO", "QT5")),
        ("  GUI:   NONE\n" + BUILD.format("NO"), ("NO", "NO")),
        (
            "  GUI: \n    QT:  NO\n    GTK+:  YES (ver 3.24)\n" + BUILD.format("YES (1.20.3)"),
            ("YES (1.20.3)", "GTK+"),
        ),
        ("", ("NO", "NO")),
    ],
)
def test_opencv_tells_its_build(text: str, expected: tuple[str, str]) -> None:
    build = opencv_build(text)
    assert (build["gstreamer"], build["gui"]) == expected


def test_encoders_are_those_of_the_sink() -> None:
    from dff_edge.runtime.sinks import video

    assert ENCODERS == video.ENCODERS


FAKE = "doctor_fake"  # the name of a package that the tests write


def examine_fake(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, **options: object
) -> Finding:
    tree(folder, {f"{FAKE}.py": code})
    monkeypatch.syspath_prepend(str(folder))
    package = Package(FAKE, "Runtime", **options)
    (finding, *_) = examine_packages((package,))["Runtime"]
    return finding


def test_package_that_loads_tells_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "__version__ = '1.2.3'\nprint('a greeting, as some packages have', end='')\n"
    found = examine_fake(tmp_path, monkeypatch, code, is_needed=True)
    assert found == Finding(FAKE, "ok", "1.2.3", is_needed=True)


@pytest.mark.parametrize(
    ("code", "text", "fix"),
    [
        (
            "raise ImportError('libGL.so.1: cannot open shared object file: No such file')",
            "broken: ImportError: libGL.so.1: cannot open shared object file: No such file",
            "sudo apt-get install libgl1",
        ),
        (
            "raise ImportError('libodd.so.3: cannot open shared object file: No such file')",
            "broken: ImportError: libodd.so.3: cannot open shared object file: No such file",
            "apt-file search libodd.so.3",
        ),
        (
            "raise AttributeError('_ARRAY_API not found')",
            "broken: AttributeError: _ARRAY_API not found",
            f"pip install --force-reinstall {FAKE}",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
            "broken: its import ends the process with SIGILL",
            f"pip install --force-reinstall {FAKE}",
        ),
        (
            "import os; os.write(2, b'license expired\\n'); os._exit(3)",
            "broken: its import ends the process: license expired",
            f"pip install --force-reinstall {FAKE}",
        ),
        (
            "import no_such_package_of_its_own",
            "broken: ModuleNotFoundError: No module named 'no_such_package_of_its_own'",
            f"pip install --force-reinstall {FAKE}",
        ),
    ],
    ids=["library", "unknown library", "any error", "signal", "exit", "its dependency"],
)
def test_broken_package_shows_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, text: str, fix: str
) -> None:
    found = examine_fake(tmp_path, monkeypatch, code, is_needed=True)
    assert (found.state, found.text) == ("missing", text)
    assert fix in found.fix


@pytest.mark.parametrize(("is_needed", "state"), [(True, "missing"), (False, "info")])
@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.part"])
def test_absent_package_names_the_command(module: str, is_needed: bool, state: str) -> None:
    package = Package(module, "Runtime", is_needed=is_needed)
    (finding,) = examine_packages((package,))["Runtime"]
    fix = "pip install no_such_package"
    assert finding == Finding(module, state, "not installed", fix, is_needed)
    assert is_fit({"Runtime": [finding]}) is not is_needed


def details(module: str) -> Package:
    return next(package for package in PACKAGES if package.module == module)


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(
        dff_edge.packages, "version_of", lambda name: "1.0" if name in names else None
    )


def test_two_onnxruntimes_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    found = by_name(details("onnxruntime").details({"providers": ["CPUExecutionProvider"]}))
    assert found["conflict"].state == "warn"
    assert found["conflict"].fix.startswith("pip uninstall -y onnxruntime-gpu onnxruntime && ")


def test_two_opencvs_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "opencv-python", "opencv-python-headless")
    facts = {"v4l2": "YES", "gstreamer": "NO", "gui": "QT5"}
    found = by_name(details("cv2").details(facts))
    assert found["conflict"].state == "warn"
    assert found["conflict"].fix.endswith(" && pip install opencv-python")


def test_a_build_without_windows_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "opencv-python-headless", "onnxruntime")
    found = by_name(details("cv2").details({"v4l2": "YES", "gstreamer": "NO", "gui": "NO"}))
    windows = found["OpenCV: windows (display://)"]
    assert windows.state == "info"
    assert windows.fix == (
        "pip uninstall -y opencv-python-headless && pip install 'opencv-python>=4.8'"
    )


def test_advice_in_an_environment_with_onnxruntime_never_brings_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, "onnxruntime", "opencv-python-headless")
    absent = {"error": "", "is_absent": True}
    monkeypatch.setattr(doctor_packages, "_facts_of", lambda module: absent)
    fixes = [f.fix for found in examine_packages().values() for f in found]
    assert "pip install 'dff-edge[tensorrt]'" in fixes
    assert "pip install 'cuda-python>=12.3'" in fixes
    assert not any("[cuda]" in fix for fix in fixes)


def test_onnxruntime_without_its_cpu_provider_is_not_fit() -> None:
    found = details("onnxruntime").details({"providers": []})
    assert not is_fit({"Runtime": found})


@pytest.mark.parametrize(
    ("encoders", "state"), [([], "missing"), (["libvpx-vp9"], "warn"), (list(ENCODERS), "ok")]
)
def test_pyav_needs_an_encoder(encoders: list[str], state: str) -> None:
    facts = {"encoders": encoders, "decodes_h264": True, "has_rtsp": True}
    assert by_name(details("av").details(facts))["PyAV: encoders"].state == state
