"""Cameras, display, and the driver of an NVIDIA GPU."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from dff_edge.report.doctor.finding import Finding, read_text

_NVIDIA = "0x10de"  # PCI vendor
_DISPLAY_CLASS = "0x03"  # PCI class, first byte


def cameras(root: Path) -> Iterator[Finding]:
    """Yield each /dev/video*, and whether this user may open it. Opens none."""
    nodes = sorted(root.glob("dev/video*"), key=lambda node: (len(node.name), node.name))
    if not nodes:
        yield Finding(
            "cameras",
            "info",
            "none (no /dev/video*)",
            "plug one in; for a container use: docker run --device /dev/video0",
        )
    for node in nodes:
        name_file = root / "sys/class/video4linux" / node.name / "name"
        name = read_text(name_file) if name_file.exists() else "unnamed"
        if os.access(node, os.R_OK | os.W_OK):
            yield Finding(f"/dev/{node.name}", "ok", name)
        else:
            yield Finding(
                f"/dev/{node.name}",
                "warn",
                f"{name}: no permission to use it",
                "sudo usermod -aG video $USER   # then log in again",
            )


def display(root: Path) -> Iterator[Finding]:
    """Yield whether there is a screen for the sink ``display://``."""
    for name in ("WAYLAND_DISPLAY", "DISPLAY"):
        if os.environ.get(name):
            yield Finding("display", "ok", f"{name} is {os.environ[name]}")
            return
    text = "none: neither DISPLAY nor WAYLAND_DISPLAY is set"
    yield Finding("display", "info", text, "ssh -X for a window, or write a file: -o out.mp4")


def nvidia_driver(root: Path) -> Iterator[Finding]:
    """Yield the driver's version, or the graphics card without a driver."""
    version_file = root / "proc/driver/nvidia/version"
    if version_file.exists():
        version = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", read_text(version_file))
        yield Finding("NVIDIA driver", "info", version[1] if version else "of unknown version")
    elif (root / "etc/nv_tegra_release").exists():
        yield Finding("NVIDIA driver", "info", "the one of Jetson Linux")
    elif _has_nvidia_card(root):
        yield Finding(
            "NVIDIA driver",
            "missing",
            "an NVIDIA card is there, its driver is not loaded",
            "sudo apt-get install nvidia-driver   # Ubuntu: sudo ubuntu-drivers install",
        )
    else:
        yield Finding("NVIDIA driver", "info", "no NVIDIA card")


def _has_nvidia_card(root: Path) -> bool:
    return any(
        read_text(folder / "vendor") == _NVIDIA
        and read_text(folder / "class").startswith(_DISPLAY_CLASS)
        for folder in root.glob("sys/bus/pci/devices/*")
    )
