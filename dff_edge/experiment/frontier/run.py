"""The frontier in one run: networks trained where they are missing, INT8, accuracy, time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dff_edge.bundle.reader import Bundle
from dff_edge.data.clips import open_clips
from dff_edge.experiment.frontier.accuracy import Distances, ScoredFrames
from dff_edge.experiment.frontier.bundles import Int8Bundles
from dff_edge.experiment.frontier.checkpoints import load_networks
from dff_edge.experiment.frontier.config import FrontierConfig, Role, load_trainings
from dff_edge.experiment.frontier.live import LiveRun, run_live
from dff_edge.experiment.frontier.plot import draw_frontier
from dff_edge.experiment.frontier.results import (
    Frontier,
    Method,
    Row,
    best_of_dff,
    best_rival,
    compare,
)
from dff_edge.experiment.speed import Timed, measure_fps
from dff_edge.files.atomic import write_atomically
from dff_edge.names import FlowFunction
from dff_edge.plan.timing import without_advice
from dff_edge.report.machine import describe_machine
from dff_edge.report.plot import check_plotting
from dff_edge.report.speed import load_images
from dff_edge.trainer.checkpoint import Checkpoint


class _Way(NamedTuple):
    """A network and a way to run it, with a row for each key interval.

    Attributes:
        network, role, method, flow: as of ``Row``.
        bundle: that of the flow, in INT8.
        intervals: key intervals l; none in the background, which is one row.
    """

    network: str
    role: Role
    method: Method
    flow: FlowFunction | None
    bundle: Bundle
    intervals: tuple[int, ...] = ()


def run_frontier(config: FrontierConfig, folder: Path, seeds: Sequence[int]) -> Frontier:
    """Measure all rows and draw ``frontier.png``.

    All rows are scored on the same labelled frames, those with enough frames before them for the
    largest key interval and for the oldest features in the background. Times are measured last,
    all rows in turns.

    Args:
        config: of the frontier.
        folder: of training runs (``runs/<network>``), bundles and accuracies, which are used again.
        seeds: unused: a training has the seed of its configuration.

    Raises:
        ConfigError: a wrong training, or test clips that are too short.
        MissingDependencyError: matplotlib is not installed.
        DffEdgeError: as training, export, calibration and evaluation do.
    """
    check_plotting()  # rather than after an hour of training
    trainings = load_trainings(config)
    largest, kept = max(config.intervals), folder / "accuracies"
    ScoredFrames(config.test, largest - 1, kept)  # raises now where the clips are too short
    checkpoints = load_networks(config, trainings, folder / "runs")
    bundles = Int8Bundles(folder / "bundles", config.calibration)
    ways = [
        way for name in config.networks for way in _ways(config, name, checkpoints[name], bundles)
    ]
    machine = describe_machine()
    lives = _live_runs(config, ways)
    before = max([largest - 1, *(_of_background(live).largest for live in lives.values())])
    scored = ScoredFrames(config.test, before, kept, config.speed.threads)
    accuracies = [
        scored.accuracies(way.bundle, _distances(way, largest, lives.get(way.network)))
        for way in ways
    ]
    ms = _times(config, ways)
    rows = [
        row
        for way, accuracy in zip(ways, accuracies, strict=True)
        for row in _rows(way, accuracy, ms, lives.get(way.network))
    ]
    comparisons, rival = compare(rows), best_rival(rows)
    results = Frontier(
        metric=scored.metric(ways[0].bundle),
        frames_before=before,
        rows=tuple(rows),
        comparisons=comparisons,
        rival=rival,
        frontier_speed_ratio=best_of_dff(comparisons, rival, lambda item: item.speed_ratio),
        frontier_points=best_of_dff(comparisons, rival, lambda item: item.points),
        config=config.model_dump(mode="json"),
        machine=machine,
    )
    write_atomically(folder / "frontier.png", draw_frontier(results))
    return results


def _ways(
    config: FrontierConfig, name: str, checkpoint: Checkpoint, bundles: Int8Bundles
) -> Iterator[_Way]:
    """Yield the ways to run a network, with their bundles."""
    network = config.networks[name]
    flows: tuple[FlowFunction | None, ...] = network.flows if network.is_dff else (None,)
    made = {flow: bundles.of(name, checkpoint, flow) for flow in flows}
    first = made[flows[0]]
    yield _Way(name, network.role, "frame", None, first, (1,))
    if network.is_dff:
        for flow, bundle in made.items():
            yield _Way(name, network.role, "dff", flow, bundle, config.intervals)
    if network.held:
        yield _Way(name, network.role, "held", None, first, config.intervals)
    if network.background:
        yield _Way(name, network.role, "background", "network", made["network"])


def _live_runs(config: FrontierConfig, ways: Sequence[_Way]) -> dict[str, LiveRun]:
    """Return the run of each network that has key frames in the background, by its name."""
    images = load_images(open_clips(config.test), config.speed.frames)
    return {
        way.network: run_live(way.bundle, images, config.camera)
        for way in ways
        if way.method == "background"
    }


def _of_background(live: LiveRun) -> Distances:
    """Return the distances where a key frame is begun as soon as the one before is done."""
    return Distances(live.lag, live.lag)


def _distances(way: _Way, largest: int, live: LiveRun | None) -> Distances:
    """Return the distances of a way's rows; l = 1 of a key network is measured with its flow."""
    if way.method == "background":
        assert live is not None
        return _of_background(live)
    return Distances(largest if way.role == "dff" else 1, are_held=way.method == "held")


def _timed(way: _Way, interval: int) -> Timed:
    """Return what is timed: of held answers the key frame, for the others cost nothing."""
    return Timed(way.bundle.path, 1 if way.method == "held" else interval, "int8")


def _times(config: FrontierConfig, ways: Sequence[_Way]) -> dict[Timed, float]:
    """Return the ms of a frame, the mean over all."""
    timed = dict.fromkeys(_timed(way, interval) for way in ways for interval in way.intervals)
    with without_advice():  # on distances: their accuracy is measured
        fps = measure_fps(tuple(timed), config.test, config.speed)
    return {entry: 1e3 / value for entry, value in fps.items()}


def _rows(
    way: _Way, accuracy: Sequence[float], ms: Mapping[Timed, float], live: LiveRun | None
) -> Iterator[Row]:
    """Yield the rows of a way.

    Args:
        way: how a network is run.
        accuracy: by key interval, from 1 on.
        ms: time of a frame.
        live: of the network's run with key frames in the background.
    """
    if way.method == "background":
        assert live is not None
        yield _row(way, None, accuracy[-1], live.answer_ms, live)
    for interval in way.intervals:
        shared = interval if way.method == "held" else 1  # by the frames that keep an answer
        yield _row(way, interval, accuracy[interval - 1], ms[_timed(way, interval)] / shared)


def _row(
    way: _Way, interval: int | None, accuracy: float, ms: float, live: LiveRun | None = None
) -> Row:
    return Row(
        network=way.network,
        role=way.role,
        method=way.method,
        flow=way.flow,
        interval=interval,
        accuracy=accuracy,
        ms=ms,
        live=live,
    )
