"""The benchmark's numbers against each other, against Eq. 7, and against the evaluation."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import pytest

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.writer import BundleWriter
from dff_edge.errors import BundleError, ConfigError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.evaluation.evaluate import evaluate, temporal_consistency
from dff_edge.report.benchmark import benchmark_bundle, predicted_speedup, record_accuracy
from dff_edge.report.machine import CpuUsage
from dff_edge.report.repeated import Repeated
from dff_edge.report.results import Benchmark
from tests.report.clips import NoiseClip, UnlabelledClip

REL = 1e-9  # the same sums in another order


def test_table_has_every_precision_at_every_interval(benchmark: Benchmark) -> None:
    found = [(row.precision, row.interval) for row in benchmark.rows]
    assert found == [("fp32", 1), ("fp32", 3), ("int8", 1), ("int8", 3)]


def test_speedup_is_over_per_frame_fp32(benchmark: Benchmark) -> None:
    base = benchmark.row("fp32", 1)
    assert (base.speedup.low, base.speedup.median, base.speedup.high) == (1.0, 1.0, 1.0)
    for row in benchmark.rows:
        # By hand: frames a second of each repetition, by those of the baseline in it.
        ratios = sorted(
            (row.frames / own) / (base.frames / other)
            for own, other in zip(row.seconds, base.seconds, strict=True)
        )
        assert row.speedup.median == pytest.approx(ratios[1], rel=REL)
        assert (row.speedup.low, row.speedup.high) == pytest.approx((ratios[0], ratios[2]), rel=REL)


def test_own_speedup_is_over_per_frame_of_the_same_precision(benchmark: Benchmark) -> None:
    row, per_frame = benchmark.row("int8", 3), benchmark.row("int8", 1)
    ratios = [
        (row.frames / own) / (per_frame.frames / other)
        for own, other in zip(row.seconds, per_frame.seconds, strict=True)
    ]
    assert row.own_speedup is not None
    assert row.own_speedup.median == pytest.approx(statistics.median(ratios), rel=REL)


def test_fps_is_frames_by_the_median_of_the_repetitions(benchmark: Benchmark) -> None:
    for row in benchmark.rows:
        assert len(row.seconds) == 3
        assert row.fps * statistics.median(row.seconds) == pytest.approx(row.frames, rel=REL)


def test_repetitions_are_whole_key_intervals(benchmark: Benchmark) -> None:
    assert [row.frames for row in benchmark.rows] == [7, 6, 7, 6]
    per_frame, other = benchmark.row("int8", 1), benchmark.row("int8", 3)
    assert (per_frame.key.count, per_frame.other) == (21, None)
    assert other.other is not None
    assert (other.key.count, other.other.count) == (6, 12)  # of 3 repetitions


def test_prediction_is_of_the_measured_latencies(benchmark: Benchmark) -> None:
    row = benchmark.row("fp32", 3)
    assert row.other is not None
    assert row.cost_ratio == pytest.approx(row.other.p50_ms / row.key.p50_ms, rel=REL)
    assert row.predicted_speedup == pytest.approx(3 / (1 + 2 * row.cost_ratio), rel=REL)
    assert benchmark.row("fp32", 1).cost_ratio is None


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 5.0), (0.25, 2.5), (1.0, 1.0)])
def test_eq_7_by_hand(ratio: float, expected: float) -> None:
    assert predicted_speedup(ratio, 5) == expected


def test_accuracy_is_that_of_the_evaluation(
    benchmark: Benchmark, bundle: Bundle, clips: list[NoiseClip]
) -> None:
    names = bundle.manifest.class_names
    for precision in bundle.precisions:
        with BundlePredictor(bundle, precision, 1) as predictor:
            accuracy = evaluate(predictor, clips, names, 3)
            steady = temporal_consistency(predictor, clips, len(names), 3)
        assert benchmark.row(precision, 1).accuracy == accuracy.at_interval(1)
        assert benchmark.row(precision, 3).accuracy == accuracy.at_interval(3)
        assert benchmark.row(precision, 3).consistency == steady
        details = benchmark.accuracy[precision]
        assert details.at_distance == tuple(accuracy.at_distance(d) for d in range(3))
        assert details.by_class == accuracy.by_class(3)
    fp32, int8 = benchmark.row("fp32", 3), benchmark.row("int8", 3)
    assert fp32.accuracy != int8.accuracy  # other weights: each is measured on its own graphs


def test_size_is_that_of_the_three_graphs(benchmark: Benchmark, bundle: Bundle) -> None:
    files = [bundle.path / "int8" / f"{name}.onnx" for name in ("feature", "flow", "task")]
    size = sum(path.stat().st_size for path in files)
    assert benchmark.row("int8", 1).size_mb == size / 1e6


def test_stage_shares_add_up(benchmark: Benchmark) -> None:
    table = benchmark.stages
    assert (table.precision, table.interval) == ("int8", 3)
    assert [stage.name for stage in table.stages] == [
        "resize", "feature", "flow", "warp", "task", "decode", "runtime",
    ]  # fmt: skip
    assert sum(stage.share for stage in table.stages) == pytest.approx(1, rel=REL)
    assert {stage.name: stage.runs for stage in table.stages} == {
        "resize": 18, "feature": 6, "flow": 12, "warp": 12, "task": 18, "decode": 18, "runtime": 18,
    }  # fmt: skip


def test_stages_make_up_the_latency(benchmark: Benchmark) -> None:
    row = benchmark.row("fp32", 1)
    assert all(stage.p50_ms >= 0 for stage in benchmark.stages.stages)
    assert row.key.p50_ms <= row.key.p99_ms


def test_baseline_is_measured_when_it_was_not_asked_for(
    bundle: Bundle, clips: list[NoiseClip]
) -> None:
    benchmark = _small(bundle, clips, precisions=["int8"], intervals=[2])

    assert [(row.precision, row.interval) for row in benchmark.rows] == [("fp32", 1), ("int8", 2)]
    assert benchmark.row("int8", 2).own_speedup is None
    assert benchmark.row("int8", 2).consistency is None


def test_json_is_read_again_and_holds_no_nan(benchmark: Benchmark) -> None:
    text = json.dumps(benchmark.model_dump(mode="json"), allow_nan=False)
    assert Benchmark.from_json(text) == benchmark


def test_data_that_is_not_labelled_gives_no_number(bundle: Bundle) -> None:
    benchmark = _small(bundle, [UnlabelledClip(1)])

    assert [row.accuracy for row in benchmark.rows] == [None] * len(benchmark.rows)
    json.dumps(benchmark.model_dump(mode="json"), allow_nan=False)


def test_other_json_is_refused() -> None:
    with pytest.raises(ConfigError, match="not the JSON of dff-edge benchmark: bundle: "):
        Benchmark.from_json("{}")


def test_row_that_was_not_measured_is_refused(benchmark: Benchmark) -> None:
    with pytest.raises(ConfigError, match="fp16 l=3 was not measured, only fp32 l=1, "):
        benchmark.row("fp16", 3)


def test_precision_that_the_bundle_lacks_is_refused_before_anything_is_measured(
    bundle: Bundle, clips: list[NoiseClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dff_edge.report.benchmark.evaluate", None)
    with pytest.raises(BundleError, match="holds no fp16 graphs, only fp32, int8"):
        _small(bundle, clips, precisions=["fp32", "fp16"])


def test_data_of_other_classes_is_refused(bundle: Bundle, clips: list[NoiseClip]) -> None:
    with pytest.raises(ConfigError, match="has the classes sky, .* the bundle class0, class1"):
        _small(bundle, clips, source="synthetic://street")


def test_clips_that_are_too_short_are_refused_before_speed_is_measured(
    bundle: Bundle, clips: list[NoiseClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dff_edge.report.benchmark.measure_speed", None)
    with pytest.raises(ConfigError, match="no labelled frame has 8 frames before it"):
        _small(bundle, clips, intervals=[9])


def test_nothing_to_measure_is_refused(bundle: Bundle, clips: list[NoiseClip]) -> None:
    with pytest.raises(ConfigError, match="at least one of each"):
        _small(bundle, clips, intervals=[])


def test_progress_reaches_its_end(bundle: Bundle, clips: list[NoiseClip]) -> None:
    steps: list[tuple[int, int]] = []
    _small(bundle, clips, progress=lambda done, total: steps.append((done, total)))

    total = 2 * 2 + 2 * 4  # precisions x clips + repetitions x configurations
    assert steps == [(done, total) for done in range(1, total + 1)]


def test_accuracy_is_recorded_in_the_manifest(
    benchmark: Benchmark, bundle: Bundle, tmp_path: Path
) -> None:
    copy = _copy(bundle, tmp_path)
    recorded = record_accuracy(copy, benchmark).manifest.accuracy

    at_interval = {(r.precision, r.key_interval): r.value for r in recorded if r.key_interval}
    assert at_interval == {(row.precision, row.interval): row.accuracy for row in benchmark.rows}
    at_distance = [r.value for r in recorded if r.precision == "int8" and r.distance is not None]
    assert tuple(at_distance) == benchmark.accuracy["int8"].at_distance
    assert {r.data for r in recorded} == {"noise"}


def test_bundle_that_changed_meanwhile_is_not_recorded_into(
    benchmark: Benchmark, bundle: Bundle, tmp_path: Path
) -> None:
    copy = _copy(bundle, tmp_path)
    with BundleWriter.extend(copy.path) as writer:
        writer.update(default_key_interval=7)
        changed = writer.commit()

    with pytest.raises(BundleError, match="was changed by another process since it was opened"):
        record_accuracy(copy, benchmark)
    assert Bundle.open(copy.path).digest == changed.digest


def test_notes_tell_what_is_wrong_with_a_measurement(benchmark: Benchmark) -> None:
    clean = _steady(benchmark)
    assert clean.notes == ()

    (busy,) = _with_machine(clean, busy_cores=1.5).notes
    assert "1.5 of the 2 cores busy" in busy
    (noisy,) = _with_speedup(clean, 5.9, 7.8, 19.1).notes
    assert "differ too much for 1 of the 4 speed-ups" in noisy
    (same,) = _with_calibration(clean, "noise").notes
    assert "the very data" in same
    half = clean.model_copy(update={"accuracy": {**clean.accuracy, "fp16": clean.accuracy["fp32"]}})
    (emulated,) = half.notes
    assert emulated.startswith("FP16 is emulated on a CPU")
    on_gpu = half.settings.model_copy(update={"engine": "tensorrt"})
    assert half.model_copy(update={"settings": on_gpu}).notes == ()


def test_headline_of_a_steady_measurement_is_told(benchmark: Benchmark) -> None:
    assert _steady(benchmark).doubt is None


def test_headline_of_repetitions_that_differ_is_too_noisy_to_say(benchmark: Benchmark) -> None:
    noisy = _with_speedup(_steady(benchmark), 5.9, 7.8, 19.1)

    assert noisy.doubt == "too noisy to say: 5.90 to 19.10 in 9 repetitions"


def test_headline_beside_other_programs_is_too_noisy_to_say(benchmark: Benchmark) -> None:
    """Repetitions may agree where another program took as much of each."""
    busy = _with_machine(_steady(benchmark), busy_cores=1.0)

    assert busy.doubt == "too noisy to say: other programs kept 1.0 of the 2 cores busy"


def test_headline_needs_repetitions_to_compare(benchmark: Benchmark) -> None:
    few = _with_speedup(_steady(benchmark), 7.8, 7.8, 7.8, count=1)

    assert few.doubt == "too few repetitions to say: 1, expected 5 or more"


def test_what_other_programs_do_is_watched_while_speed_is_measured(
    bundle: Bundle, clips: list[NoiseClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(1000))

    def usage() -> CpuUsage:  # each look 1 s after the one before, with 1.75 s of CPU in it
        look = next(looks)
        return CpuUsage(at=look, busy=1.75 * look, own=0.5 * look)

    monkeypatch.setattr("dff_edge.report.speed.cpu_usage", usage)

    assert _small(bundle, clips).machine.busy_cores == 1.25


def _steady(benchmark: Benchmark) -> Benchmark:
    """The same, as if measured on a quiet machine."""
    quiet = _with_machine(benchmark, busy_cores=0.0)
    eight = Repeated(median=8, low=7.8, high=8.2, count=9)
    rows = tuple(row.model_copy(update={"speedup": eight}) for row in quiet.rows)
    return quiet.model_copy(update={"rows": rows})


def _with_speedup(
    benchmark: Benchmark, low: float, median: float, high: float, count: int = 9
) -> Benchmark:
    """The same, with another speed-up of the last row, which is the headline's."""
    speedup = Repeated(median=median, low=low, high=high, count=count)
    *others, last = benchmark.rows
    rows = (*others, last.model_copy(update={"speedup": speedup}))
    return benchmark.model_copy(update={"rows": rows})


def _small(bundle: Bundle, clips: list[NoiseClip], **options: object) -> Benchmark:
    settings: dict[str, object] = {"source": "noise", "intervals": [1, 2], "frames": 4}
    settings |= {"repetitions": 2, "threads": 1, **options}
    return benchmark_bundle(bundle, clips, **settings)  # type: ignore[arg-type]


def _copy(bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(bundle.path, tmp_path / "copy"))


def _with_machine(benchmark: Benchmark, busy_cores: float) -> Benchmark:
    machine = benchmark.machine.model_copy(update={"busy_cores": busy_cores, "cores": 2})
    return benchmark.model_copy(update={"machine": machine})


def _with_calibration(benchmark: Benchmark, source: str) -> Benchmark:
    info = benchmark.bundle.model_copy(update={"calibration_source": source})
    return benchmark.model_copy(update={"bundle": info})
