"""Limits of a container, in both versions of Linux control groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dff_edge.report.doctor.finding import read_text


def cpu_quota(root: Path) -> float | None:
    """Return the CPU time that this process may use, in cores; None without a limit."""
    quotas = [_quota_of(folder) for folder in _folders(root, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_limit(root: Path) -> int | None:
    """Return the bytes that this process may use; None without a limit."""
    limits = []
    for folder in _folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read_or_empty(folder / name)
            if text.isdecimal():
                limits.append(int(text))
    return min(limits, default=None)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the groups that this process is in, innermost first."""
    for line in _read_or_empty(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controller in controllers.split(","):
            base = root / "sys/fs/cgroup" / controller
        elif not controllers:  # version 2
            base = root / "sys/fs/cgroup"
        else:
            continue
        parts = PurePosixPath(group).parts[1:]
        if ".." in parts:  # a group outside of this container's view
            parts = ()
        for depth in range(len(parts), -1, -1):
            yield base.joinpath(*parts[:depth])


def _quota_of(folder: Path) -> float | None:
    words = _read_or_empty(folder / "cpu.max").split()
    if not words:
        words = [_read_or_empty(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    quota, period = words
    return int(quota) / int(period) if quota.isdecimal() else None  # else "max", "-1" or ""


def _read_or_empty(path: Path) -> str:
    try:
        return read_text(path)
    except OSError:
        return ""
