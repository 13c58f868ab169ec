"""Description of the machine that numbers were measured on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import import_module
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from dff_edge import __version__
from dff_edge.cpuinfo import instruction_sets, read_cpuinfo
from dff_edge.runtime.engines.base import usable_cores

# Instruction sets for fast multiplication, best first, as Linux and macOS spell them.
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
_BUSY_SHARE = 0.2  # of the cores; less is usual on any desktop
_LOOK_S = 0.3


class Machine(BaseModel):
    """A machine, and the relevant software.

    Attributes:
        cpu: model of the CPU.
        cores: cores that this process may use.
        instructions: those of its instruction sets that determine the speed of networks.
        system: operating system.
        busy_cores: cores that other programs kept busy, on average, during the measurement, or
            just before; None where the system does not report it.
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
        """Whether other programs were so busy that times are not reliable."""
        return self.busy_cores is not None and self.busy_cores > _BUSY_SHARE * self.cores


def describe_machine() -> Machine:
    """Describe this machine. Sleeps 0.3 s to measure the load of other programs."""
    before = cpu_usage()
    time.sleep(_LOOK_S)
    cpuinfo = _cpuinfo()
    flags = instruction_sets(cpuinfo)
    return Machine(
        cpu=_cpu_model(cpuinfo),
        cores=usable_cores(),
        instructions=tuple(name for name in _INSTRUCTIONS if name in flags),
        system=_system(),
        python=platform.python_version(),
        onnxruntime=_onnxruntime_version(),
        dff_edge=__version__,
        busy_cores=cores_of_others(before, cpu_usage()),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _cpu_model(cpuinfo: Mapping[str, str]) -> str:
    names = ("model name", "Model", "Hardware")  # x86, then the ways of Arm boards
    model = next((cpuinfo[name] for name in names if name in cpuinfo), "")
    return model or platform.processor() or platform.machine() or "unknown CPU"


def _cpuinfo() -> dict[str, str]:
    try:
        return read_cpuinfo()
    except OSError:
        return {}


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = ""
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{name} ({kernel})" if name else kernel


class CpuUsage(NamedTuple):
    """CPU time in seconds since some moment.

    Attributes:
        at: the clock.
        busy: time in which the cores that this process may use were busy, over all cores.
        own: of it, the time of this process.
    """

    at: float
    busy: float
    own: float


def cpu_usage() -> CpuUsage | None:
    """Return the CPU usage so far; None where the system does not report it."""
    usable = (
        {f"cpu{core}" for core in os.sched_getaffinity(0)}
        if hasattr(os, "sched_getaffinity")
        else set()
    )
    try:
        with open("/proc/stat", encoding="ascii") as file:
            lines = [line.split() for line in file if line.startswith("cpu")]
        # user nice system idle iowait irq softirq steal; guests are part of user and nice.
        ticks = [[int(text) for text in line[1:9]] for line in lines if line[0] in usable]
    except (OSError, ValueError):
        return None
    if not ticks or min(map(len, ticks)) < 5:
        return None
    busy = sum(sum(core) - core[3] - core[4] for core in ticks)
    return CpuUsage(time.perf_counter(), busy / os.sysconf("SC_CLK_TCK"), time.process_time())


def cores_of_others(before: CpuUsage | None, after: CpuUsage | None) -> float | None:
    """Return how many cores other programs kept busy between two measurements."""
    if before is None or after is None or after.at <= before.at:
        return None
    others = (after.busy - before.busy) - (after.own - before.own)
    # Ticks are of 10 ms, so that a short interval can yield more than there are.
    return round(min(max(others, 0.0) / (after.at - before.at), usable_cores()), 2)


def _onnxruntime_version() -> str:
    try:
        return str(import_module("onnxruntime").__version__)
    except ImportError:
        return "not installed"
