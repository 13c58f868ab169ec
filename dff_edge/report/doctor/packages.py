"""The installed packages, each imported in a process of its own.

A package built for another machine can end the process that imports it (SIGILL of numpy on an old
Jetson is the classic), and a broken one raises anything; both become findings.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dff_edge.packages import (
    distribution_of,
    install_command,
    installed_as,
    overlaid,
    package_command,
)
from dff_edge.report.doctor.finding import Finding, State
from dff_edge.runtime.engines.backends import BACKENDS, DEFAULT_BACKEND, Backend
from dff_edge.shared_libraries import load_problem

_TIMEOUT_S = 120.0  # the first import from a slow card
_PROCESSES = 4

_GSTREAMER_FIX = (
    "sudo apt-get install python3-opencv gstreamer1.0-plugins-good"
    "   # wheels have none; in a new venv --system-site-packages: pip install . onnxruntime"
)

Facts = dict[str, Any]
Details = Callable[[Facts], list[Finding]]


def _nothing(facts: Facts) -> list[Finding]:
    return []


@dataclass(frozen=True)
class Package:
    """A package to examine.

    Attributes:
        module: the module to import.
        section: section of the report.
        extra: of dff-edge, that provides it; None for one that is always required.
        details: further findings, from the facts of ``probe.main``.
    """

    module: str
    section: str
    extra: str | None = None
    is_needed: bool = False
    details: Details = _nothing


def _opencv(facts: Facts) -> list[Finding]:
    return [
        _either("OpenCV: V4L2 cameras", facts["v4l2"], _reinstall("cv2")),
        _optional("OpenCV: GStreamer (gst://)", facts["gstreamer"], _GSTREAMER_FIX),
        _optional("OpenCV: windows (display://)", facts["gui"], install_command("window")),
        *_only_one("cv2"),
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
    found = _only_one("onnxruntime")
    if "CPUExecutionProvider" in providers:
        found.append(Finding("providers", "ok", ", ".join(providers), is_needed=True))
    else:
        text = f"no CPUExecutionProvider among {', '.join(providers) or 'none'}"
        fix = _reinstall("onnxruntime")
        found.append(Finding("providers", "missing", text, fix, is_needed=True))
    return found


_DETAILS: dict[str, Details] = {"onnxruntime": _onnxruntime}  # of packages of backends


def packages_of(backends: Collection[Backend]) -> tuple[Package, ...]:
    """Return the packages that backends need, each once; the default backend's are needed."""
    found: dict[str, Package] = {}
    for backend in backends:
        section = "Runtime" if backend.device == "cpu" else "GPU (not needed)"
        is_needed = backend.name == DEFAULT_BACKEND
        for own in backend.requirements:
            details = _DETAILS.get(own.module, _nothing)
            package = Package(own.module, section, own.extra, is_needed, details)
            found.setdefault(own.module, package)
    return tuple(found.values())


PACKAGES = (
    Package("numpy", "Runtime", is_needed=True),
    Package("pydantic", "Runtime", is_needed=True),
    Package("dff_edge._native", "Runtime", is_needed=True),
    Package("cv2", "Video", "cpu", True, _opencv),
    Package("av", "Video", None, True, _pyav),
    *packages_of(BACKENDS.values()),
)
_NATIVE_FIX = "pip install --force-reinstall --no-deps .   # in dff-edge's folder; builds it here"


def examine_packages(packages: tuple[Package, ...] = PACKAGES) -> dict[str, list[Finding]]:
    """Import each package in a process of its own and report the outcome, by section."""
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
        except Exception as error:  # facts of an unknown version
            text = f"unreadable: {type(error).__name__}: {error}"
            return [*found, Finding(f"{package.module}: details", "warn", text)]
    if facts.get("is_absent"):
        state: State = "missing" if package.is_needed else "info"
        return [Finding(package.module, state, "not installed", _add(package), package.is_needed)]
    text, fix = f"broken: {facts['error']}", _mend(package, facts["error"])
    return [Finding(package.module, "missing", text, fix, package.is_needed)]


def _add(package: Package) -> str:
    """Return the command for a package that is missing."""
    if package.module == "dff_edge._native":
        return _NATIVE_FIX
    if package.extra is not None:
        return install_command(package.extra)
    return package_command(distribution_of(package.module))


def _mend(package: Package, error: str) -> str:
    """Return the command for a package that is installed and does not load."""
    problem = load_problem(error, package.module, installed_as(package.module))
    if problem is not None:
        return problem.fix
    if "SIGILL" in error and package.module == "numpy":
        return "export OPENBLAS_CORETYPE=ARMV8   # where this is a Jetson"
    if package.module == "dff_edge._native":
        return _NATIVE_FIX
    return _reinstall(package.module)


def _reinstall(module: str) -> str:
    return f"pip install --force-reinstall {installed_as(module)}"


def _facts_of(module: str) -> Facts:
    """Return the output of ``probe.main`` for a module, or how its process ended."""
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


def _optional(name: str, text: str, fix: str) -> Finding:
    """Return a finding on a feature that few need, so that its absence is no fault."""
    return Finding(name, "info", "no", fix) if text == "NO" else Finding(name, "ok", text.lower())


def _only_one(module: str) -> list[Finding]:
    found = overlaid(module)
    return [] if found is None else [Finding("conflict", "warn", str(found), found.fix)]
