"""Pipelines that share engines: results, failures, ends, and their key frames, on real engines."""

import threading
import weakref

import cv2
import numpy as np
import pytest

from dff_edge.errors import ConfigError, EngineError, PipelineError
from dff_edge.frames import Frame
from dff_edge.runtime import assembly
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.pipelines import Pipelines
from dff_edge.runtime.policy import FixedInterval, KeyFramePolicy
from dff_edge.runtime.trace import Trace
from tests.bundle.bundles import make_bundle
from tests.runtime.test_fork import run as run_forking
from tests.runtime.test_pipeline import frames_of
from tests.workers import running_workers

WAIT_S = 20  # of a wait that ends at once when the code is right


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (32, 64))


@pytest.fixture(scope="module")
def images():
    """A camera that moves over a scene: frame and answer differ from one to the next."""
    noise = np.random.default_rng(7).integers(0, 256, (120, 260, 3), dtype=np.uint8)
    scene = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    return [np.ascontiguousarray(scene[2 * i : 2 * i + 80, 5 * i : 5 * i + 160]) for i in range(17)]


@pytest.fixture
def engines(monkeypatch):
    """The engines of each bundle that is opened."""
    opened, open_subnets = [], assembly.open_subnets

    def noting(*args, **how):
        opened.append(open_subnets(*args, **how))
        return opened[-1]

    monkeypatch.setattr(assembly, "open_subnets", noting)
    return opened


def answer(pipeline, images, index, *, segment=0, live=False):
    pipeline.submit(Frame(images[index], index, index / 30, segment=segment, live=live))
    return pipeline.poll(block=True)


def in_threads(*calls):
    outcomes = [None] * len(calls)

    def run(number, call):
        outcomes[number] = call()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    return outcomes


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("keys", ["in-order", "lag:2"])
def test_results_are_those_of_pipelines_by_themselves_to_the_bit(bundle, images, keys, depth):
    how = {"policy": "fixed:4", "keys": keys, "depth": depth, "threads": 2, "confidence": True}
    inputs = [frames_of(images), frames_of(images[::-1])]
    expected = []
    for frames in inputs:
        with Pipeline.open(bundle, **how) as pipeline:
            expected.append(list(pipeline.run(frames)))
    with Pipelines.open(bundle, 2, **how) as pipelines:
        results = in_threads(
            *(
                lambda pipeline=pipeline, frames=frames: list(pipeline.run(frames))
                for pipeline, frames in zip(pipelines, inputs, strict=True)
            )
        )
    for of_stream, of_one in zip(results, expected, strict=True):
        assert [r.key_index for r in of_stream] == [r.key_index for r in of_one]
        for result, alone in zip(of_stream, of_one, strict=True):
            np.testing.assert_array_equal(result.labels, alone.labels)
            np.testing.assert_array_equal(result.confidence, alone.confidence)
    assert (results[0][3].labels != results[1][3].labels).any()


def test_graphs_are_opened_once_and_closed_with_the_last(bundle, images, engines):
    pipelines = Pipelines.open(bundle, 3, threads=1, depth=1)
    assert len(engines) == 1
    one, two, three = pipelines
    assert (len(pipelines), pipelines[1], pipelines[-2:]) == (3, two, (two, three))
    one.close()
    one.close()
    assert answer(two, images, 0).is_key
    with pytest.raises(PipelineError, match="closed"):
        answer(one, images, 0)
    two.close()
    assert answer(three, images, 0).is_key
    (opened,) = engines
    assert all(engine._is_open for engine in opened.subnets.engines)
    pipelines.close()
    pipelines.close()
    assert not any(engine._is_open for engine in opened.subnets.engines)
    assert not running_workers()


def test_dropped_without_close_they_end(bundle, images, engines):
    pipelines = Pipelines.open(bundle, 2, threads=1, keys="background")
    other = pipelines[1]
    del pipelines  # the first is dropped, the second is not
    assert answer(other, images, 0).is_key
    engine = weakref.ref(engines.pop().subnets.feature)
    del other
    assert engine() is None
    assert not running_workers()


def test_what_fails_to_open_leaves_nothing(bundle, engines, monkeypatch):
    made, scheduler = [], assembly.Scheduler

    def failing(*args, **how):
        if len(made) == 2:
            raise MemoryError
        made.append(scheduler(*args, **how))
        return made[-1]

    monkeypatch.setattr(assembly, "Scheduler", failing)
    with pytest.raises(MemoryError):
        Pipelines.open(bundle, 3, threads=1)
    assert not any(engine._is_open for engine in engines[0].subnets.engines)
    assert not running_workers()


def test_a_stream_that_fails_leaves_the_others_alone(bundle, images, monkeypatch):
    with Pipelines.open(bundle, 2, threads=1, depth=1, policy="fixed:2") as (one, two):
        assert answer(one, images, 0).is_key
        assert answer(two, images, 0).is_key

        def fails(inputs, outputs):
            raise EngineError("broken")

        with monkeypatch.context() as broken:
            broken.setattr(one._opened.subnets.flow, "run", fails)
            with pytest.raises(PipelineError, match="flow stage failed: broken"):
                answer(one, images, 1)
        assert [answer(two, images, index).key_index for index in range(1, 5)] == [0, 2, 2, 4]
        with pytest.raises(PipelineError, match="flow stage failed"):
            answer(one, images, 2)


class Held:
    """Holds the feature network's runs of shared engines until the test lets one go on."""

    def __init__(self, engine, monkeypatch):
        self.begun, self.go_on, compute = threading.Semaphore(0), threading.Semaphore(0), engine.run

        def run(inputs, outputs):
            self.begun.release()
            assert self.go_on.acquire(timeout=WAIT_S)
            compute(inputs, outputs)

        monkeypatch.setattr(engine, "run", run)

    def wait(self):
        assert self.begun.acquire(timeout=WAIT_S)

    def finish(self, pipeline):
        self.go_on.release()
        pipeline._scheduler._pending.ready.synchronize()


@pytest.mark.parametrize("policy", [None, "fixed:1"])
def test_key_frames_in_the_background_take_turns(bundle, images, engines, monkeypatch, policy):
    how = {"threads": 1, "depth": 1, "keys": "background", "policy": policy}
    with Pipelines.open(bundle, 2, **how) as (one, two):
        assert answer(one, images, 0).is_key
        assert answer(two, images, 0).is_key
        held = Held(engines[0].subnets.feature, monkeypatch)
        pending = []
        for index in range(1, 5):
            answer(one, images, 2 * index - 1)
            answer(two, images, 2 * index - 1)
            answer(one, images, 2 * index)
            busy = [p for p in (one, two) if p._scheduler.is_key_pending]
            assert len(busy) == 1  # never both, so none stands in line
            held.wait()
            pending.append(busy[0])
            held.finish(busy[0])
        assert pending in ([one, two, one, two], [two, one, two, one])
        assert answer(two, images, 9).key_index >= 5


def test_live_key_frames_in_order_do_not_wait_for_another_streams(
    bundle,
    images,
    engines,
    monkeypatch,
):
    with Pipelines.open(bundle, 2, threads=1, depth=1, policy="fixed:2") as (one, two):
        for pipeline in (one, two):
            assert answer(pipeline, images, 0, live=True).is_key
        held = Held(engines[0].subnets.feature, monkeypatch)
        one.submit(Frame(images[2], 2, 0.1, live=True))
        held.wait()
        put_off = [answer(two, images, index, live=True).key_index for index in (2, 3)]
        held.go_on.release()
        assert one.poll(block=True).key_index == 2
        held.go_on.release()
        assert answer(two, images, 4, live=True).key_index == 4
    assert put_off == [0, 0]


def test_live_frames_that_are_all_to_be_key_frames_are(bundle, images, engines, monkeypatch):
    with Pipelines.open(bundle, 2, threads=1, depth=1, policy="fixed:1") as (one, two):
        for pipeline in (one, two):
            assert answer(pipeline, images, 0, live=True).is_key
        held = Held(engines[0].subnets.feature, monkeypatch)
        held.go_on.release(2)
        one.submit(Frame(images[1], 1, 0.1, live=True))
        two.submit(Frame(images[1], 1, 0.1, live=True))
        assert [p.poll(block=True).key_index for p in (one, two)] == [1, 1]


def test_recordings_have_their_key_frames_where_the_policy_says(
    bundle,
    images,
    engines,
    monkeypatch,
):
    """Otherwise results would depend on what else runs."""
    with Pipelines.open(bundle, 2, threads=1, depth=1, policy="fixed:2") as (one, two):
        for pipeline in (one, two):
            assert answer(pipeline, images, 0).is_key
        held = Held(engines[0].subnets.feature, monkeypatch)
        held.go_on.release(2)
        one.submit(Frame(images[2], 2, 0.1))
        two.submit(Frame(images[2], 2, 0.1))
        assert [p.poll(block=True).key_index for p in (one, two)] == [2, 2]


def test_closing_one_in_its_key_frame_frees_the_turn(bundle, images, engines, monkeypatch):
    how = {"threads": 1, "depth": 1, "keys": "background"}
    with Pipelines.open(bundle, 2, **how) as (one, two):
        assert answer(one, images, 0).is_key
        assert answer(two, images, 0).is_key
        held = Held(engines[0].subnets.feature, monkeypatch)
        answer(one, images, 1)
        held.wait()
        assert not two._scheduler.is_key_pending
        held.go_on.release(2)
        one.close()
        answer(two, images, 1)
        assert two._scheduler.is_key_pending


def test_every_stream_has_a_policy_and_a_trace_of_its_own(bundle, images):
    policies, traces = [FixedInterval(2), FixedInterval(3)], [Trace(), Trace()]
    how = {"threads": 1, "policy": policies, "traces": traces}
    with Pipelines.open(bundle, 2, **how) as (one, two):
        keys = [[r.key_index for r in p.run(frames_of(images[:6]))] for p in (one, two)]
    assert keys == [[0, 0, 2, 2, 4, 4], [0, 0, 0, 3, 3, 3]]
    counts = [sum(span.stage == "feature" for span in trace.spans) for trace in traces]
    assert counts == [3, 2]


class Never(KeyFramePolicy):
    def is_key(self, context):
        return False


@pytest.mark.parametrize(
    ("streams", "how", "message"),
    [
        (0, {}, "streams is 0, expected 1 to 64"),
        (65, {}, "streams is 65, expected 1 to 64"),
        (2, {"policy": Never()}, "a list of 2 objects: each serves one stream"),
        (2, {"policy": [Never()]}, "for 2 streams, expected the name of one, or a list of 2"),
        (2, {"policy": [Never()] * 2}, "each serves one stream"),
        (2, {"traces": [Trace()]}, "there are 1 traces for 2 streams"),
        (2, {"names": ["front"]}, "there are 1 names for 2 streams"),
        (2, {"engine": "cuda"}, "engines are shared on the CPU only. Open a Pipeline for each"),
        (2, {"engine": "abacus"}, "engine is 'abacus', expected one of"),
        (2, {"policy": "idle"}, "'idle' with key frames in order"),
    ],
)
def test_what_does_not_fit_is_refused(bundle, streams, how, message):
    with pytest.raises(ConfigError) as caught:
        Pipelines.open(bundle, streams, **how)
    assert message in str(caught.value)


def test_a_forked_child_cannot_use_them(bundle):
    lines = run_forking(f"""
from dff_edge.runtime.pipelines import Pipelines
pipelines = Pipelines.open({str(bundle.path)!r}, 2, threads=1, depth=1)
one, two = pipelines
one.submit(image); one.poll(block=True)

def in_child():
    refused(
        length=lambda: len(pipelines), index=lambda: pipelines[0], loop=lambda: list(pipelines),
        close=lambda: Pipelines.close(pipelines), submit=lambda: one.submit(image),
        leave=lambda: Pipelines.__exit__(pipelines, None, None, None),
    )
fork(in_child)
two.submit(image)
print(two.poll(block=True).is_key)
pipelines.close()
""")
    assert lines == ["child 0", "True"]
