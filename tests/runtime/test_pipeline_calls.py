"""Calls of a pipeline that other threads, Ctrl-C and failures come between."""

import random
import signal
import threading
import time

import numpy as np
import pytest

from dff_edge.errors import PipelineError
from dff_edge.frames import Frame
from dff_edge.runtime import pipeline as pipeline_module
from dff_edge.runtime.pipeline import Pipeline
from tests.bundle.bundles import make_bundle

WAIT_S = 20  # of a wait that ends at once when the code is right
INTERRUPTIONS = 150  # of each test of Ctrl-C: a second


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (32, 64))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 32, 64, 3), dtype=np.uint8)


def frame(images, index):
    return Frame(images[index], index, index / 30)


class Call(threading.Thread):
    """A call in a thread of its own, and what came out of it."""

    def __init__(self, call, name):
        super().__init__(name=name)
        self._call = call
        self.outcome = None
        self.start()

    def run(self):
        try:
            self.outcome = self._call()
        except Exception as error:
            self.outcome = error

    def wait(self):
        self.join(WAIT_S)
        assert not self.is_alive()
        return self.outcome


@pytest.fixture
def waiting(bundle, images, monkeypatch):
    """A pipeline in whose poll another thread waits until the test lets the network go on."""
    pipeline = Pipeline.open(bundle, threads=1, depth=2)
    inside, go_on = threading.Event(), threading.Event()
    engine, collect = pipeline._opened.subnets.feature, pipeline._scheduler.collect
    compute = engine.run

    def held(inputs, outputs):
        assert go_on.wait(WAIT_S)
        compute(inputs, outputs)

    def noting():
        inside.set()
        return collect()

    monkeypatch.setattr(engine, "run", held)
    monkeypatch.setattr(pipeline._scheduler, "collect", noting)
    pipeline.submit(images[0])
    poll = Call(lambda: pipeline.poll(block=True), "left wheel")
    assert inside.wait(WAIT_S)
    yield pipeline, poll, go_on
    go_on.set()
    pipeline.close()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("submit", lambda pipeline: pipeline.submit(np.zeros((8, 8, 3), np.uint8))),
        ("poll", lambda pipeline: pipeline.poll()),
        ("reset", lambda pipeline: pipeline.reset()),
        ("reset", lambda pipeline: next(pipeline.run([]))),
    ],
)
def test_second_thread_at_the_same_time_is_refused(waiting, name, call):
    pipeline, poll, go_on = waiting
    told = rf"right wheel called {name}\(\) while left wheel was in poll\(\) on the same pipeline"

    refused = Call(lambda: call(pipeline), "right wheel").wait()

    assert isinstance(refused, PipelineError)
    with pytest.raises(PipelineError, match=told + r".*open a pipeline for each"):
        raise refused
    go_on.set()
    assert poll.wait().frame.index == 0


def test_threads_may_take_turns(bundle, images):
    with Pipeline.open(bundle, threads=1, policy="fixed:3") as pipeline:
        indices = []
        for index in range(6):
            Call(lambda: pipeline.submit(images[index]), "submits").wait()  # noqa: B023
            result = Call(lambda: pipeline.poll(block=True), "polls").wait()
            indices.append((result.frame.index, result.key_index))
    assert indices == [(0, 0), (1, 0), (2, 0), (3, 3), (4, 3), (5, 3)]


def test_a_key_frame_may_be_forced_from_any_thread_at_any_time(waiting, images):
    pipeline, poll, go_on = waiting
    pipeline.force_key()
    go_on.set()
    assert poll.wait().is_key
    for index in (1, 2):
        pipeline.submit(images[index])
    assert [pipeline.poll(block=True).key_index for _ in range(2)] == [1, 1]


def test_close_waits_for_the_call_of_another_thread_and_ends_its_run(waiting, images):
    pipeline, poll, go_on = waiting
    closes = [Call(pipeline.close, f"close {number}") for number in range(2)]
    go_on.set()
    assert poll.wait().frame.index == 0
    assert [close.wait() for close in closes] == [None, None]
    with pytest.raises(PipelineError, match="closed"):
        pipeline.poll()


def test_close_in_the_middle_of_a_run_of_another_thread(bundle, images):
    pipeline = Pipeline.open(bundle, threads=1)
    has_begun = threading.Event()

    def endless():
        for index in range(10**9):
            yield Frame(images[index % 6], index, index / 30)
            has_begun.set()

    run = Call(lambda: sum(1 for _ in pipeline.run(endless())), "run")
    assert has_begun.wait(WAIT_S)
    pipeline.close()
    assert isinstance(run.wait(), PipelineError)
    assert "the pipeline is closed" in str(run.outcome)


def test_close_by_a_signal_handler_in_the_middle_of_poll(bundle, images, monkeypatch):
    pipeline = Pipeline.open(bundle, threads=1)
    collect = pipeline._scheduler.collect
    previous = signal.signal(signal.SIGUSR1, lambda *_: pipeline.close())

    def interrupted():
        monkeypatch.undo()  # once: a second one, later, would find no handler and end the process
        signal.raise_signal(signal.SIGUSR1)
        return collect()

    monkeypatch.setattr(pipeline._scheduler, "collect", interrupted)
    pipeline.submit(images[0])
    try:
        assert pipeline.poll(block=True).frame.index == 0  # closing computed what was in flight
    finally:
        signal.signal(signal.SIGUSR1, previous)
    with pytest.raises(PipelineError, match="closed"):
        pipeline.submit(images[1])


def test_run_that_the_garbage_collector_ends_in_a_thread_of_the_pipeline(bundle, images):
    """There nothing can be waited for: what it left in flight is dropped by the next call."""
    with Pipeline.open(bundle, threads=1, depth=2) as pipeline:
        runs = [pipeline.run(frame(images, index) for index in range(6))]
        next(runs[0])
        is_collected = threading.Event()
        pipeline._scheduler._streams.decode.enqueue(runs.clear)
        pipeline._scheduler._streams.decode.enqueue(is_collected.set)
        assert is_collected.wait(WAIT_S)
        assert not pipeline.is_full
        assert pipeline.poll(block=True) is None
        pipeline.submit(images[0])
        assert pipeline.poll(block=True).frame.index == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory"),
        (MemoryError("Unable to allocate 2 GiB"), r"out of memory \(Unable to allocate 2 GiB\)"),
        (RuntimeError(), "RuntimeError"),
        (RuntimeError("of words\nand a stack"), "of words"),
    ],
)
@pytest.mark.parametrize("subnet", ["feature", "flow", "task"])
def test_stage_that_gives_out_is_told_in_words(bundle, images, monkeypatch, subnet, error, words):
    with Pipeline.open(bundle, threads=1, depth=2) as pipeline:
        engine = getattr(pipeline._opened.subnets, subnet)
        compute, runs = engine.run, []

        def give_out(inputs, outputs):
            runs.append(None)
            if len(runs) == 2:
                raise error
            compute(inputs, outputs)

        monkeypatch.setattr(engine, "run", give_out)
        pipeline.policy.interval  # noqa: B018 - the bundle's: a key frame in every four
        results = pipeline.run(Frame(images[i % 6], i, i / 30) for i in range(12))
        with pytest.raises(PipelineError, match=f"^the {subnet} stage failed: {words}$"):
            list(results)
        with pytest.raises(PipelineError, match="stage failed"):
            pipeline.submit(images[0])


# ---- Ctrl-C


class Interruptions:
    """Ctrl-C at a moment of chance, when a call of the pipeline is in progress."""

    def __init__(self):
        self._random = random.Random(1)
        self.count = 0

    def rounds(self):
        """Go on until it has come often enough."""
        until_s = time.monotonic() + 60
        while self.count < INTERRUPTIONS:
            assert time.monotonic() < until_s, f"it came {self.count} times only"
            yield

    def __enter__(self):
        signal.setitimer(signal.ITIMER_REAL, self._random.uniform(1e-5, 3e-3))

    def __exit__(self, kind, error, trace):
        signal.setitimer(signal.ITIMER_REAL, 0)
        return kind is KeyboardInterrupt

    def come(self, number, frame):
        while frame is not None:
            if frame.f_code.co_filename == pipeline_module.__file__:
                self.count += 1
                raise KeyboardInterrupt
            frame = frame.f_back


@pytest.fixture
def interruptions():
    found = Interruptions()
    previous = signal.signal(signal.SIGALRM, found.come)
    yield found
    signal.signal(signal.SIGALRM, previous)


def label_maps(bundle, images):
    """By frame and key frame: each pair computed by itself."""
    found = {}
    with Pipeline.open(bundle, threads=1, depth=1, policy="fixed:100") as pipeline:
        for key in range(len(images)):
            for index in range(key, len(images)):
                pipeline.reset()
                for number in sorted({key, index}):
                    pipeline.submit(frame(images, number))
                    found[index, key] = pipeline.poll(block=True).labels
    return found


# Where it comes in the middle of freeing something, Python says so and goes on.
may_come_anywhere = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@may_come_anywhere
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_interrupted_calls_leave_a_pipeline_that_goes_on_and_is_right(
    bundle, images, depth, interruptions
):
    """Without a reset, in this thread or in another."""
    expected = label_maps(bundle, images)

    def check(result):
        np.testing.assert_array_equal(result.labels, expected[result.frame.index, result.key_index])
        return result

    def go_on():
        if pipeline._next_index <= 4:
            while pipeline.is_full:
                check(pipeline.poll(block=True))
            pipeline.submit(frame(images, 4))
            pipeline.force_key()
            while pipeline.is_full:
                check(pipeline.poll(block=True))
            pipeline.submit(frame(images, 5))
        while (result := pipeline.poll(block=True)) is not None:
            last = check(result)
        return last.frame.index, last.key_index

    with Pipeline.open(bundle, threads=1, depth=depth, policy="fixed:3") as pipeline:
        for _ in interruptions.rounds():
            pipeline.reset()
            with interruptions:
                for index in range(4):
                    pipeline.submit(frame(images, index))
                    if pipeline.is_full:
                        check(pipeline.poll(block=True))
                pipeline.reset()
            assert Call(go_on, "goes on").wait() == (5, 5)


@may_come_anywhere
def test_interrupted_run_can_be_followed_by_another(bundle, images, interruptions):
    with Pipeline.open(bundle, threads=1, policy="fixed:2") as pipeline:
        for _ in interruptions.rounds():
            with interruptions:
                list(pipeline.run(frame(images, index) for index in range(6)))
            keys = [r.key_index for r in pipeline.run(frame(images, index) for index in range(4))]
            assert keys == [0, 0, 2, 2]


@may_come_anywhere
def test_interrupted_open_and_close_leave_no_thread(bundle, images, interruptions):
    Pipeline.open(bundle).close()  # imports are not what is interrupted
    for _ in interruptions.rounds():
        pipeline = None
        with interruptions:
            pipeline = Pipeline.open(bundle, threads=1)
            pipeline.submit(images[0])
            pipeline.close()
        if pipeline is not None:
            pipeline.close()
        pipeline = None
        # Those that Ctrl-C kept from starting Python lists for ever, without an id.
        left = [t for t in threading.enumerate() if t.name.startswith("dff-") and t.ident]
        for thread in left:
            thread.join(WAIT_S)
            assert not thread.is_alive()
