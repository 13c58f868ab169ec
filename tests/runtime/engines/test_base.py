"""The base of engines refuses arrays that do not fit, and runs after closing."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import EngineError, ShapeError
from dff_edge.runtime.devices.cpu import CpuBuffer, CpuDevice
from dff_edge.runtime.engines import hand_crafted_flow, onnxruntime_cuda, openvino, tensorrt
from dff_edge.runtime.engines.base import BaseEngine, thread_count, usable_cores
from dff_edge.runtime.engines.onnxruntime import OrtEngine

SPEC = TensorSpec("x", np.dtype(np.float32), (2,))


class Doubling(BaseEngine):
    """Gives twice what it is given, and counts."""

    def __init__(self):
        super().__init__("doubling", {"x": SPEC}, {"y": TensorSpec("y", SPEC.dtype, SPEC.shape)})
        self.computed = self.freed = 0

    def _compute(self, inputs, outputs, addresses):
        self.computed += 1
        assert addresses == (inputs["x"].ctypes.data, outputs["y"].ctypes.data)
        np.multiply(inputs["x"], 2, out=outputs["y"])

    def _free(self):
        self.freed += 1


def test_a_run_computes_in_the_arrays_given():
    taken = np.empty(2, np.float32)
    with Doubling() as engine:
        engine.run({"x": np.float32([1, 2])}, {"y": taken})

    assert taken.tolist() == [2, 4]


def test_what_is_enqueued_is_done_in_the_streams_order():
    x, y, z = (CpuBuffer(SPEC, np.full(2, value, np.float32)) for value in (1, 0, 0))
    stream = CpuDevice().stream("test")
    engine = Doubling()
    engine.enqueue({"x": x}, {"y": y}, stream)
    engine.enqueue({"x": y}, {"y": z}, stream)
    stream.synchronize()
    stream.close()

    assert z.array.tolist() == [4, 4]


@pytest.mark.parametrize("given", [{}, {"x": np.zeros(3, np.float32)}, {"x": np.zeros(2)}])
def test_arrays_that_do_not_fit_are_refused_before_anything_is_computed(given):
    engine = Doubling()
    with pytest.raises(ShapeError, match="doubling"):
        engine.run(given, {"y": np.empty(2, np.float32)})

    assert engine.computed == 0


def test_a_graph_is_freed_once_and_does_not_run_afterwards():
    engine = Doubling()
    engine.close()
    engine.close()

    assert engine.freed == 1
    with pytest.raises(EngineError, match="The doubling engine is closed"):
        engine.run({"x": np.zeros(2, np.float32)}, {"y": np.empty(2, np.float32)})


@pytest.mark.parametrize(
    "engine",
    [
        OrtEngine,
        openvino.OpenVinoEngine,
        hand_crafted_flow.HandCraftedFlow,
        onnxruntime_cuda.OrtCudaEngine,
        tensorrt.TensorRtEngine,
    ],
)
def test_no_kind_of_engine_has_checks_or_a_lifecycle_of_its_own(engine):
    own = {name for name in vars(engine) if not name.startswith("_")}

    assert issubclass(engine, BaseEngine)
    assert own == set()
    assert not inspect.isabstract(engine)


def test_threads_are_those_asked_for_or_all_cores():
    assert thread_count(3, "flow") == 3
    assert thread_count(None, "flow") == usable_cores() >= 1
    with pytest.raises(EngineError, match="threads is 0 for the flow graph, expected 1 or more"):
        thread_count(0, "flow")
