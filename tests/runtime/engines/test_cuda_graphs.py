"""An engine whose work is replayed as CUDA graphs gives what it gives without."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import EngineError
from dff_edge.runtime.devices.cuda.device import open_device
from dff_edge.runtime.engines.cuda_graphs import GraphedEngine

SHAPE, FLOW_SHAPE = (1, 5, 7, 4), (1, 5, 7, 2)
FEATURES = TensorSpec("features", np.dtype(np.float32), SHAPE)
FLOW = TensorSpec("flow", np.dtype(np.float32), FLOW_SHAPE)
WARPED = TensorSpec("warped", np.dtype(np.float32), SHAPE)


class TwoWarps:
    """An engine: features warped twice along a flow, the halves of a batch on two streams.

    What is between the warps is its own memory, as an engine's is.
    """

    name = "two warps"
    inputs = {"features": FEATURES, "flow": FLOW}
    outputs = {"warped": WARPED}

    def __init__(self, device):
        self.device = device
        self.side = device.stream("side")
        self.between = device.buffer(FEATURES)
        self.forked, self.joined = self.side.event(), self.side.event()
        self.enqueued = 0
        self.allocates = self.refuses = False
        self.is_closed = False

    def run(self, inputs, outputs):
        raise NotImplementedError

    def enqueue(self, inputs, outputs, stream):
        self.enqueued += 1
        if self.refuses:
            raise EngineError("the engine is out of order.")
        if self.allocates:
            self.device.buffer(FLOW)
        stream.record(self.forked)
        self.side.wait(self.forked)
        features, flow = inputs["features"], inputs["flow"]
        self.device.warp(features, flow, None, self.between, self.side)
        self.side.record(self.joined)
        stream.wait(self.joined)
        self.device.warp(self.between, flow, None, outputs["warped"], stream)

    def close(self):
        self.is_closed = True
        self.side.close()


class Buffers:
    """Inputs and outputs of it."""

    def __init__(self, device):
        self.inputs = {s.name: device.buffer(s, host=True) for s in (FEATURES, FLOW)}
        self.outputs = {"warped": device.buffer(WARPED, host=True)}

    def run(self, engine, device, stream, values):
        for name, array in values.items():
            self.inputs[name].array[...] = array
            device.copy_in(self.inputs[name], stream)
        engine.enqueue(self.inputs, self.outputs, stream)
        device.copy_out(self.outputs["warped"], stream)
        stream.synchronize()
        return self.outputs["warped"].array.copy()


def draw(rng):
    features = rng.standard_normal(SHAPE).astype(np.float32)
    return {"features": features, "flow": rng.uniform(-2, 2, FLOW_SHAPE).astype(np.float32)}


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def stream(device):
    stream = device.stream("task")
    yield stream
    stream.close()


@pytest.fixture
def inner(device):
    engine = TwoWarps(device)
    yield engine
    engine.close()


@pytest.fixture
def graphed(inner, device):
    engine = GraphedEngine(inner, device, max_graphs=2)
    yield engine
    engine.close()


def test_every_replay_gives_what_the_engine_gives(graphed, inner, device, stream, rng, emulation):
    emulation.jitter(seed=6, max_us=500)
    eager, replayed = Buffers(device), Buffers(device)
    for _ in range(20):
        values = draw(rng)
        expected = eager.run(inner, device, stream, values)
        np.testing.assert_array_equal(replayed.run(graphed, device, stream, values), expected)


def test_the_engine_is_asked_twice_for_each_set_of_buffers(graphed, inner, device, stream, rng):
    first, second = Buffers(device), Buffers(device)
    for buffers in (first, second, first, second, first):
        buffers.run(graphed, device, stream, draw(rng))

    assert inner.enqueued == 4


def test_a_launch_is_one_call(graphed, device, stream, rng, emulation):
    buffers = Buffers(device)
    for _ in range(2):
        buffers.run(graphed, device, stream, draw(rng))
    before = emulation.count("cuLaunchHostFunc"), emulation.count("cuGraphLaunch")
    buffers.run(graphed, device, stream, draw(rng))

    assert emulation.count("cuLaunchHostFunc") == before[0]
    assert emulation.count("cuGraphLaunch") == before[1] + 1


def test_old_graphs_are_forgotten(graphed, device, stream, rng, emulation):
    for _ in range(4):
        buffers = Buffers(device)
        for _ in range(2):
            buffers.run(graphed, device, stream, draw(rng))

    assert emulation.live("graph") == 2


def test_a_graph_does_not_keep_its_buffers(graphed, device, stream, rng, emulation):
    """A pipeline that measured both ways of scheduling must not hold the memory of both."""
    buffers = Buffers(device)
    for _ in range(2):
        buffers.run(graphed, device, stream, draw(rng))
    before = emulation.live("device")
    del buffers
    gc.collect()
    device.buffer(WARPED)  # frees what was dropped

    assert emulation.live("device") < before


def test_work_that_cannot_be_recorded_is_told(graphed, inner, device, stream, rng):
    buffers, values = Buffers(device), draw(rng)
    expected = buffers.run(graphed, device, stream, values)
    inner.allocates = True
    with pytest.raises(EngineError, match="two warps engine's work cannot be recorded.*CAPTURE"):
        buffers.run(graphed, device, stream, values)
    inner.allocates = False

    # The stream is as before, and the engine.
    np.testing.assert_array_equal(buffers.run(inner, device, stream, values), expected)
    np.testing.assert_array_equal(buffers.run(graphed, device, stream, values), expected)


def test_an_engine_that_fails_while_recorded_leaves_the_stream_usable(
    graphed, inner, device, stream, rng
):
    buffers, values = Buffers(device), draw(rng)
    expected = buffers.run(graphed, device, stream, values)
    inner.refuses = True
    with pytest.raises(EngineError, match="the engine is out of order"):
        buffers.run(graphed, device, stream, values)
    inner.refuses = False

    np.testing.assert_array_equal(buffers.run(graphed, device, stream, values), expected)


def test_an_interrupted_recording_leaves_the_stream_usable(graphed, inner, device, stream, rng):
    buffers, values = Buffers(device), draw(rng)
    expected = buffers.run(graphed, device, stream, values)
    enqueue = inner.enqueue

    def ctrl_c(inputs, outputs, stream):
        enqueue(inputs, outputs, stream)
        raise KeyboardInterrupt

    inner.enqueue = ctrl_c
    with pytest.raises(KeyboardInterrupt):
        buffers.run(graphed, device, stream, values)
    stream.synchronize()
    inner.enqueue = enqueue

    np.testing.assert_array_equal(buffers.run(graphed, device, stream, values), expected)


def test_other_threads_work_on_while_a_graph_is_recorded(graphed, inner, device, stream, rng):
    import threading

    buffers, values = Buffers(device), draw(rng)
    expected = buffers.run(graphed, device, stream, values)
    enqueue = inner.enqueue

    def enqueue_beside(inputs, outputs, stream):
        thread = threading.Thread(target=device.buffer, args=(FLOW,))
        thread.start()
        thread.join()
        enqueue(inputs, outputs, stream)

    inner.enqueue = enqueue_beside

    np.testing.assert_array_equal(buffers.run(graphed, device, stream, values), expected)


def test_buffers_dropped_while_a_graph_is_recorded_are_freed_later(
    graphed, inner, device, stream, rng
):
    buffers, values, dropped = Buffers(device), draw(rng), [device.buffer(FLOW)]
    expected = buffers.run(graphed, device, stream, values)
    enqueue = inner.enqueue

    def drop_and_enqueue(inputs, outputs, stream):
        dropped.clear()
        gc.collect()
        stream.event()
        enqueue(inputs, outputs, stream)

    inner.enqueue = drop_and_enqueue

    np.testing.assert_array_equal(buffers.run(graphed, device, stream, values), expected)


def test_closing_frees_graphs_and_engine(graphed, inner, device, stream, rng, emulation):
    buffers = Buffers(device)
    for _ in range(2):
        buffers.run(graphed, device, stream, draw(rng))
    assert emulation.live("graph") == 1
    graphed.close()
    graphed.close()

    assert emulation.live("graph") == 0
    assert inner.is_closed


def test_pycuda_has_no_graphs(driver_library, leaves_nothing):
    pytest.importorskip("pycuda.driver", reason="pycuda is not installed: it has no wheels")
    with open_device("pycuda") as device:
        engine = TwoWarps(device)
        with pytest.raises(EngineError, match="two warps engine need cuda-python.*pycuda"):
            GraphedEngine(engine, device)
        engine.close()
