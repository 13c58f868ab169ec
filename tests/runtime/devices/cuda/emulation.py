"""The emulated CUDA driver, ``tests/emulation``: built, loaded, and asked what it saw."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

PLUGINS = Path(__file__).parents[4] / "plugins"
KINDS = ("device", "pinned", "stream", "event", "graph")

# What CUDA's functions wait for, or what allocates; a pipeline that runs steadily calls neither.
BLOCKING = ("blocking", "cuStreamSynchronize", "cuEventSynchronize", "cuCtxSynchronize")
ALLOCATING = (
    *("cuMemAlloc", "cuMemFree", "cuMemHostAlloc", "cuMemFreeHost"),
    *("cuStreamCreate", "cuStreamCreateWithPriority", "cuEventCreate"),
)


class Emulation:
    """Exports of the driver for tests; see ``tests/emulation/driver_api.h``."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.dff_emulation_jitter.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
        library.dff_emulation_fail.argtypes = [ctypes.c_char_p, ctypes.c_int]
        for function in (library.dff_emulation_count, library.dff_emulation_live):
            function.argtypes, function.restype = [ctypes.c_char_p], ctypes.c_uint64
        self.has_failed = False

    def jitter(self, seed: int, max_us: int) -> None:
        """Have every operation of a stream wait up to ``max_us`` before it runs."""
        self._library.dff_emulation_jitter(seed, max_us)

    def count(self, name: str) -> int:
        """Calls of a function, or "blocking" ones of any, until now."""
        return int(self._library.dff_emulation_count(name.encode()))

    def live(self, kind: str) -> int:
        """How many of a kind there are; see ``KINDS``."""
        return int(self._library.dff_emulation_live(kind.encode()))

    def fail(self, name: str, result: int) -> None:
        """Have the next call of a function fail, or with "operation" what a stream runs next."""
        self.has_failed = self.has_failed or name == "operation"
        self._library.dff_emulation_fail(name.encode(), result)


def build(folder: Path) -> tuple[Path, Path]:
    """Build the driver and the kernels that run on it, once for all workers.

    Returns:
        The libraries' paths.
    """
    built = folder / "build"
    with (folder / "emulation.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        off = [f"-DDFF_{name}=OFF" for name in ("TESTS", "PYTHON", "CUDA", "TENSORRT")]
        for command in (
            ["cmake", "-S", PLUGINS, "-B", built, *generator, *off, "-DDFF_EMULATION=ON"],
            ["cmake", "--build", built, "--target", "dff_emulated_driver", "dff_cuda_emulated"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"the emulation does not build:\n{done.stdout}{done.stderr}")
    kernels = built / "emulation" / "kernels" / "libdff_cuda_emulated.so"
    return built / "emulation" / "libcuda.so.1", kernels


def has_gpu() -> bool:
    """Whether there is a real driver with a GPU, which is then used instead."""
    if not os.path.exists("/dev/nvidiactl") and not os.path.exists("/dev/nvhost-gpu"):
        return False
    count = ctypes.c_int()
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    if library.cuInit(0) != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return False
    return count.value > 0
