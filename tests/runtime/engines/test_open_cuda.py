"""Opening and ending in processes of their own: what is missing, and the end of the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.runtime.conftest import DRIVERS, open_or_skip

LOAD = "import ctypes; ctypes.CDLL({path!r}, ctypes.RTLD_GLOBAL)\n"
OPEN = "from dff_edge.runtime.devices.cuda import open_device\n"
REFUSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)
sys.meta_path.insert(0, Refuse())
from dff_edge import packages
packages.version_of = lambda name: None  # nothing is installed
"""
USE = """
import numpy as np
from dff_edge.bundle.tensors import TensorSpec
device = open_device({driver!r})
stream, host = device.stream('task'), device.host_stream('host')
buffer = device.buffer(TensorSpec('x', np.dtype(np.uint8), (7,)), host=True)
event = stream.event()
device.copy_in(buffer, stream)
stream.record(event)
host.wait(event)
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def load(emulated_libraries) -> str:
    """Code that loads the emulated driver."""
    if emulated_libraries is None:
        pytest.skip("of the emulated driver, and there is a GPU")
    return LOAD.format(path=str(emulated_libraries[0]))


@pytest.fixture(params=DRIVERS)
def driver(request, driver_library) -> str:
    open_or_skip(request.param).close()
    return str(request.param)


def test_a_process_may_end_with_everything_open(load, driver):
    done = run(load + OPEN + USE.format(driver=driver) + "print('end')")

    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_a_process_may_end_in_the_middle_of_work(load, driver):
    work = "host.enqueue(lambda: None)\nfor _ in range(100): device.copy_out(buffer, stream)\n"
    done = run(
        load + OPEN + USE.format(driver=driver) + work + "raise SystemExit(3)",
        DFF_EMULATION_JITTER_US="1000",
    )

    assert (done.returncode, done.stderr) == (3, "")


def test_a_forked_child_is_refused_and_frees_nothing_of_its_parents(load, driver):
    fork = """
import os, signal, sys
from dff_edge.errors import ForkError

pid = os.fork()
if pid == 0:
    signal.alarm(60)
    calls = (lambda: device.close(), lambda: device.stream("mine"), lambda: stream.synchronize(),
             lambda: host.synchronize(), lambda: device.copy_out(buffer, stream))
    for call in calls:
        try:
            call()
        except ForkError:
            print("refused", flush=True)
    sys.exit(0)
print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
buffer.array[:] = 7
device.copy_in(buffer, stream)
device.copy_out(buffer, stream)
stream.synchronize()
print("parent", buffer.array.flat[0])
"""
    done = run(load + OPEN + USE.format(driver=driver) + fork)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["refused"] * 5 + ["child 0", "parent 7"]


def test_a_machine_without_gpu_says_so(load, driver):
    done = run(load + OPEN + f"open_device({driver!r})", DFF_EMULATION_DEVICES="0")

    assert "no CUDA-capable device" in done.stderr.splitlines()[-1]
    assert "EngineError" in done.stderr or "CudaError" in done.stderr


def test_a_missing_driver_is_told_with_what_to_do():
    done = run(OPEN + "open_device('cuda-python')")
    if done.returncode == 0:
        pytest.skip("this machine has an NVIDIA driver")

    assert "EngineError: cuda-python found no NVIDIA driver" in done.stderr
    assert "libcuda.so.1" in done.stderr


def test_missing_packages_are_told_with_how_to_install_them():
    done = run(REFUSE.format(names=["cuda", "pycuda"]) + OPEN + "open_device()")

    assert "needs cuda-python or pycuda, and neither is installed" in done.stderr
    assert "pip install 'cuda-python>=12.3'" in done.stderr


@pytest.mark.parametrize(
    ("name", "package"),
    [("cuda-python", "cuda-python>=12.3"), ("pycuda", "pycuda>=2024.1")],
    ids=DRIVERS,
)
def test_the_missing_package_that_was_asked_for_is_named(name, package):
    done = run(REFUSE.format(names=["cuda", "pycuda"]) + OPEN + f"open_device({name!r})")

    assert "MissingDependencyError: Running on an NVIDIA GPU needs" in done.stderr
    assert f"pip install '{package}'" in done.stderr


def test_pycuda_is_taken_where_cuda_python_is_not_installed(load):
    open_or_skip("pycuda").close()
    done = run(load + REFUSE.format(names=["cuda"]) + OPEN + "print(open_device().driver.name)")

    assert done.stdout == "pycuda\n"


def test_cuda_python_is_taken_first(load):
    open_or_skip("cuda-python").close()
    done = run(load + OPEN + "print(open_device().driver.name)")

    assert done.stdout == "cuda-python\n"


def test_the_bindings_of_cuda_12_are_found_by_their_old_name(load):
    """Before 12.6 ``cuda.bindings.driver`` was ``cuda.cuda``."""
    old = """
import sys, types
import cuda.bindings.driver as driver
package = types.ModuleType('cuda'); package.__path__ = []; package.cuda = driver
for name in [name for name in sys.modules if name.partition('.')[0] == 'cuda']:
    del sys.modules[name]
sys.modules['cuda'] = package
sys.modules['cuda.cuda'] = driver
"""
    done = run(load + old + OPEN + "print(open_device('cuda-python').name)")

    assert done.stdout == "dff-edge emulated device\n", done.stderr
