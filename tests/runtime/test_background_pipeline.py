"""Pipelines with key frames in the background: real engines, calls, failures, and their threads."""

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest

from dff_edge.errors import ConfigError, PipelineError
from dff_edge.frames import Frame
from dff_edge.runtime.engines.base import usable_cores
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import KeyFramePolicy
from tests.bundle.bundles import make_bundle
from tests.runtime.kernels.resizing import resize_by_convention
from tests.runtime.lagged import Shot, lagged
from tests.runtime.test_pipeline import assert_same_labels, frames_of, images  # noqa: F401
from tests.workers import running_workers

SIZE = (32, 64)
WAIT_S = 20  # of a wait that ends at once when the code is right


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", SIZE)


@pytest.fixture
def held(bundle, images, monkeypatch):  # noqa: F811
    """A pipeline whose key frame 1 is computed in the background until the test says so."""
    pipeline = Pipeline.open(bundle, threads=1, depth=1, keys="background")
    begun, go_on = threading.Event(), threading.Event()
    assert answer(pipeline, images, 0).is_key
    engine = pipeline._opened.subnets.feature
    compute = engine.run

    def run(inputs, outputs):
        begun.set()
        assert go_on.wait(WAIT_S)
        compute(inputs, outputs)

    monkeypatch.setattr(engine, "run", run)
    assert answer(pipeline, images, 1).key_index == 0
    assert begun.wait(WAIT_S)
    yield pipeline, go_on
    go_on.set()
    pipeline.close()


def answer(pipeline, images, index, segment=0):  # noqa: F811
    pipeline.submit(Frame(images[index], index, index / 30, segment=segment))
    return pipeline.poll(block=True)


def in_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def ends(thread):
    thread.join(WAIT_S)
    return not thread.is_alive()


@pytest.mark.parametrize(("lag", "depth"), [(1, 1), (3, 3), (6, 2)])
def test_a_lag_gives_what_the_engines_give_one_after_another(bundle, images, lag, depth):  # noqa: F811
    session = {
        name: ort.InferenceSession(bundle.graph_bytes("fp32", name))
        for name in ("feature", "flow", "task", "propagate")
    }

    def extract(number):
        full = resize_by_convention(images[number], SIZE)[None]
        return session["feature"].run(None, {"frame": full})[0]

    def scored(features, key, number):
        if key == number:
            return session["task"].run(None, {"features": features})[0]
        halves = [resize_by_convention(images[n], (16, 32))[None] for n in (key, number)]
        inputs = dict(zip(("key_half", "frame_half"), halves, strict=True))
        flow, scale = session["flow"].run(None, inputs)
        inputs = {"features": features, "flow": flow, "scale": scale}
        return session["propagate"].run(None, inputs)[0]

    shots = [Shot(index, index, False) for index in range(len(images))]
    expected = lagged(shots, lag, lambda distance: distance >= 4, extract, scored)
    how = {"policy": "fixed:4", "keys": f"lag:{lag}", "depth": depth, "threads": 1}
    with Pipeline.open(bundle, **how) as pipeline:
        results = list(pipeline.run(frames_of(images)))
    assert [result.key_index for result in results] == [key for key, _ in expected]
    assert max(result.key_distance for result in results) == lag + max(4, lag) - 1
    for result, (_, scores) in zip(results, expected, strict=True):
        full = cv2.resize(scores[0], result.labels.shape[::-1], interpolation=cv2.INTER_LINEAR)
        assert_same_labels(result.labels, full.argmax(axis=-1).astype(np.uint8))
        assert result.key_age_s == pytest.approx(result.key_distance / 30)


def test_frames_go_on_while_a_key_frame_is_computed(held, images):  # noqa: F811
    pipeline, go_on = held
    assert [answer(pipeline, images, index).key_index for index in (2, 3, 4)] == [0, 0, 0]
    pending = pipeline._scheduler._pending
    go_on.set()
    pending.ready.synchronize()
    result = answer(pipeline, images, 5)
    assert (result.key_index, result.key_distance) == (1, 4)
    assert pipeline._scheduler.lag == 4  # what a policy is told to expect of the next one


def test_no_key_frame_is_begun_while_one_is_pending(held, images):  # noqa: F811
    pipeline, go_on = held
    asked = []

    class Noting(KeyFramePolicy):
        def is_key(self, context):
            asked.append(context.distance)
            return True

    pipeline.policy = Noting()
    for index in (2, 3):
        answer(pipeline, images, index)
    assert asked == []
    pending = pipeline._scheduler._pending
    go_on.set()
    pending.ready.synchronize()
    assert answer(pipeline, images, 4).key_index == 1
    assert asked == [3]
    assert pipeline._scheduler.is_key_pending


def test_a_camera_that_was_lost_meanwhile_gets_no_features_from_before(held, images):  # noqa: F811
    pipeline, go_on = held
    threading.Timer(0.05, go_on.set).start()
    back = answer(pipeline, images, 7, segment=1)  # waits for its own
    assert back.is_key
    pipeline.policy = type("Never", (KeyFramePolicy,), {"is_key": lambda self, context: False})()
    after = [answer(pipeline, images, index, segment=1) for index in (8, 9, 10)]
    assert [result.key_index for result in after] == [7, 7, 7]


def test_a_cut_that_is_told_waits_for_its_own_features(held, images):  # noqa: F811
    pipeline, go_on = held
    pipeline.force_key()
    go_on.set()
    assert answer(pipeline, images, 2).is_key


def test_resetting_meanwhile_begins_anew(held, images):  # noqa: F811
    pipeline, go_on = held
    resetting = in_thread(pipeline.reset)
    go_on.set()
    assert ends(resetting)
    assert answer(pipeline, images, 0).is_key
    assert not pipeline._scheduler.is_key_pending


def test_closing_meanwhile_ends_every_thread(held):
    pipeline, go_on = held
    closing = in_thread(pipeline.close)
    go_on.set()
    assert ends(closing)
    assert not running_workers()
    with pytest.raises(PipelineError, match="closed"):
        pipeline.submit(np.zeros((8, 8, 3), np.uint8))


def test_a_feature_network_that_fails_meanwhile_is_told(held, images, monkeypatch):  # noqa: F811
    pipeline, go_on = held
    engine = pipeline._opened.subnets.feature
    monkeypatch.setattr(engine, "_session", None)
    pending = pipeline._scheduler._pending
    go_on.set()
    pending.ready.synchronize()
    with pytest.raises(PipelineError, match="feature stage failed"):
        pipeline.submit(Frame(images[2], 2, 0.1))
    pipeline.close()


def test_ctrl_c_meanwhile_leaves_the_pipeline_usable(held, images, monkeypatch):  # noqa: F811
    pipeline, go_on = held

    def ctrl_c():
        raise KeyboardInterrupt

    pipeline.submit(Frame(images[2], 2, 0.1))
    with monkeypatch.context() as interrupted:
        interrupted.setattr(pipeline._scheduler, "collect", ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            pipeline.poll(block=True)
    assert pipeline.poll(block=True).key_index == 0
    go_on.set()
    pipeline.reset()
    assert answer(pipeline, images, 0).is_key


def test_a_run_that_is_broken_off_meanwhile_leaves_nothing(bundle, images):  # noqa: F811
    with Pipeline.open(bundle, threads=1, policy="fixed:2", keys="lag:5", depth=2) as pipeline:
        for result in pipeline.run(frames_of(images)):
            if result.frame.index == 3:  # key frame 2 is pending
                break
        again = list(pipeline.run(frames_of(images)))
    assert [result.key_index for result in again[:8]] == [0, 0, 0, 0, 0, 0, 0, 2]


@pytest.mark.parametrize("way", ["end", "ctrl-c"])
def test_a_process_that_ends_in_the_middle_of_a_key_frame(bundle, way):
    code = f"""
import os, signal, threading, numpy as np
from dff_edge.runtime.pipeline import Pipeline
pipeline = Pipeline.open({str(bundle.path)!r}, threads=1, depth=1, keys="background")
image = np.zeros((32, 64, 3), np.uint8)
pipeline.submit(image); pipeline.poll(block=True)
begun, engine = threading.Event(), pipeline._opened.subnets.feature
compute = engine.run
def run(inputs, outputs):
    begun.set()
    for _ in range(300):
        compute(inputs, outputs)
engine.run = run
pipeline.submit(image); pipeline.poll(block=True); begun.wait()
if {way == "ctrl-c"}:
    os.kill(os.getpid(), signal.SIGINT)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, check=False
    )
    if way == "end":
        assert (done.returncode, done.stderr) == (0, b"")
    else:
        assert done.returncode in (1, 130, -signal.SIGINT)
        assert done.stderr.strip().endswith(b"KeyboardInterrupt")


def threads_by_nice():
    counts = {}
    for thread in os.listdir("/proc/self/task"):
        # Fields after the name, which may hold spaces; nice is the 19th of all.
        try:
            told = Path(f"/proc/self/task/{thread}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):  # ended by now
            continue
        fields = told.rpartition(")")[2].split()
        counts[int(fields[16])] = counts.get(int(fields[16]), 0) + 1
    return counts


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_all_threads_of_the_feature_network_have_a_lower_priority_and_no_others(bundle):
    """Of ONNX Runtime's own too: 3 threads are the stream's and two of the session."""
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    lower = min(own + 10, 19)
    before = threads_by_nice()
    with Pipeline.open(bundle, threads=3, depth=1, keys="background") as pipeline:
        pipeline.submit(np.zeros((32, 64, 3), np.uint8))
        pipeline.poll(block=True)
        for _ in range(10_000):  # the thread that opened the session may be on its way out
            meanwhile = threads_by_nice()
            if meanwhile.get(lower, 0) - before.get(lower, 0) == 3:
                break
            os.sched_yield()
    assert meanwhile.get(lower, 0) - before.get(lower, 0) == 3
    assert meanwhile[own] > before[own]
    assert set(meanwhile) == {own, lower} | set(before)


def test_threads_that_are_asked_for_are_not_measured(bundle):
    with Pipeline.open(bundle, threads=1, keys="background") as pipeline:
        assert str(pipeline.schedule.share).endswith("on 1 of the CPU's threads: as requested")
        assert "keys background" in str(pipeline.schedule)
        assert str(pipeline.policy) == "idle"
    with Pipeline.open(bundle, threads=1, keys="lag:2") as pipeline:
        assert str(pipeline.policy) == f"fixed:{bundle.manifest.default_key_interval}"
    with Pipeline.open(bundle, threads=1) as pipeline:
        assert pipeline.schedule.share is None
        assert "keys" not in str(pipeline.schedule)


@pytest.mark.skipif(usable_cores() == 1, reason="one core leaves no choice")
def test_the_share_of_the_feature_network_is_measured_and_told(bundle, caplog):
    caplog.set_level(logging.INFO, "dff_edge.runtime")
    with Pipeline.open(bundle, keys="background") as pipeline:
        assert 1 <= pipeline.schedule.share.threads <= usable_cores()
    assert "ms for the others alone" in caplog.text
    assert f"beside {usable_cores()} threads" in caplog.text


def test_idle_is_for_the_background(bundle):
    with pytest.raises(ConfigError, match="the policy is 'idle' with key frames in order"):
        Pipeline.open(bundle, policy="idle")


def test_live_frames_are_answered_while_the_first_features_are_waited_for_alone(bundle, images):  # noqa: F811
    with Pipeline.open(bundle, threads=1, depth=1, keys="background") as pipeline:
        first = answer(pipeline, images, 0)
        smaller = answer(pipeline, [image[::2, ::2] for image in images], 1)
    assert (first.key_index, smaller.key_index) == (0, 1)
