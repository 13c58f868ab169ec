"""A line of the doctor's report, and the handling of probes that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "warn", "missing", "info"]
Look = Callable[[Path], Iterator["Finding"]]


@dataclass(frozen=True)
class Finding:
    """A finding under one name.

    Attributes:
        state: ``warn``: works, but slower or worse than it could; ``missing``: absent, or present
            and broken; ``info``: neither good nor bad.
        fix: the command that adds or repairs it; empty where there is none.
        is_needed: whether running on the CPU needs it.
    """

    name: str
    state: State
    text: str
    fix: str = ""
    is_needed: bool = False


def look(name: str, probe: Look, root: Path) -> list[Finding]:
    """Run one probe; where it fails, keep its findings so far and add the reason."""
    found: list[Finding] = []
    try:
        for finding in probe(root):
            found.append(finding)
    except OSError as error:
        reason = error.strerror or str(error)
        where = f": {error.filename}" if error.filename else ""
        found.append(Finding(name, "info", f"unreadable: {reason}{where}"))
    except Exception as error:  # an unusual machine must not end the report
        found.append(Finding(name, "warn", f"unreadable: {type(error).__name__}: {error}"))
    return found


def read_text(path: Path) -> str:
    """Return a small file of the system, without the blanks and NUL bytes around it."""
    return path.read_text(encoding="utf-8", errors="replace").strip(" \t\r\n\0")
