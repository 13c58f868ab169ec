"""Memory, copies and failures of the device, through either package."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import ConfigError, EngineError, PipelineError, ShapeError
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.devices.cuda.device import open_device
from dff_edge.runtime.devices.cuda.driver import CudaError
from tests.runtime.devices.cuda.bench import CudaBench, Gate, stays_undone
from tests.runtime.devices.cuda.emulation import ALLOCATING, BLOCKING, KINDS

ILLEGAL_ADDRESS, OUT_OF_MEMORY = 700, 2
SPEC = TensorSpec("features", np.dtype(np.float32), (1, 5, 7, 3))


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(SPEC.shape).astype(np.float32)


def test_a_copy_in_and_out_gives_the_values_back(any_device, values):
    buffer, stream = any_device.buffer(SPEC, host=True), any_device.stream("copy")
    buffer.array[...] = values
    any_device.copy_in(buffer, stream)
    stream.synchronize()
    buffer.array[...] = 0
    any_device.copy_out(buffer, stream)
    stream.synchronize()

    np.testing.assert_array_equal(buffer.array, values)
    stream.close()


def test_the_device_has_memory_of_its_own(any_device, values):
    buffer, stream = any_device.buffer(SPEC, host=True), any_device.stream("copy")
    buffer.array[...] = values
    any_device.copy_in(buffer, stream)
    stream.synchronize()
    buffer.array[...] = 0  # not copied
    other = any_device.stream("other")
    any_device.copy_out(buffer, other)
    other.synchronize()

    np.testing.assert_array_equal(buffer.array, values)
    stream.close()
    other.close()


def test_copies_on_two_streams_are_ordered_by_an_event(any_device, emulation, values):
    emulation.jitter(seed=2, max_us=2000)
    buffer = any_device.buffer(SPEC, host=True)
    streams = any_device.stream("in"), any_device.stream("out")
    events = streams[0].event(), streams[1].event()
    for turn in range(20):
        buffer.array[...] = values + turn
        any_device.copy_in(buffer, streams[0])
        streams[0].record(events[0])
        streams[1].wait(events[0])
        events[0].synchronize()
        buffer.array[...] = 0
        any_device.copy_out(buffer, streams[1])
        streams[1].record(events[1])
        events[1].synchronize()

        np.testing.assert_array_equal(buffer.array, values + turn)
    for stream in streams:
        stream.close()


def test_a_buffer_for_the_device_alone_has_no_array(any_device):
    buffer = any_device.buffer(SPEC)

    with pytest.raises(ShapeError, match=r"'features' is on the device only.*host=True"):
        buffer.array  # noqa: B018


def test_a_buffer_says_where_it_is(any_device):
    buffer = any_device.buffer(SPEC)

    assert buffer.nbytes == 5 * 7 * 3 * 4
    assert buffer.__cuda_array_interface__ == {
        "shape": (1, 5, 7, 3),
        "typestr": "<f4",
        "data": (buffer.pointer, False),
        "strides": None,
        "stream": None,
        "version": 3,
    }


def test_a_buffer_of_another_device_is_refused(any_device):
    stream = any_device.stream("copy")

    with pytest.raises(ShapeError, match="'features' is a CpuBuffer of another device"):
        any_device.copy_in(CpuDevice().buffer(SPEC), stream)
    stream.close()


def test_a_host_stream_is_no_place_for_a_copy(any_device):
    buffer, host = any_device.buffer(SPEC, host=True), any_device.host_stream("decode")

    with pytest.raises(PipelineError, match="'decode' is a CudaHostStream, expected a stream of"):
        any_device.copy_in(buffer, host)
    host.close()


def test_an_event_of_the_cpu_is_refused_by_a_stream(any_device):
    stream = any_device.stream("task")

    with pytest.raises(PipelineError, match=r"was given a CpuEvent, expected an event of"):
        stream.wait(CpuDevice().stream("cpu").event())
    stream.close()


def test_the_steady_state_allocates_nothing_and_enqueueing_never_waits(any_device, emulation):
    buffer = any_device.buffer(SPEC, host=True)
    first, second = any_device.stream("first"), any_device.stream("second")
    host, event, done = any_device.host_stream("host"), first.event(), first.event()

    def frame() -> None:
        any_device.copy_in(buffer, first)
        first.record(event)
        second.wait(event)
        any_device.copy_out(buffer, second)
        second.record(done)
        first.wait(done)

    def once() -> None:
        frame()
        host.wait(done)
        host.synchronize()

    once()
    before = {call: emulation.count(call) for call in ALLOCATING}
    for _ in range(10):
        once()
    assert {call: emulation.count(call) for call in ALLOCATING} == before

    before = {call: emulation.count(call) for call in BLOCKING}
    for _ in range(10):
        frame()
    assert {call: emulation.count(call) for call in BLOCKING} == before
    for stream in (first, second, host):
        stream.close()


def test_what_is_dropped_is_freed_at_the_next_allocation(any_device, emulation):
    kept = any_device.buffer(SPEC)
    before = emulation.live("device")
    frees = emulation.count("cuMemFree")
    any_device.buffer(SPEC)
    gc.collect()
    assert emulation.count("cuMemFree") == frees  # not by the finaliser
    last = any_device.buffer(SPEC)

    assert emulation.live("device") == before + 1
    assert kept.pointer != last.pointer


def test_dropped_events_are_freed_when_others_are_made(any_device, emulation):
    stream = any_device.stream("task")
    for _ in range(5):
        stream.event()
    event = stream.event()

    assert emulation.live("event") == 1
    assert event.is_done
    stream.close()


def test_closed_streams_are_freed_at_once(any_device, emulation):
    stream, host = any_device.stream("task"), any_device.host_stream("host")
    assert emulation.live("stream") == 2  # one to wait with
    stream.close()
    host.close()

    assert emulation.live("stream") == 0


def test_closing_frees_everything(any_device, emulation):
    stream, host = any_device.stream("task"), any_device.host_stream("host")
    buffers = [any_device.buffer(SPEC, host=True) for _ in range(3)]
    event = stream.event()
    host.close()
    any_device.close()
    any_device.close()

    assert [emulation.live(kind) for kind in KINDS] == [0] * len(KINDS)
    with pytest.raises(PipelineError, match="device is closed"):
        any_device.buffer(SPEC)
    with pytest.raises(PipelineError, match="device is closed"):
        buffers[0].array  # noqa: B018
    with pytest.raises(PipelineError, match="device is closed"):
        stream.record(event)
    with pytest.raises(PipelineError, match="device is closed"):
        event.synchronize()


def test_a_dropped_device_is_closed_with_its_last_buffer(any_device, emulation):
    driver = any_device.driver.name
    device = open_device(driver)
    buffer = device.buffer(SPEC, host=True)
    before = emulation.live("device")
    del device
    gc.collect()
    buffer.array[...] = 1  # still there
    assert emulation.live("device") == before
    del buffer
    gc.collect()

    assert emulation.live("device") == before - 1


def test_devices_of_one_gpu_share_it(any_device):
    with open_device(any_device.driver.name) as other:
        buffer = other.buffer(SPEC)
        stream = any_device.stream("task")
        with pytest.raises(ShapeError, match="of another device"):
            any_device.copy_in(buffer, stream)
    other_free, total = any_device.memory_info()  # the first goes on working

    assert 0 < other_free <= total
    stream.synchronize()
    stream.close()


def test_no_context_is_left_current(any_device, driver_library):
    stream, current = any_device.stream("task"), ctypes.c_void_p(1)
    any_device.copy_in(any_device.buffer(SPEC, host=True), stream)
    with pytest.raises(ShapeError), any_device.current():
        any_device.buffer(SPEC).array  # noqa: B018
    stream.close()
    any_device.close()
    assert driver_library.cuCtxGetCurrent(ctypes.byref(current)) == 0

    assert current.value is None


def test_a_context_that_was_current_before_is_so_afterwards(driver_library, leaves_nothing):
    pycuda = pytest.importorskip("pycuda.driver", reason="pycuda is not installed")
    pycuda.init()
    context = pycuda.Device(0).retain_primary_context()
    context.push()
    try:
        device = open_device("pycuda")
        device.buffer(SPEC)
        device.close()
        current = ctypes.c_void_p()
        driver_library.cuCtxGetCurrent(ctypes.byref(current))
        assert current.value == context.handle
    finally:
        pycuda.Context.pop()
    driver_library.cuCtxGetCurrent(ctypes.byref(current))
    assert current.value is None
    context.push()
    context.detach()
    driver_library.cuCtxPopCurrent_v2(ctypes.byref(current))


def test_too_large_a_buffer_says_what_was_free(any_device):
    spec = TensorSpec("features", np.dtype(np.uint8), (1 << 50,))

    with pytest.raises(CudaError, match=r"cuMemAlloc failed: .*1125899906842624 bytes.*are free"):
        any_device.buffer(spec)
    any_device.buffer(SPEC)


def test_an_asynchronous_failure_comes_out_of_the_stream(any_device, emulation, driver_library):
    stream, host = any_device.stream("feature"), any_device.host_stream("decode")
    buffer, event = any_device.buffer(SPEC, host=True), stream.event()
    gate = Gate(CudaBench(any_device, driver_library), stream)
    any_device.copy_in(buffer, stream)
    stream.record(event)
    host.wait(event)
    gate.wait_until_reached()
    emulation.fail("operation", ILLEGAL_ADDRESS)
    gate.open()

    with pytest.raises(PipelineError, match="the feature stage failed: .*illegal"):
        stream.synchronize()
    with pytest.raises(PipelineError, match="the feature stage failed: .*illegal"):
        stream.raise_failure()
    with pytest.raises(PipelineError, match="the decode stage failed: .*illegal"):
        host.synchronize()
    host.close()
    stream.close()


def test_a_refused_call_names_itself_and_the_error(device, emulation):
    stream = device.stream("task")
    emulation.fail("cuMemHostAlloc", OUT_OF_MEMORY)

    with pytest.raises(
        CudaError,
        match=r"cuMemHostAlloc failed: CUDA_ERROR_OUT_OF_MEMORY \(out of memory\)\. Close",
    ):
        device.buffer(SPEC, host=True)
    stream.close()


def test_priorities_are_those_of_cuda_python(device, driver_library):
    stream, value = device.stream("task", priority=-3), ctypes.c_int()
    with device.current():
        driver_library.cuStreamGetPriority(ctypes.c_void_p(stream.handle), ctypes.byref(value))

    assert value.value == -3
    stream.close()


def test_streams_are_in_no_order_with_the_default_stream(any_device, driver_library):
    stream, flags = any_device.stream("task"), ctypes.c_uint()
    with any_device.current():
        driver_library.cuStreamGetFlags(ctypes.c_void_p(stream.handle), ctypes.byref(flags))

    assert flags.value == 1  # CU_STREAM_NON_BLOCKING
    stream.close()


def test_an_external_stream_is_waited_for_and_not_freed(device, driver_library):
    own = device.stream("torch's")
    gate = Gate(CudaBench(device, driver_library), own)
    external, stream = device.external_stream(own.handle), device.stream("task")
    event, done = external.event(), stream.event()
    external.record(event)
    stream.wait(event)
    stream.record(done)

    assert stays_undone(done)
    gate.open()
    done.synchronize()
    external.close()
    own.synchronize()  # still there
    own.close()
    stream.close()


def test_another_ordinal_is_refused(any_device):
    with pytest.raises(EngineError, match=r"CUDA device 7 was requested and there are \d+, numb"):
        open_device(any_device.driver.name, ordinal=7)


def test_another_driver_is_refused():
    with pytest.raises(ConfigError, match="driver is 'hip', expected one of cuda-python, pycuda"):
        open_device("hip")
