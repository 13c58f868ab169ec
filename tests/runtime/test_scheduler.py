"""The scheduler on engines whose every step the test holds: order, overlap, failure."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import EngineError, PipelineError
from dff_edge.frames import Frame
from dff_edge.runtime.devices.cpu import CpuDevice, CpuEvent
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.kernels.warp import warp_features
from dff_edge.runtime.scheduler import Scheduler
from dff_edge.runtime.tasks.segmentation import LabelDecoder
from dff_edge.runtime.trace import Trace

TIMEOUT_S = 10  # of a wait that ends at once when the code is right
CELLS = (2, 4)
UINT8, FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)


class HeldEngine:
    """Notes its runs; a run that the test holds goes on when the test says so."""

    def __init__(self, inputs, outputs, compute):
        self.inputs = {spec.name: spec for spec in inputs}
        self.outputs = {spec.name: spec for spec in outputs}
        self._compute = compute
        self.started = [threading.Event() for _ in range(20)]
        self.released = [threading.Event() for _ in range(20)]
        for event in self.released:
            event.set()
        self.runs = 0

    def hold(self, run):
        self.released[run].clear()

    def run(self, inputs, outputs):
        number, self.runs = self.runs, self.runs + 1
        self.started[number].set()
        assert self.released[number].wait(TIMEOUT_S), "the test never released this run"
        self._compute(inputs, outputs)

    def enqueue(self, inputs, outputs, stream):
        arrays = [{name: b.array for name, b in buffers.items()} for buffers in (inputs, outputs)]
        stream.enqueue(lambda: self.run(*arrays))

    def close(self):
        pass


def make_subnets():
    """Features are the mean value, flow is zero, scale is current / key; class 1 from 100 on."""
    frame = TensorSpec("frame", UINT8, (1, 32, 64, 3))
    halves = [TensorSpec(name, UINT8, (1, 16, 32, 3)) for name in ("key_half", "frame_half")]
    features = TensorSpec("features", FLOAT32, (1, *CELLS, 1))
    flow = TensorSpec("flow", FLOAT32, (1, *CELLS, 2))
    scale = TensorSpec("scale", FLOAT32, (1, *CELLS, 1))
    scores = TensorSpec("scores", FLOAT32, (1, *CELLS, 2))

    def feature_net(inputs, outputs):
        outputs["features"][:] = inputs["frame"].mean()

    def flow_net(inputs, outputs):
        outputs["flow"][:] = 0
        outputs["scale"][:] = inputs["frame_half"].mean() / inputs["key_half"].mean()

    def task_net(inputs, outputs):
        outputs["scores"][..., 0] = 100
        outputs["scores"][..., 1] = inputs["features"][..., 0]

    return Subnets(
        HeldEngine([frame], [features], feature_net),
        HeldEngine(halves, [flow, scale], flow_net),
        HeldEngine([features], [scores], task_net),
    )


def frame_of(value, index):
    return Frame(np.full((32, 64, 3), value, np.uint8), index, 0.0)


@pytest.fixture
def subnets():
    return make_subnets()


@pytest.fixture
def scheduler(subnets):
    scheduler = Scheduler(CpuDevice(), subnets, LabelDecoder(), depth=3)
    yield scheduler
    for engine in (subnets.feature, subnets.flow, subnets.task):
        for event in engine.released:
            event.set()
    scheduler.close()


def test_flow_of_the_next_frame_runs_beside_task_of_this_one(scheduler, subnets):
    subnets.task.hold(1)
    scheduler.submit(frame_of(50, 0), is_key=True)
    scheduler.submit(frame_of(200, 1), is_key=False)
    assert subnets.task.started[1].wait(TIMEOUT_S)

    scheduler.submit(frame_of(60, 2), is_key=False)

    assert subnets.flow.started[1].wait(TIMEOUT_S), "flow of 2 must start while task of 1 is held"
    subnets.task.released[1].set()
    assert [int(scheduler.collect().labels[0, 0]) for _ in range(3)] == [0, 1, 0]


def test_feature_network_runs_beside_task_of_older_frames(scheduler, subnets):
    subnets.task.hold(0)
    scheduler.submit(frame_of(50, 0), is_key=True)
    scheduler.submit(frame_of(200, 1), is_key=True)
    assert subnets.feature.started[1].wait(TIMEOUT_S)
    subnets.task.released[0].set()
    assert [int(scheduler.collect().labels[0, 0]) for _ in range(2)] == [0, 1]


def test_flow_runs_beside_the_feature_network_of_its_key_frame(scheduler, subnets):
    subnets.feature.hold(0)
    scheduler.submit(frame_of(50, 0), is_key=True)
    scheduler.submit(frame_of(200, 1), is_key=False)
    assert subnets.flow.started[0].wait(TIMEOUT_S)
    assert not subnets.task.started[0].is_set()
    subnets.feature.released[0].set()
    assert [int(scheduler.collect().labels[0, 0]) for _ in range(2)] == [0, 1]


def test_task_waits_for_late_flow_and_order_is_kept(scheduler, subnets):
    subnets.flow.hold(0)
    scheduler.submit(frame_of(50, 0), is_key=True)
    scheduler.submit(frame_of(200, 1), is_key=False)
    assert scheduler.collect().frame.index == 0
    assert not scheduler.is_next_done
    subnets.flow.released[0].set()
    result = scheduler.collect()
    assert (result.frame.index, result.key_index) == (1, 0)
    assert result.labels.min() == 1


@pytest.mark.parametrize("keys", [(True, True, True), (True, False, True), (True, True, False)])
def test_key_frames_in_flight_have_buffers_of_their_own(scheduler, subnets, keys):
    """With the first answer held, the features of all that follow are computed and kept apart."""
    subnets.task.hold(0)
    for index, (value, is_key) in enumerate(zip((200, 50, 60), keys, strict=True)):
        scheduler.submit(frame_of(value, index), is_key=is_key)
    for run in range(sum(keys)):
        assert subnets.feature.started[run].wait(TIMEOUT_S), "no key frame waits for another's"
    subnets.task.released[0].set()
    for value, is_key, key in zip((1, 0, 0), keys, (0, 1, 2), strict=True):
        result = scheduler.collect()
        assert (int(result.labels[0, 0]), result.is_key) == (value, is_key)
        scheduler.submit(frame_of(50, key + 3), is_key=True)
    assert [int(scheduler.collect().labels[0, 0]) for _ in range(3)] == [0, 0, 0]


def test_first_frame_must_be_a_key_frame(scheduler):
    with pytest.raises(PipelineError, match="no key frame before it"):
        scheduler.submit(frame_of(1, 0), is_key=False)


def test_failure_of_a_stage_comes_out_and_nothing_hangs(scheduler, subnets):
    def broken(inputs, outputs):
        raise ValueError("burst pipe")

    subnets.flow._compute = broken
    subnets.flow.hold(0)
    scheduler.submit(frame_of(50, 0), is_key=True)
    scheduler.submit(frame_of(200, 1), is_key=False)
    scheduler.submit(frame_of(200, 2), is_key=False)
    subnets.flow.released[0].set()
    with pytest.raises(PipelineError, match="flow stage failed: burst pipe"):
        [scheduler.collect() for _ in range(3)]
    scheduler.drop_all()
    assert scheduler.in_flight == 0


def test_refusal_of_an_engine_is_a_failure_of_its_stage(scheduler, subnets):
    def refuse(inputs, outputs, stream):
        raise EngineError("out of order")

    subnets.flow.enqueue = refuse
    scheduler.submit(frame_of(50, 0), is_key=True)
    with pytest.raises(PipelineError, match="the flow stage failed: out of order"):
        scheduler.submit(frame_of(50, 1), is_key=False)


def test_clock_of_a_device_that_failed_is_a_failure_too(scheduler, monkeypatch):
    def fail(self, start):
        raise EngineError("device lost")

    scheduler.submit(frame_of(50, 0), is_key=True)
    monkeypatch.setattr(CpuEvent, "elapsed_ms_since", fail)
    with pytest.raises(PipelineError, match="a stage failed: device lost"):
        scheduler.collect()


def test_no_frame_is_taken_after_a_stage_failed(scheduler, subnets):
    def broken(inputs, outputs):
        raise ValueError("burst pipe")

    subnets.feature._compute = broken
    scheduler.submit(frame_of(50, 0), is_key=True)
    scheduler._streams.decode.synchronize()
    with pytest.raises(PipelineError, match="feature stage failed: burst pipe"):
        scheduler.submit(frame_of(50, 1), is_key=False)


@pytest.mark.parametrize("resize", ["full", "half"])
def test_interrupted_submit_is_dropped_with_the_rest(scheduler, subnets, monkeypatch, resize):
    def ctrl_c(image, out):
        raise KeyboardInterrupt

    scheduler.submit(frame_of(50, 0), is_key=True)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(scheduler._enqueuer._resizer, resize, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            scheduler.submit(frame_of(50, 1), is_key=resize == "full")
    scheduler.drop_all()
    scheduler.forget_key()

    for index, value in enumerate((200, 50, 200)):  # as many as ever
        scheduler.submit(frame_of(value, index), is_key=index == 0)
    assert [int(scheduler.collect().labels[0, 0]) for _ in range(3)] == [1, 0, 1]


def test_dropping_waits_for_the_work_of_an_interrupted_submit(scheduler, subnets, monkeypatch):
    def ctrl_c(work):
        raise KeyboardInterrupt

    subnets.feature.hold(0)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(scheduler._streams.decode, "enqueue", ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            scheduler.submit(frame_of(50, 0), is_key=True)
    dropping = threading.Thread(target=scheduler.drop_all)
    dropping.start()
    dropping.join(0.2)
    assert dropping.is_alive(), "the feature network still writes into buffers"
    subnets.feature.released[0].set()
    dropping.join(TIMEOUT_S)
    assert not dropping.is_alive()


def run_through(scheduler, values, keys):
    results = []
    for index, (value, is_key) in enumerate(zip(values, keys, strict=True)):
        if scheduler.is_full:
            results.append(scheduler.collect())
        scheduler.submit(frame_of(value, index), is_key=is_key)
    while scheduler.in_flight:
        results.append(scheduler.collect())
    return results


def test_without_overlap_the_networks_run_one_after_another(subnets):
    order = []
    for name in ("feature", "flow", "task"):
        engine = getattr(subnets, name)

        def noting(inputs, outputs, name=name, compute=engine._compute):
            order.append(name)
            compute(inputs, outputs)

        engine._compute = noting
    trace = Trace()
    scheduler = Scheduler(CpuDevice(), subnets, LabelDecoder(), depth=3, overlap=False, trace=trace)
    subnets.feature.hold(0)
    for index, (value, is_key) in enumerate([(50, True), (200, False), (60, True)]):
        scheduler.submit(frame_of(value, index), is_key=is_key)
    subnets.feature.released[0].set()
    labels = [int(scheduler.collect().labels[0, 0]) for _ in range(3)]
    scheduler.close()
    assert labels == [0, 1, 0]
    assert order == ["feature", "task", "flow", "task", "feature", "task"]
    assert {span.stream for span in trace.spans} == {"caller", "networks", "decode"}


def test_propagate_takes_the_place_of_warp_and_task_on_other_frames(subnets):
    inputs = [*subnets.flow.outputs.values(), subnets.task.inputs["features"]]

    def propagate_net(inputs, outputs):  # of zero flow
        outputs["scores"][..., 0] = 100
        outputs["scores"][..., 1] = (inputs["features"] * inputs["scale"])[..., 0]

    propagate = HeldEngine(inputs, list(subnets.task.outputs.values()), propagate_net)
    scheduler = Scheduler(
        CpuDevice(), replace(subnets, propagate=propagate), LabelDecoder(), depth=2
    )
    results = run_through(scheduler, (50, 200, 60, 120), (True, False, False, True))
    scheduler.close()
    assert [int(result.labels[0, 0]) for result in results] == [0, 1, 0, 1]
    assert (subnets.task.runs, propagate.runs) == (2, 2)
    assert [sorted(r.stage_ms) for r in results[:2]] == [
        ["decode", "feature", "resize", "task"],
        ["decode", "flow", "propagate", "resize"],
    ]


class FarBuffer:
    """Memory apart from what the host sees, poisoned; ``array`` is the host's copy."""

    def __init__(self, spec, host):
        self.spec = spec
        self.far = np.full(spec.shape, 77).astype(spec.dtype)
        self.array = np.full(spec.shape, 99).astype(spec.dtype) if host else None


class FarEvent(CpuEvent):
    """Of another clock."""


class FarDevice(CpuDevice):
    """A CPU whose buffers must be copied, as a GPU's."""

    copies = True

    def buffer(self, spec, *, host=False):
        return FarBuffer(spec, host)

    def copy_in(self, buffer, stream):
        stream.enqueue(lambda: np.copyto(buffer.far, buffer.array))

    def copy_out(self, buffer, stream):
        stream.enqueue(lambda: np.copyto(buffer.array, buffer.far))

    def warp(self, features, flow, scale, out, stream, levels=None):
        arrays = (features.far, flow.far, scale.far)
        stream.enqueue(lambda: warp_features(*arrays, levels=levels, out=out.far))


class FarEngine(HeldEngine):
    def enqueue(self, inputs, outputs, stream):
        arrays = [{name: b.far for name, b in buffers.items()} for buffers in (inputs, outputs)]
        stream.enqueue(lambda: self.run(*arrays))


@pytest.mark.parametrize("overlap", [True, False])
def test_device_with_memory_of_its_own_gets_copies_in_and_out(subnets, overlap):
    far = Subnets(
        *(
            FarEngine(list(e.inputs.values()), list(e.outputs.values()), e._compute)
            for e in subnets.engines
        )
    )
    scheduler = Scheduler(FarDevice(), far, LabelDecoder(), depth=3, overlap=overlap)
    values = [50, 200, 60, 120, 40, 200, 210, 30]
    results = run_through(scheduler, values, [index % 3 == 0 for index in range(8)])
    scheduler.close()
    assert [int(result.labels[0, 0]) for result in results] == [int(v >= 100) for v in values]
    for result in results:
        assert {"copy in", "copy out", "task", "decode"} < set(result.stage_ms)


def test_frames_wait_for_their_copies(subnets):
    """Each copy is held until what needs it could have run without it."""
    far = Subnets(
        *(
            FarEngine(list(e.inputs.values()), list(e.outputs.values()), e._compute)
            for e in subnets.engines
        )
    )
    device, gate = FarDevice(), threading.Event()
    scheduler = Scheduler(device, far, LabelDecoder(), depth=2)
    scheduler._streams.copy_in.enqueue(lambda: gate.wait(TIMEOUT_S))
    scheduler._streams.copy_out.enqueue(lambda: gate.wait(TIMEOUT_S))
    scheduler.submit(frame_of(50, 0), is_key=True)
    scheduler.submit(frame_of(200, 1), is_key=False)
    assert not far.feature.started[0].wait(0.05)
    assert not far.flow.started[0].is_set()
    gate.set()
    assert [int(scheduler.collect().labels[0, 0]) for _ in range(2)] == [0, 1]
    scheduler.close()


def test_interrupted_first_submit_of_a_trace_can_be_repeated(subnets, monkeypatch):
    def ctrl_c(event):
        raise KeyboardInterrupt

    trace = Trace()
    scheduler = Scheduler(CpuDevice(), subnets, LabelDecoder(), depth=2, trace=trace)
    monkeypatch.setattr(scheduler._streams.decode, "event", FarEvent)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(scheduler._streams.decode, "record", ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            scheduler.submit(frame_of(50, 0), is_key=True)
    run_through(scheduler, (50, 200), (True, False))
    scheduler.close()
    assert {span.frame for span in trace.spans} == {0, 1}


def test_scheduler_that_cannot_be_made_leaves_no_thread(subnets):
    before = set(threading.enumerate())
    del subnets.task.inputs["features"]
    with pytest.raises(KeyError):
        Scheduler(CpuDevice(), subnets, LabelDecoder(), depth=2)
    assert set(threading.enumerate()) == before


def test_collect_without_submit_is_refused(scheduler):
    with pytest.raises(PipelineError, match="no frame is in flight"):
        scheduler.collect()


def test_buffers_are_the_same_in_the_steady_state(subnets):
    addresses = []
    original = subnets.flow.run

    def noting(inputs, outputs):
        addresses.append(tuple(a.__array_interface__["data"][0] for a in outputs.values()))
        original(inputs, outputs)

    subnets.flow.run = noting
    scheduler = Scheduler(CpuDevice(), subnets, LabelDecoder(), depth=2)
    scheduler.submit(frame_of(50, 0), is_key=True)
    scheduler.collect()
    for index in range(1, 12):
        scheduler.submit(frame_of(60, index), is_key=False)
        scheduler.collect()
    scheduler.close()
    assert len(set(addresses)) == 2  # one for each frame in flight
