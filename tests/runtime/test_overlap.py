"""The choice of overlap, on engines whose cost is made up."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import PipelineError
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.engines.base import enqueue_run
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.overlap import choose_overlap
from dff_edge.runtime.tasks.segmentation import LabelDecoder

UINT8, FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)
WORK_S = 0.003


class Costly:
    """An engine that takes its time, and no array into account."""

    def __init__(self, inputs, outputs, work):
        self.name = "costly"
        self.inputs = {spec.name: spec for spec in inputs}
        self.outputs = {spec.name: spec for spec in outputs}
        self._work = work

    def run(self, inputs, outputs):
        self._work()
        for array in outputs.values():
            array[...] = 0

    enqueue = enqueue_run

    def close(self):
        pass


def subnets_of(work):
    frame = TensorSpec("frame", UINT8, (1, 32, 64, 3))
    halves = [TensorSpec(name, UINT8, (1, 16, 32, 3)) for name in ("key_half", "frame_half")]
    features, scale = (TensorSpec(name, FLOAT32, (1, 2, 4, 1)) for name in ("features", "scale"))
    flow = TensorSpec("flow", FLOAT32, (1, 2, 4, 2))
    scores = TensorSpec("scores", FLOAT32, (1, 2, 4, 2))
    return Subnets(
        Costly([frame], [features], work),
        Costly(halves, [flow, scale], work),
        Costly([features], [scores], work),
    )


def test_networks_that_leave_room_for_each_other_overlap():
    subnets = subnets_of(lambda: time.sleep(WORK_S))
    choice = choose_overlap(CpuDevice(), subnets, LabelDecoder(), depth=3, interval=5)
    assert choice.overlap
    assert "frames per second with overlap" in choice.reason
    assert "key interval 5" in choice.reason


def test_networks_that_get_in_each_others_way_run_in_order():
    """One at a time, and every change from one to another stream costs as much as a network."""
    device = threading.Lock()
    last = None

    def work():
        nonlocal last
        with device:
            if last not in (None, threading.get_ident()):
                time.sleep(WORK_S)
            last = threading.get_ident()
            time.sleep(WORK_S)

    choice = choose_overlap(CpuDevice(), subnets_of(work), LabelDecoder(), depth=3, interval=5)
    assert not choice.overlap
    assert "in order" in choice.reason


def test_one_frame_in_flight_is_not_measured():
    def work():
        raise AssertionError("measured")

    choice = choose_overlap(CpuDevice(), subnets_of(work), LabelDecoder(), depth=1, interval=5)
    assert not choice.overlap
    assert "one frame in flight" in choice.reason


def test_failure_comes_out_and_leaves_no_thread():
    def work():
        raise ValueError("burst pipe")

    before = set(threading.enumerate())
    with pytest.raises(PipelineError, match="burst pipe"):
        choose_overlap(CpuDevice(), subnets_of(work), LabelDecoder(), depth=2, interval=5)
    assert set(threading.enumerate()) == before


def test_each_key_interval_is_run_as_such():
    """At l = 1 no flow is computed at all."""
    base = subnets_of(lambda: None)

    def work():
        raise AssertionError("flow was computed")

    flow = Costly(base.flow.inputs.values(), base.flow.outputs.values(), work)
    choose_overlap(CpuDevice(), replace(base, flow=flow), LabelDecoder(), depth=2, interval=1)


def test_long_key_intervals_do_not_make_it_long():
    flow_runs = 0
    base = subnets_of(lambda: None)

    def work():
        nonlocal flow_runs
        flow_runs += 1

    flow = Costly(base.flow.inputs.values(), base.flow.outputs.values(), work)
    choice = choose_overlap(
        CpuDevice(), replace(base, flow=flow), LabelDecoder(), depth=2, interval=10_000
    )
    assert "key interval 30" in choice.reason
    assert flow_runs <= 2 * 9 * 29  # both ways: two rounds before, seven that count
