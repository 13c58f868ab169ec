"""A GPU for the tests: the machine's own, or an emulated one."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil

import pytest

from dff_edge.runtime.devices.cuda.device import open_device
from tests.runtime.devices.cuda.bench import CpuBench, CudaBench
from tests.runtime.devices.cuda.emulation import KINDS, Emulation, build, has_gpu

# Two of what runs CUDA, so that what differs between them shows.
DRIVERS = ("cuda-python", "pycuda")


@pytest.fixture(scope="session")
def emulated_libraries(tmp_path_factory):
    """Paths of the emulated driver and its kernels, or None where there is a GPU."""
    if has_gpu():
        return None
    if shutil.which("cmake") is None:
        pytest.skip("building the emulated CUDA driver needs cmake")
    own = tmp_path_factory.getbasetemp()
    return build(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session")
def driver_library(emulated_libraries) -> ctypes.CDLL:
    """libcuda.so.1, loaded before anybody looks for it."""
    if emulated_libraries is None:
        return ctypes.CDLL("libcuda.so.1")
    return ctypes.CDLL(str(emulated_libraries[0]), ctypes.RTLD_GLOBAL)


@pytest.fixture(autouse=True)
def kernels(request, monkeypatch):
    """Has the emulated kernels found, where the driver is emulated and used."""
    if "driver_library" in request.fixturenames:
        libraries = request.getfixturevalue("emulated_libraries")
        if libraries is not None:
            monkeypatch.setenv("DFF_CUDA_LIBRARY", str(libraries[1]))


@pytest.fixture
def emulation(emulated_libraries, driver_library):
    """The emulated driver; a test must leave nothing behind on it.

    It holds the primary context meanwhile, so that what a device forgets to free is still there.
    """
    if emulated_libraries is None:
        pytest.skip("counts and chosen failures are the emulated driver's, and there is a GPU")
    emulation, context = Emulation(driver_library), ctypes.c_void_p()
    driver_library.cuInit(0)
    assert driver_library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    yield emulation
    gc.collect()
    emulation.jitter(0, 0)
    left = {kind: emulation.live(kind) for kind in KINDS}
    driver_library.cuDevicePrimaryCtxRelease_v2(0)
    assert emulation.has_failed or not any(left.values()), left


def open_or_skip(driver: str):
    """A device through a package, where it is installed."""
    if driver == "pycuda":
        pytest.importorskip("pycuda.driver", reason="pycuda is not installed: it has no wheels")
    else:
        pytest.importorskip("cuda.bindings.driver", reason="cuda-python is not installed")
    return open_device(driver)


@pytest.fixture(params=DRIVERS)
def any_device(request, driver_library, leaves_nothing):
    """A device through each package."""
    device = open_or_skip(request.param)
    yield device
    device.close()


@pytest.fixture
def device(driver_library, leaves_nothing):
    """A device through cuda-python."""
    device = open_or_skip("cuda-python")
    yield device
    device.close()


@pytest.fixture
def leaves_nothing(request, emulated_libraries):
    """On the emulated driver, what ``emulation`` checks."""
    if emulated_libraries is not None:
        request.getfixturevalue("emulation")


@pytest.fixture(params=("cpu", *DRIVERS))
def bench(request):
    """Streams that Python functions can be put on, of the CPU and of CUDA by each package."""
    if request.param == "cpu":
        yield CpuBench()
        return
    library = request.getfixturevalue("driver_library")
    request.getfixturevalue("leaves_nothing")
    device = open_or_skip(request.param)
    yield CudaBench(device, library)
    device.close()
