"""Report on this machine: what it has for dff-edge, what it lacks, and how to add it.

Imports the standard library only: it works on a machine where numpy does not load.
"""

from __future__ import annotations

from pathlib import Path

from dff_edge.report.doctor import clocks, cpu, devices, native, packages
from dff_edge.report.doctor.finding import Finding, look

_ORDER = ("CPU", "Clock and heat", "Runtime", "Video", "Cameras and display", "GPU (not needed)")

__all__ = ["Finding", "examine", "examine_machine", "is_fit"]


def examine(root: Path = Path("/")) -> dict[str, list[Finding]]:
    """Examine the machine and the installed packages.

    Args:
        root: the folder that holds ``proc``, ``sys``, ``dev`` and ``etc``.

    Returns:
        Findings by section. Nothing raises: unreadable values are reported as such.
    """
    package = Path(__file__).parents[2]
    parts = (
        examine_machine(root),
        packages.examine_packages(),
        {"GPU (not needed)": look("native parts", native.gpu_libraries, package)},
    )
    titles = sorted({title for part in parts for title in part}, key=_ORDER.index)
    return {title: [found for part in parts for found in part.get(title, [])] for title in titles}


def examine_machine(root: Path) -> dict[str, list[Finding]]:
    """Return the part of ``examine`` that is read from files under ``root``."""
    return {
        "CPU": [
            *look("model", cpu.model, root),
            *look("instructions", cpu.instructions, root),
            *look("cores", cpu.cores, root),
            *look("memory", cpu.memory, root),
        ],
        "Clock and heat": [
            *look("power mode", clocks.power_mode, root),
            *look("governor", clocks.governor, root),
            *look("frequency", clocks.frequency, root),
            *look("throttling", clocks.throttling, root),
            *look("temperature", clocks.temperature, root),
        ],
        "Cameras and display": [
            *look("cameras", devices.cameras, root),
            *look("display", devices.display, root),
        ],
        "GPU (not needed)": look("NVIDIA driver", devices.nvidia_driver, root),
    }


def is_fit(sections: dict[str, list[Finding]]) -> bool:
    """Return whether everything for running a bundle on the CPU is there."""
    findings = [finding for section in sections.values() for finding in section]
    return not any(finding.is_needed and finding.state == "missing" for finding in findings)
