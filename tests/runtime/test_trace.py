"""The trace: every stage of every frame where and when it ran, in a format that viewers read."""

import json
import time

import numpy as np
import pytest

from dff_edge.files.atomic import AtomicFile
from dff_edge.runtime import trace as trace_module
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.trace import StageSpan, Trace
from tests.bundle.bundles import make_bundle

STREAMS = {
    "resize": "caller",
    "feature": "feature",
    "flow": "flow",
    "warp": "task",
    "task": "task",
    "decode": "decode",
}


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A trace of eight frames with a key frame in every four, and the seconds that they took."""
    bundle = make_bundle(tmp_path_factory.mktemp("bundle") / "small", (32, 64))
    images = np.random.default_rng(3).integers(0, 256, (8, 40, 80, 3), dtype=np.uint8)
    trace = Trace()
    with Pipeline.open(bundle, policy="fixed:4", threads=1, depth=3, trace=trace) as pipeline:
        start = time.perf_counter()
        for image in images:
            if pipeline.is_full:
                pipeline.poll(block=True)
            pipeline.submit(image)
        results = []
        while (result := pipeline.poll(block=True)) is not None:
            results.append(result)
        seconds = time.perf_counter() - start
    return trace, results, seconds


def test_every_stage_of_every_frame_is_there_on_its_stream(traced):
    trace, _, _ = traced
    for frame in range(8):
        spans = [span for span in trace.spans if span.frame == frame]
        own = {"feature"} if frame % 4 == 0 else {"flow", "warp"}
        assert {span.stage for span in spans} == own | {"resize", "task", "decode"}
        assert all(span.stream == STREAMS[span.stage] for span in spans)
        assert {span.key for span in spans} == {frame // 4 * 4}
    assert trace.lost == 0


def test_spans_lie_in_the_run_and_in_the_order_of_the_method(traced):
    trace, results, seconds = traced
    first, last = (f(span.start_ms for span in trace.spans) for f in (min, max))
    assert last - first < seconds * 1e3
    for frame in range(8):
        at = {span.stage: span for span in trace.spans if span.frame == frame}
        assert all(span.start_ms <= span.end_ms for span in at.values())
        stages = ["resize", "feature", "task", "decode"]
        if frame % 4:
            stages = ["resize", "flow", "warp", "task", "decode"]
        for before, after in zip(stages, stages[1:], strict=False):
            # The caller's clock is matched with the streams' to within a hand-over between threads.
            slack_ms = 1.0 if before == "resize" else 0.01
            assert at[before].end_ms <= at[after].start_ms + slack_ms, (frame, before, after)
    for result in results:
        at = {span.stage: span for span in trace.spans if span.frame == result.frame.index}
        spent = at["task"].end_ms - at["task"].start_ms
        assert spent == pytest.approx(result.stage_ms["task"], abs=1e-6)


def test_work_of_one_stream_does_not_overlap(traced):
    trace, _, _ = traced
    for stream in set(STREAMS.values()):
        spans = sorted((s.start_ms, s.end_ms) for s in trace.spans if s.stream == stream)
        assert all(a[1] <= b[0] + 0.01 for a, b in zip(spans, spans[1:], strict=False)), stream


def test_file_is_the_trace_event_format(tmp_path):
    trace = Trace()
    trace.add(StageSpan("flow", "flow", 7, 5, 1.5, 4.0))
    trace.add(StageSpan("warp", "task", 7, 5, 4.0, 4.25))
    trace.add(StageSpan("flow", "flow", 8, 5, 4.5, 6.0))
    with AtomicFile(tmp_path / "trace.json") as file:
        trace.write(file)
        file.commit()

    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    spans = [e for e in events if e["ph"] == "X"]
    assert sorted(names.values()) == ["flow", "task"]
    assert [names[e["tid"]] for e in spans] == ["flow", "task", "flow"]
    assert [(e["name"], e["ts"], e["dur"]) for e in spans] == [
        ("flow 7", 1500.0, 2500.0),  # microseconds
        ("warp 7", 4000.0, 250.0),
        ("flow 8", 4500.0, 1500.0),
    ]
    assert spans[0]["args"] == {"frame": 7, "key": 5}


def test_a_full_trace_counts_what_comes_later(monkeypatch):
    monkeypatch.setattr(trace_module, "MAX_SPANS", 2)
    trace = Trace()
    for frame in range(5):
        trace.add(StageSpan("flow", "flow", frame, 0, 0.0, 1.0))
    assert [span.frame for span in trace.spans] == [0, 1]
    assert trace.lost == 3
