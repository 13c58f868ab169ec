"""Installed packages, and the command that adds missing ones to this environment.

A command that is right in one environment does harm in another: packages that write the same files
(onnxruntime and onnxruntime-gpu, opencv-python and its headless build) overwrite each other. So
advice is derived from dff-edge's own metadata and from the installed packages.

Imports the standard library only: the doctor must work where nothing else loads.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from dff_edge.shared_libraries import load_problem

_log = logging.getLogger("dff_edge.runtime")
_OWN = "dff-edge"

# Distributions that write the same files, by module; the most complete one first.
_FAMILIES = {
    "cv2": (
        "opencv-contrib-python",
        "opencv-python",
        "opencv-contrib-python-headless",
        "opencv-python-headless",
    ),
    "onnxruntime": (
        "onnxruntime-gpu",
        "onnxruntime-openvino",
        "onnxruntime-directml",
        "onnxruntime",
    ),
}
_WITH_WINDOWS = ("opencv-contrib-python", "opencv-python")
_CORE = {"cuda-python": "cuda-bindings"}  # the distribution that another one wraps
_DISTRIBUTIONS = {  # of modules whose name differs
    "cuda.bindings": "cuda-python",
    "cuda.bindings.driver": "cuda-python",
    "cv2": "opencv-python-headless",
    "pycuda.driver": "pycuda",
    "yaml": "pyyaml",
}
_JETSON = Path("/etc/nv_tegra_release")
_NVIDIA = Path("/proc/driver/nvidia/version")


def install_command(extra: str) -> str:
    """Return the command that adds an extra of dff-edge to this environment.

    Nothing is installed over an installed package: one that shares its files with an installed one
    replaces it, or is left out where the installed one serves as well.

    Args:
        extra: of dff-edge.

    Returns:
        A command for a shell, with a comment where it needs one.
    """
    wanted = dict(_requirements(extra))
    if "tensorrt" in wanted and _JETSON.exists():
        return (
            "python3 -m venv --system-site-packages .venv"
            "   # on a Jetson TensorRT comes with JetPack, for the system's own Python"
        )
    is_plain = not any(_others(name) or _is_foreign(name) for name in wanted)
    # Without metadata (a copy of the folder) it is not known what an extra brings.
    is_plain &= not wanted or not all(_is_installed(name) for name in wanted)
    return f"pip install '{_OWN}[{extra}]'" if is_plain else _command(wanted)


def package_command(package: str) -> str:
    """Return the command that adds one package, with dff-edge's version bound for it."""
    bounds = {each.name: each.text for each in _own_requirements()}
    return _command({package: bounds.get(package, package)})


def _command(wanted: dict[str, str]) -> str:
    """Return the command that adds missing ones of packages, given by name with their bounds."""
    replaced: list[str] = []
    added: list[str] = []
    for name, text in wanted.items():
        others = _others(name)
        if _is_installed(name) or _serves(others, name):
            continue
        replaced += others
        added.append(f"'{text}'" if text != name else text)
    if not added:  # all are installed, and the import failed
        brought = [each for name in wanted for each in (*same_files(name), _CORE.get(name, name))]
        there = dict.fromkeys(each for each in brought if version_of(each))
        return f"pip install --force-reinstall {' '.join(there)}"
    install = f"pip install {' '.join(added)}"
    return f"pip uninstall -y {' '.join(replaced)} && {install}" if replaced else install


def import_advice(error: BaseException, module: str, *, extra: str | None = None) -> str:
    """Return a sentence on how to repair an import that failed.

    Args:
        error: raised by the import.
        module: the module to import.
        extra: of dff-edge, that provides it; None for a single package.
    """
    distribution, installed = distribution_of(module), installed_as(module)
    problem = load_problem(str(error), module, installed)
    if problem is not None:
        return f"{problem.text}. Repair it with: {problem.fix}"
    if version_of(installed) and is_found(module):
        return f"It is installed and broken: pip install --force-reinstall {installed}"
    command = package_command(distribution) if extra is None else install_command(extra)
    return f"Install it with: {command}"


def broken_package_advice(error: ImportError | OSError) -> str | None:
    """Return a sentence on how to repair a package that is missing or does not load.

    Args:
        error: raised anywhere, by an import or for another reason.

    Returns:
        None where it was another reason, or a fault of dff-edge itself.
    """
    module = getattr(error, "name", None) or "a package"
    is_absent = isinstance(error, ModuleNotFoundError) and not module.startswith("dff_edge")
    if is_absent or load_problem(str(error), module, module) is not None:
        return import_advice(error, module)
    return None


def distribution_of(module: str) -> str:
    """Return the distribution of a module; of several, the one that dff-edge requires."""
    return _DISTRIBUTIONS.get(module, module.partition(".")[0])


def installed_as(module: str) -> str:
    """Return the distribution that provides a module, or would."""
    wanted = distribution_of(module)
    return next((name for name in same_files(wanted) if version_of(name)), wanted)


def same_files(distribution: str) -> tuple[str, ...]:
    """Return the distributions that share their files with this one, itself among them."""
    return next((f for f in _FAMILIES.values() if distribution in f), (distribution,))


def version_of(distribution: str) -> str | None:
    """Return the version of an installed distribution; None for one that is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def is_found(module: str) -> bool:
    """Return whether there are files to import a module from, whatever installed them."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None  # a leftover folder has none


@dataclass(frozen=True)
class Overlaid:
    """Distributions that were installed over each other, so that their files are mixed.

    Attributes:
        distributions: two or more.
        fix: the command that keeps one.
    """

    distributions: tuple[str, ...]
    fix: str

    def __str__(self) -> str:
        return f"{' and '.join(self.distributions)} are installed over each other"


def overlaid(module: str) -> Overlaid | None:
    """Return the distributions that provide a module if there is more than one, else None."""
    found = tuple(name for name in _FAMILIES.get(module, ()) if version_of(name))
    if len(found) < 2:
        return None
    kept = found[0]
    if module == "onnxruntime" and "onnxruntime" in found and not _NVIDIA.exists():
        kept = "onnxruntime"
    return Overlaid(found, f"pip uninstall -y {' '.join(found)} && pip install {kept}")


@cache
def warn_of_overlaid(module: str) -> None:
    """Log, once per process, that a module is a mixture of several distributions."""
    found = overlaid(module)
    if found is not None:
        _log.warning("%s, so their files are mixed. Repair it with: %s", found, found.fix)


def _others(name: str) -> list[str]:
    """Return the installed packages whose files this one would overwrite."""
    return [other for other in same_files(name) if other != name and version_of(other)]


def _is_installed(name: str) -> bool:
    known = version_of(name) or (name in _CORE and version_of(_CORE[name]))
    return bool(known) or _is_foreign(name)


def _is_foreign(name: str) -> bool:
    """Return whether OpenCV was built by hand, for GStreamer, or by Debian, unknown to pip."""
    known = _FAMILIES["cv2"]
    return name in known and not any(map(version_of, known)) and is_found("cv2")


def _serves(installed: list[str], wanted: str) -> bool:
    """Return whether one of the installed packages does all that the wanted one would."""
    if wanted in _FAMILIES["onnxruntime"]:
        return bool(installed) and wanted == "onnxruntime"  # every build has the CPU provider
    return any(name in _WITH_WINDOWS or wanted not in _WITH_WINDOWS for name in installed)


@dataclass(frozen=True)
class _Requirement:
    """A line of dff-edge's metadata: ``text`` with its bound; ``extra`` that it belongs to."""

    name: str
    text: str
    extras: tuple[str, ...]
    extra: str | None


def _requirements(extra: str) -> Iterator[tuple[str, str]]:
    """Yield name, and name with bound, of an extra's packages, through other extras too."""
    for each in _own_requirements():
        if each.extra == extra:
            if each.name != _OWN:
                yield each.name, each.text
            for inner in each.extras if each.name == _OWN else ():
                yield from _requirements(inner)


_LINE = re.compile(r"\s*([\w.-]+)\s*(?:\[([^\]]*)\])?([^;]*)(?:;(.*))?")


@cache
def _own_requirements() -> tuple[_Requirement, ...]:
    try:
        lines = metadata.requires(_OWN) or []
    except metadata.PackageNotFoundError:  # a copy of the folder, not installed
        return ()
    found = []
    for line in lines:
        match = _LINE.fullmatch(line)
        assert match is not None, line
        name, extras, bound, marker = match.groups()
        extra = re.search(r"extra\s*==\s*[\"']([^\"']+)", marker or "")
        found.append(
            _Requirement(
                re.sub(r"[-_.]+", "-", name).lower(),
                name + bound.replace(" ", ""),
                tuple(part.strip() for part in (extras or "").split(",") if part.strip()),
                extra[1] if extra else None,
            )
        )
    return tuple(found)
