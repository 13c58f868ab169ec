"""Comparison of a bundle's precisions and key intervals: accuracy, speed, size.

Everything is measured in one run on one machine, because only ratios of such numbers mean much.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715, section 3, Eq. 5-7, and section 5.2 for "DFF at l".
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.writer import BundleWriter
from dff_edge.data.clips import check_class_names
from dff_edge.data.datasets import LabelledClip
from dff_edge.errors import ConfigError
from dff_edge.evaluation.accuracy import Accuracy
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.evaluation.evaluate import evaluate, temporal_consistency
from dff_edge.evaluation.tasks import MEASURED_TASKS
from dff_edge.names import PRECISIONS, Flavour, Precision
from dff_edge.printable import printable
from dff_edge.report.machine import Machine, describe_machine
from dff_edge.report.repeated import Repeated, paired_ratio
from dff_edge.report.results import (
    Benchmark,
    BundleInfo,
    Latency,
    PrecisionAccuracy,
    Row,
    Settings,
    Stage,
    StageTable,
)
from dff_edge.report.speed import Config, Samples, load_images, measure_speed, open_pipelines
from dff_edge.report.stages import STAGE_COLOURS
from dff_edge.runtime.engines.backends import DEFAULT_BACKEND, backend_of
from dff_edge.runtime.engines.base import usable_cores
from dff_edge.runtime.engines.open import precisions_for
from dff_edge.runtime.engines.options import CudaOptions
from dff_edge.runtime.keys import IN_ORDER, KeyMode

_BASELINE = Config("fp32", 1)


def benchmark_bundle(
    bundle: Bundle,
    clips: Sequence[LabelledClip],
    *,
    source: str,
    precisions: Sequence[Precision] | None = None,
    intervals: Sequence[int] = (1, 5, 10),
    frames: int = 40,
    repetitions: int = 9,
    threads: int | None = None,
    engine: str = DEFAULT_BACKEND,
    overlap: bool | None = None,
    keys: KeyMode = IN_ORDER,
    cuda: CudaOptions | None = None,
    consistency: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Benchmark:
    """Measure a bundle in several precisions at several key intervals.

    Per-frame FP32, the baseline of the speed-ups, is always measured with the others.

    Args:
        bundle: a verified bundle.
        clips: labelled video that the model was not trained, calibrated or chosen on.
        source: name of the clips.
        precisions: None means all that the bundle holds and the engine runs.
        intervals: key intervals l.
        frames: about the number of frames of a repetition; made a multiple of each l.
        repetitions: of each configuration; speed-ups are the medians of their ratios.
        threads: of the feature network; None means the cores this process may use.
        engine: what computes the graphs.
        overlap, keys, cuda: as ``Pipeline.open`` takes them. Accuracy is that of every distance,
            whenever features are used; of a lag see ``dff-edge evaluate --lag``.
        consistency: whether temporal consistency is measured too.
        progress: called with (steps done, steps in all).

    Raises:
        BundleError: the bundle lacks a precision.
        ConfigError: no precision or interval, the data has other classes than the bundle, its
            clips are too short for the largest interval, or consistency is requested for a task
            without it.
    """
    names, task = bundle.manifest.class_names, bundle.manifest.task
    measured_task = MEASURED_TASKS.find(task)
    if consistency and not measured_task.has_consistency:
        raise ConfigError(
            f"temporal consistency of {bundle.path} was requested, which needs segmentation: "
            f"it compares label maps, and this bundle predicts {measured_task.answers}."
        )
    precisions = precisions_for(bundle, engine) if precisions is None else precisions
    flavour = backend_of(engine).flavour
    _check(bundle, source, precisions, intervals, frames, repetitions, flavour)
    configs = _configs(precisions, intervals)
    measured = tuple(p for p in PRECISIONS if any(config.precision == p for config in configs))
    max_interval = max(intervals)
    asked_threads, threads = threads, threads or usable_cores()
    machine = describe_machine()
    step = _steps(progress, len(measured) * len(clips) + repetitions * len(configs))

    accuracies: dict[Precision, Accuracy] = {}
    steadiness: dict[Config, float | None] = {}
    for precision in measured:
        with BundlePredictor(bundle, precision, threads, engine, cuda) as predictor:
            accuracies[precision] = evaluate(
                predictor, clips, names, max_interval, lambda done, total: step(), task
            )
            for config in configs if consistency else ():
                if config.precision == precision:
                    steadiness[config] = temporal_consistency(
                        predictor, clips, len(names), config.interval
                    )
    images = load_images(clips, frames)
    with open_pipelines(bundle, measured, asked_threads, engine, overlap, keys, cuda) as pipelines:
        depth = next(iter(pipelines.values())).depth
        schedules = {precision: str(pipelines[precision].schedule) for precision in measured}
        samples = measure_speed(
            pipelines, configs, images, frames=frames, repetitions=repetitions, progress=step
        )
    shown = Config(measured[-1], max_interval)
    return Benchmark(
        bundle=_bundle_info(bundle),
        machine=_watched(machine, samples.values()),
        settings=Settings(
            source=printable(source),
            metric=next(iter(accuracies.values())).metric.title,
            clips=len(clips),
            max_interval=max_interval,
            repetitions=repetitions,
            threads=threads,
            engine=engine,
            depth=depth,
            keys=str(keys),
            schedules=schedules,
        ),
        rows=tuple(
            _row(
                config,
                samples,
                accuracy=accuracies[config.precision].at_interval(config.interval),
                consistency=steadiness.get(config),
                size_bytes=bundle.size_bytes(config.precision, flavour),
            )
            for config in configs
        ),
        accuracy={
            precision: _precision_accuracy(accuracy, max_interval)
            for precision, accuracy in accuracies.items()
        },
        stages=StageTable(
            precision=shown.precision,
            interval=shown.interval,
            stages=_stages(samples[shown]),
        ),
    )


def predicted_speedup(cost_ratio: float, interval: int) -> float:
    """Compute Eq. 7: ``s = l / (1 + (l - 1) r)``.

    Example:
        >>> predicted_speedup(cost_ratio=0.25, interval=5)
        2.5
    """
    return interval / (1 + (interval - 1) * cost_ratio)


def record_accuracy(bundle: Bundle, benchmark: Benchmark) -> Bundle:
    """Write the measured accuracy into the bundle's manifest; return the changed bundle.

    Raises:
        BundleError: the bundle changed since it was measured, or cannot be written.
    """
    metric = MEASURED_TASKS.find(bundle.manifest.task).metric
    protocol = (
        f"{metric.title} over the pairs (k, i), k = i - l + 1 .. i (Zhu et al., CVPR 2017, section "
        f"5.2); frames i with {benchmark.settings.max_interval - 1} frames before them"
    )
    common = {"data": printable(benchmark.settings.source)[:4096], "protocol": protocol}
    records = [
        {
            **common,
            "precision": row.precision,
            "key_interval": row.interval,
            metric.key: row.accuracy,
        }
        for row in benchmark.rows
        if row.accuracy is not None
    ]
    records += [
        {**common, "precision": precision, "distance": distance, metric.key: value}
        for precision, accuracy in benchmark.accuracy.items()
        for distance, value in enumerate(accuracy.at_distance)
        if value is not None
    ]
    with BundleWriter.extend(bundle) as writer:
        writer.update(accuracy=records)
        return writer.commit()


def _check(
    bundle: Bundle,
    source: str,
    precisions: Sequence[Precision],
    intervals: Sequence[int],
    frames: int,
    repetitions: int,
    flavour: Flavour,
) -> None:
    if not precisions or not intervals or min(intervals) < 1 or frames < 1 or repetitions < 1:
        raise ConfigError(
            f"precisions {list(precisions)}, intervals {list(intervals)}, frames {frames}, "
            f"repetitions {repetitions}: expected at least one of each, and numbers from 1 up."
        )
    for precision in precisions:
        bundle.size_bytes(precision, flavour)  # raises with a list of those that it holds
    check_class_names(source, bundle.manifest.task, bundle.manifest.class_names, "the bundle")


def _configs(precisions: Iterable[Precision], intervals: Iterable[int]) -> list[Config]:
    """Return all combinations and the baseline, in the order of the table."""
    asked = {Config(precision, interval) for precision in precisions for interval in intervals}
    return sorted(
        asked | {_BASELINE},
        key=lambda config: (PRECISIONS.index(config.precision), config.interval),
    )


def _steps(progress: Callable[[int, int], None] | None, total: int) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return step


def _row(
    config: Config,
    samples: dict[Config, Samples],
    *,
    accuracy: float,
    consistency: float | None,
    size_bytes: int,
) -> Row:
    own = samples[config]
    per_frame = samples.get(Config(config.precision, 1))
    ratio = None
    if own.other_ms:
        ratio = statistics.median(own.other_ms) / statistics.median(own.key_ms)
    return Row(
        precision=config.precision,
        interval=config.interval,
        accuracy=_number(accuracy),
        consistency=_number(consistency),
        frames=own.frames,
        seconds=tuple(own.seconds),
        fps=_fps(own),
        speedup=_speedup(own, samples[_BASELINE]),
        key=_latency(own.key_ms),
        other=_latency(own.other_ms) if own.other_ms else None,
        cost_ratio=ratio,
        predicted_speedup=None if ratio is None else predicted_speedup(ratio, config.interval),
        own_speedup=None if per_frame is None else _speedup(own, per_frame),
        size_mb=size_bytes / 1e6,
        key_share=len(own.key_ms) / (len(own.key_ms) + len(own.other_ms)),
        expected_disagreement=statistics.mean(own.expected) if own.expected else None,
    )


def _fps(samples: Samples) -> float:
    return samples.frames / statistics.median(samples.seconds)


def _speedup(own: Samples, other: Samples) -> Repeated:
    """Return the ratio of the frame rates of ``own`` and ``other``."""
    return paired_ratio(
        [seconds / other.frames for seconds in other.seconds],
        [seconds / own.frames for seconds in own.seconds],
    )


def _latency(values_ms: Sequence[float]) -> Latency:
    return Latency(
        count=len(values_ms),
        p50_ms=float(np.percentile(values_ms, 50)),
        p99_ms=float(np.percentile(values_ms, 99)),
    )


def _stages(samples: Samples) -> tuple[Stage, ...]:
    frames = len(samples.key_ms) + len(samples.other_ms)
    times = {name: samples.stages_ms[name] for name in STAGE_COLOURS if name in samples.stages_ms}
    in_all = sum(sum(values) for values in times.values())
    return tuple(
        Stage(
            name=name,
            runs=len(values),
            p50_ms=statistics.median(values),
            ms_per_frame=sum(values) / frames,
            share=sum(values) / in_all,
        )
        for name, values in times.items()
    )


def _watched(machine: Machine, samples: Iterable[Samples]) -> Machine:
    """Return the machine, with the load of other programs during the measurement."""
    others = [cores for own in samples for cores in own.others]
    if not others:
        return machine
    return machine.model_copy(update={"busy_cores": round(statistics.mean(others), 2)})


def _precision_accuracy(accuracy: Accuracy, max_interval: int) -> PrecisionAccuracy:
    return PrecisionAccuracy(
        at_distance=tuple(
            _number(accuracy.at_distance(distance)) for distance in range(max_interval)
        ),
        by_class_frame=accuracy.by_class(1),
        by_class=accuracy.by_class(max_interval),
    )


def _bundle_info(bundle: Bundle) -> BundleInfo:
    manifest = bundle.manifest
    calibration = manifest.calibration.get("ort", {}).get("int8")
    return BundleInfo(
        path=str(bundle.path),
        digest=bundle.digest,
        frame_size=manifest.frame_size,
        channels=manifest.channels,
        classes=manifest.classes,
        training_data=manifest.provenance.training_data,
        calibration_source=None if calibration is None else calibration.source,
    )


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
