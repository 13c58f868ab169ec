"""What machine numbers were measured on."""

from __future__ import annotations

import platform
import time
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from dff_edge import __version__
from dff_edge.runtime.engine import usable_cores

# What decides how fast a CPU multiplies, best first, as Linux and macOS spell it.
_INSTRUCTIONS = (
    "amx_int8",
    "avx512_vnni",
    "avx_vnni",
    "avx512f",
    "avx2",
    "i8mm",
    "asimddp",
    "asimd",
)
_BUSY_SHARE = 0.2  # of the cores; less is what every desktop has
_LOOK_S = 0.3


class Machine(BaseModel):
    """A machine, and the software that counts.

    Attributes:
        cpu: model of the CPU.
        cores: cores that this process may use.
        instructions: instruction sets that decide how fast networks run, those it has.
        system: operating system.
        busy_cores: cores that other programs kept busy just before the measurement; None where
            the system does not say.
        date: ISO 8601, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str
    cores: int
    instructions: tuple[str, ...]
    system: str
    python: str
    onnxruntime: str
    dff_edge: str
    busy_cores: float | None
    date: str

    def __str__(self) -> str:
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        return (
            f"{self.cpu}, {cores}, {self.system}, Python {self.python}, "
            f"ONNX Runtime {self.onnxruntime}"
        )

    @property
    def is_busy(self) -> bool:
        """Whether other programs kept so much busy that times say little."""
        return self.busy_cores is not None and self.busy_cores > _BUSY_SHARE * self.cores


def describe_machine() -> Machine:
    """Describe the machine that this runs on. Sleeps 0.3 s to see what else runs."""
    return Machine(
        cpu=_cpu_model(),
        cores=usable_cores(),
        instructions=_instructions(),
        system=_system(),
        python=platform.python_version(),
        onnxruntime=_onnxruntime_version(),
        dff_edge=__version__,
        busy_cores=_busy_cores(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _cpu_model() -> str:
    names = ("model name", "Model", "Hardware")  # x86, then the ways of Arm boards
    found = _cpuinfo(names)
    model = next((found[name] for name in names if name in found), "")
    return model or platform.processor() or platform.machine() or "unknown CPU"


def _instructions() -> tuple[str, ...]:
    names = ("flags", "Features")
    found = _cpuinfo(names)
    flags = {flag for name in names for flag in found.get(name, "").split()}
    return tuple(name for name in _INSTRUCTIONS if name in flags)


def _cpuinfo(names: tuple[str, ...]) -> dict[str, str]:
    """The first value of each name in /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            found.setdefault(name.strip(), " ".join(value.split()))
    return found


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = ""
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{name} ({kernel})" if name else kernel


def _busy_cores() -> float | None:
    """Not the load average: that remembers what this process or its parent did a minute ago."""
    before = _cpu_ticks()
    time.sleep(_LOOK_S)
    after = _cpu_ticks()
    if before is None or after is None:
        return None
    idle, total = after[0] - before[0], after[1] - before[1]
    return round(usable_cores() * (1 - idle / total), 2) if total > 0 else None


def _cpu_ticks() -> tuple[int, int] | None:
    """Idle ticks and all ticks of all cores, of /proc/stat; None where there is none."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(text) for text in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return (ticks[3] + ticks[4], sum(ticks)) if len(ticks) >= 5 else None


def _onnxruntime_version() -> str:
    try:
        return str(import_module("onnxruntime").__version__)
    except ImportError:
        return "not installed"
