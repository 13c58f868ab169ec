"""The installed packages, each imported in a process of its own.

A package built for another machine can end the process that imports it (SIGILL of numpy on an old
Jetson is the classic), and a broken one raises anything; both become findings.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dff_edge.report.doctor.finding import Finding, State

_TIMEOUT_S = 120.0  # the first import from a slow card
_PROCESSES = 4

# Libraries that wheels expect of the system, and the packages of Debian and Ubuntu with them.
_APT = {
    "libGL.so.1": "libgl1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libgomp.so.1": "libgomp1",
    "libstdc++.so.6": "libstdc++6",
    "libcuda.so.1": "nvidia-driver",
    "libusb-1.0.so.0": "libusb-1.0-0",
}
_GUI_FIX = "pip uninstall opencv-python-headless && pip install --force-reinstall opencv-python"
_GSTREAMER_FIX = (
    "sudo apt-get install python3-opencv gstreamer1.0-plugins-good"
    "   # and a venv --system-site-packages: wheels have none"
)

Facts = dict[str, Any]
Details = Callable[[Facts], list[Finding]]


@dataclass(frozen=True)
class Package:
    """A package to look at.

    Attributes:
        module: what is imported.
        section: where it is told.
        fix: the command that installs it.
        details: further findings, of the facts that ``probe.main`` gives.
    """

    module: str
    section: str
    fix: str
    is_needed: bool = False
    details: Details = lambda facts: []


def _opencv(facts: Facts) -> list[Finding]:
    return [
        _either(
            "OpenCV: V4L2 cameras", facts["v4l2"], "pip install --force-reinstall opencv-python"
        ),
        _either("OpenCV: GStreamer", facts["gstreamer"], _GSTREAMER_FIX),
        _either("OpenCV: windows (display://)", facts["gui"], _GUI_FIX),
        *_only_one(facts["distributions"], "opencv-python"),
    ]


def _pyav(facts: Facts) -> list[Finding]:
    wheel = "pip install --force-reinstall --only-binary av av   # the wheel brings its own FFmpeg"
    encoders = facts["encoders"]
    found = [
        _either("PyAV: H.264 decoder", "YES" if facts["decodes_h264"] else "NO", wheel),
        _either("PyAV: rtsp", "YES" if facts["has_rtsp"] else "NO", wheel),
    ]
    if not encoders:
        found.append(Finding("PyAV: encoders", "missing", "neither H.264 nor VP9", wheel))
    elif encoders == ["libvpx-vp9"]:
        text = "VP9 only; H.264 is faster and plays everywhere"
        found.append(Finding("PyAV: encoders", "warn", text, wheel))
    else:
        found.append(Finding("PyAV: encoders", "ok", ", ".join(encoders)))
    return found


def _onnxruntime(facts: Facts) -> list[Finding]:
    providers = facts["providers"]
    found = _only_one(facts["distributions"], "onnxruntime")
    if "CPUExecutionProvider" in providers:
        found.append(Finding("providers", "ok", ", ".join(providers), is_needed=True))
    else:
        text = f"no CPUExecutionProvider among {', '.join(providers) or 'none'}"
        fix = "pip install --force-reinstall onnxruntime"
        found.append(Finding("providers", "missing", text, fix, is_needed=True))
    return found


PACKAGES = (
    Package("numpy", "Runtime", "pip install numpy", True),
    Package("pydantic", "Runtime", "pip install pydantic", True),
    Package("onnxruntime", "Runtime", "pip install 'dff-edge[cpu]'", True, _onnxruntime),
    Package(
        "dff_edge._native",
        "Runtime",
        "pip install --force-reinstall --no-deps .   # in dff-edge's folder, needs a C++ compiler",
        True,
    ),
    Package("openvino", "Runtime", "pip install openvino"),
    Package("cv2", "Video", "pip install opencv-python", True, _opencv),
    Package("av", "Video", "pip install av", True, _pyav),
    Package("tensorrt", "GPU (not needed)", "pip install 'dff-edge[tensorrt]'"),
    Package("pycuda.driver", "GPU (not needed)", "pip install 'dff-edge[pycuda]'"),
    Package("cuda.bindings", "GPU (not needed)", "pip install 'dff-edge[cuda]'"),
)


def examine_packages(packages: tuple[Package, ...] = PACKAGES) -> dict[str, list[Finding]]:
    """Import each package elsewhere and tell how it went, by section."""
    with ThreadPoolExecutor(_PROCESSES) as pool:
        all_facts = list(pool.map(lambda package: _facts_of(package.module), packages))
    sections: dict[str, list[Finding]] = {}
    for package, facts in zip(packages, all_facts, strict=True):
        sections.setdefault(package.section, []).extend(_findings(package, facts))
    return sections


def _findings(package: Package, facts: Facts) -> list[Finding]:
    if "error" not in facts:
        found = [Finding(package.module, "ok", facts["version"], is_needed=package.is_needed)]
        try:
            return found + package.details(facts)
        except Exception as error:  # facts of a version that nobody has seen
            text = f"unreadable: {type(error).__name__}: {error}"
            return [*found, Finding(f"{package.module}: details", "warn", text)]
    if facts.get("is_absent"):
        state: State = "missing" if package.is_needed else "info"
        return [Finding(package.module, state, "not installed", package.fix, package.is_needed)]
    text, fix = f"broken: {facts['error']}", _mend(package, facts["error"])
    return [Finding(package.module, "missing", text, fix, package.is_needed)]


def _mend(package: Package, error: str) -> str:
    """The command for a package that is there and does not load."""
    library = re.search(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object", error)
    if library:
        apt = _APT.get(library[1])
        if apt:
            return f"sudo apt-get install {apt}"
        return f"sudo apt-get install apt-file && apt-file update && apt-file search {library[1]}"
    if "SIGILL" in error and package.module == "numpy":
        return "export OPENBLAS_CORETYPE=ARMV8   # where this is a Jetson"
    return package.fix.replace("pip install ", "pip install --force-reinstall ", 1)


def _facts_of(module: str) -> Facts:
    """What ``probe.main`` writes of a module, or how its process ended."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from dff_edge.report.doctor.probe import main; main({module!r})"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not loaded after {_TIMEOUT_S:.0f} s"}
    except OSError as error:
        return {"error": f"no process to load it in: {error}"}
    if done.returncode < 0:
        return {"error": f"its import ends the process with {_signal_name(-done.returncode)}"}
    try:
        facts: Facts = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return {"error": f"its import ends the process: {last[0]}"}
    return facts


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _either(name: str, text: str, fix: str) -> Finding:
    return (
        Finding(name, "missing", "no", fix) if text == "NO" else Finding(name, "ok", text.lower())
    )


def _only_one(distributions: list[str], keep: str) -> list[Finding]:
    """Distributions that write the same files: what runs is a mixture."""
    if len(distributions) < 2:
        return []
    text = f"{', '.join(distributions)} are installed over each other"
    fix = f"pip uninstall {' '.join(distributions)} && pip install {keep}"
    return [Finding("conflict", "warn", text, fix)]
