"""The planner: measure what a machine takes for a bundle, and search how to run it.

1. Each precision in each engine is timed for a moment; what nobody would choose is left out.
2. The others are opened in order and, unless their key frames are fast, in the background, on some
   numbers of threads, and timed frame by frame at the camera's rate (``timing``): one measurement
   for all key intervals.
3. Every candidate is simulated with these times (``simulation``), which gives the distances.
4. Accuracy at these distances comes from the manifest, or is measured (``accuracy``).
5. The candidates are compared with the wishes (``judge``). What the choice hangs on is measured for
   longer, and they are compared again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError, DffEdgeError, MissingDependencyError
from dff_edge.evaluation.tasks import MEASURED_TASKS
from dff_edge.frames import Image
from dff_edge.names import Precision
from dff_edge.plan.accuracy import Curve, measure_curves, recorded_curve
from dff_edge.plan.candidates import (
    Candidate,
    Graphs,
    Screened,
    Setup,
    engines_here,
    outdone,
    policies,
    setups,
)
from dff_edge.plan.footage import Footage
from dff_edge.plan.judge import Choice, Wishes, judge, ranked
from dff_edge.plan.simulation import Times, simulate
from dff_edge.plan.timing import measure, screen
from dff_edge.runtime.engines.backends import DEFAULT_BACKEND, backend_of
from dff_edge.runtime.engines.base import usable_cores
from dff_edge.runtime.engines.open import precisions_for
from dff_edge.runtime.engines.openvino import overflows
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.pipelines import Pipelines

_SECONDS = 2.0  # of each setup
_LONGER_SECONDS = 6.0  # of one that the choice hangs on
_ROUNDS = 3
_SURELY_FASTER = 3.0  # than a bound: times vary, and those of single frames are longer
_ACCURACY_SECONDS = 30.0
_SIMULATED_FRAMES = 1000
_SLOWER_RATES = (0.8, 0.65, 0.5, 0.4, 0.3, 0.2, 0.1)

Say = Callable[[str], None]


@dataclass
class Plan:
    """Outcome of planning.

    Attributes:
        wishes: of the user.
        choices: every candidate, the best first.
        times: measured, by setup.
        curves: accuracy by precision and engine; none of those where it is not known.
        metric: of accuracy, for people.
        data: where accuracy is from, for people; None where it is not known.
        full: accuracy of the full network on every frame; None where it is not known.
        left_out: what was not planned with, and why.
        seconds: that planning took.
    """

    wishes: Wishes
    choices: list[Choice]
    times: dict[Setup, Times]
    curves: dict[Graphs, Curve]
    metric: str
    data: str | None
    full: float | None
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def best(self) -> Choice:
        """The best choice; the nearest miss where none fits."""
        return self.choices[0]

    def judged(self, wishes: Wishes) -> list[Choice]:
        """Return the choices for other wishes, the best first."""
        choices = []
        for setup, times in self.times.items():
            begin_s = wishes.streams * max(service.busy_s for service in times.key)
            for candidate in _candidates(setup, times, wishes.rate):
                forecast = simulate(
                    times,
                    candidate.interval,
                    background=not setup.keys.is_in_order,
                    rate=wishes.rate,
                    frames=_SIMULATED_FRAMES + int(begin_s * wishes.rate),
                    streams=wishes.streams,
                )
                curve = self.curves.get((setup.precision, setup.engine))
                accuracy = None if curve is None else curve.expected(forecast.shown)
                choices.append(judge(candidate, forecast, accuracy, self.full, wishes))
        return ranked(choices)

    def fitting_rate(self) -> tuple[float, Choice] | None:
        """Return the fastest of some lower rates at which something fits, and the best there."""
        wishes = self.wishes
        for factor in _SLOWER_RATES:
            rate = wishes.rate * factor
            slower = Wishes(
                rate, wishes.streams, wishes.min_answered, wishes.max_age_s, wishes.max_loss
            )
            best = self.judged(slower)[0]
            if best.fits:
                return rate, best
        return None


def plan_bundle(
    bundle: Bundle,
    footage: Footage,
    wishes: Wishes,
    *,
    precisions: Sequence[Precision] | None = None,
    engines: Sequence[str] | None = None,
    say: Say = lambda text: None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Plan:
    """Search how to run a bundle on this machine.

    Takes some seconds for each setup: half a minute for a small network, minutes for a heavy one.

    Args:
        bundle: a verified bundle.
        footage: frames of the camera, and clips for accuracy where that is to be measured; without
            clips it is that of the manifest.
        wishes: what the run has to keep.
        precisions: None means all that the bundle holds.
        engines: None means all whose packages are installed.
        say: called with what is measured.
        progress: called with (setups done, setups in all).

    Raises:
        BundleError: the bundle lacks a precision.
        ConfigError: nothing is left to choose from, or a bound of the loss is wanted and accuracy
            is not known.
        EngineError, PipelineError: when a stage fails.
    """
    begin_s = time.monotonic()
    _check_accuracy(bundle, footage, wishes)
    left_out: list[str] = []
    screened = _screened(bundle, footage.images, precisions, engines, wishes, left_out, say)
    chosen = [
        setup
        for setup in setups(list(screened), usable_cores())
        if setup.keys.is_in_order
        or _may_need_background(screened[setup.precision, setup.engine], wishes)
    ]
    times: dict[Setup, Times] = {}
    for number, setup in enumerate(chosen):
        progress(number, len(chosen))
        say(f"measuring {setup}")
        measured = _measured(bundle, setup, footage.images, wishes.rate, _SECONDS)
        lacks = _lacking(setup, measured)
        if lacks is None:
            times[setup] = measured
        else:
            left_out.append(f"{setup}: {lacks}")
    progress(len(chosen), len(chosen))
    if not times:
        raise ConfigError(
            "no way to run the bundle could be measured: " + "; ".join(left_out) + "."
        )
    metric = MEASURED_TASKS.find(bundle.manifest.task).metric.title
    plan = Plan(wishes, [], times, {}, metric, None, None, left_out)
    plan.choices = plan.judged(wishes)
    _add_accuracy(plan, bundle, footage, say)
    plan.choices = plan.judged(wishes)
    refined: set[Setup] = set()
    for _ in range(_ROUNDS):
        setup = plan.best.candidate.setup
        if setup in refined:
            break
        refined.add(setup)
        say(f"measuring {setup} for longer")
        # In place of the first look: of many that were measured shortly, the luckiest came first.
        longer = _measured(bundle, setup, footage.images, wishes.rate, _LONGER_SECONDS)
        if _lacking(setup, longer) is None:
            times[setup] = longer
        plan.choices = plan.judged(wishes)
    plan.seconds = time.monotonic() - begin_s
    return plan


@contextmanager
def opened(bundle: Bundle, setup: Setup, streams: int = 1) -> Iterator[Sequence[Pipeline]]:
    """Open the pipelines of a setup, as ``dff-edge run`` does for as many live sources."""
    how: dict[str, Any] = setup._asdict()
    if streams > 1:
        with Pipelines.open(bundle, streams, depth=1, **how) as pipelines:
            yield pipelines
    else:
        with Pipeline.open(bundle, depth=1, **how) as pipeline:
            yield [pipeline]


def _check_accuracy(bundle: Bundle, footage: Footage, wishes: Wishes) -> None:
    """Raise where a loss is to be bounded and nothing is known of accuracy."""
    is_known = footage.clips or recorded_curve(bundle, "fp32", "ort") is not None
    if wishes.max_loss is not None and not is_known:
        raise ConfigError(
            f"a loss of at most {wishes.max_loss:g} points is wanted, and {bundle.path} has no "
            "record of its accuracy. Give a source to measure it on, or record it: dff-edge "
            f"benchmark {bundle.path} --source LABELLED --record"
        )


def _is_exact(bundle: Bundle, precision: Precision, engine: str) -> bool:
    """Return whether an engine computes graphs on this CPU as it does elsewhere."""
    return engine != "openvino" or not overflows(bundle, precision)


def _screened(
    bundle: Bundle,
    images: Sequence[Image],
    precisions: Sequence[Precision] | None,
    engines: Sequence[str] | None,
    wishes: Wishes,
    left_out: list[str],
    say: Say,
) -> dict[Graphs, Screened]:
    """Return the precisions and engines to plan with, and their times."""
    screened: dict[Graphs, Screened] = {}
    for engine in engines or engines_here():
        if wishes.streams > 1 and backend_of(engine).device != "cpu":
            left_out.append(f"{engine}: several cameras share engines on the CPU only")
            continue
        held = precisions_for(bundle, engine)
        for precision in held if precisions is None else precisions:
            if precision not in held:
                continue
            if engines is None and not _is_exact(bundle, precision, engine):
                left_out.append(f"{precision} in {engine}: sums overflow on this CPU, without VNNI")
                continue
            setup = setups([(precision, engine)], usable_cores())[0]
            try:
                with opened(bundle, setup) as (pipeline,):
                    found = screen(pipeline, images)
            except MissingDependencyError:
                if engines is not None:
                    raise
                left_out.append(
                    f"{engine}: not all of it is here; `dff-edge doctor` lists the rest"
                )
                break
            except DffEdgeError as error:
                if engines is not None:
                    raise
                left_out.append(f"{precision} in {engine}: {str(error).rstrip('.')}")
                continue
            screened[precision, engine] = found
            say(
                f"{precision} in {engine}: a key frame takes {1e3 * found.key_s:.1f} ms, another "
                f"frame {1e3 * found.other_s:.1f} ms"
            )
    better = outdone(screened)
    for own, other in better.items():
        left_out.append(
            f"{own[0]} in {own[1]}: slower than {other[0]} in {other[1]}"
            + " and no more accurate" * (own[0] != other[0])
        )
    missing = [p for p in precisions or () if p not in {found[0] for found in screened}]
    if missing or not screened:
        wanted = f" {', '.join(missing)}" * bool(missing)
        tried = "".join(f" {reason}" for reason in left_out)
        raise ConfigError(
            f"nothing here runs the graphs{wanted} of {bundle.path}, which holds "
            f"{', '.join(bundle.precisions)}; engines tried: "
            f"{', '.join(engines or engines_here()) or 'none'}.{tried}"
        )
    return {graphs: found for graphs, found in screened.items() if graphs not in better}


def _may_need_background(screened: Screened, wishes: Wishes) -> bool:
    """Return whether key frames in order may be too slow: else nothing is gained otherwise."""
    bounds_s = [1 / (wishes.rate * wishes.streams)]
    if wishes.max_age_s is not None:
        bounds_s.append(wishes.max_age_s)
    return screened.key_s * _SURELY_FASTER > min(bounds_s)


def _measured(
    bundle: Bundle, setup: Setup, images: Sequence[Image], rate: float, seconds: float
) -> Times:
    with opened(bundle, setup) as (pipeline,):
        return measure(pipeline, images, rate=rate, seconds=seconds)


def _lacking(setup: Setup, times: Times) -> str | None:
    """Return why measured times do not suffice, None where they do."""
    if not times.key or not times.other:
        return "too slow to be measured"
    if not setup.keys.is_in_order and not times.feature_s:
        return "no key frame was done in time"
    return None


def _candidates(setup: Setup, times: Times, rate: float) -> Iterator[Candidate]:
    feature_frames = statistics.median(times.feature_s) * rate if times.feature_s else 0.0
    for policy in policies(setup, feature_frames):
        yield Candidate(setup, policy)


def _add_accuracy(plan: Plan, bundle: Bundle, footage: Footage, say: Say) -> None:
    """Fill in the curves of accuracy, and where they are from."""
    graphs = list(dict.fromkeys((setup.precision, setup.engine) for setup in plan.times))
    # fp32 in any case, for the full network is what a loss is counted from.
    other: Graphs = ("fp32", graphs[0][1] if footage.clips else DEFAULT_BACKEND)
    full = next((own for own in graphs if own[0] == "fp32"), other)
    wanted = list(dict.fromkeys([full, *graphs]))
    if footage.clips:
        most = max(sum(old) for choice in plan.choices for old in choice.forecast.shown)
        say("measuring accuracy by distance")
        curves, frames = measure_curves(
            bundle, footage.clips, wanted, most, seconds=_ACCURACY_SECONDS
        )
        plan.data = f"{frames} frames, against {footage.truth}"
    else:
        curves = {}
        for precision, engine in wanted:
            if not _is_exact(bundle, precision, engine):
                plan.left_out.append(
                    f"recorded accuracy of {precision} in {engine}: its sums overflow on this CPU, "
                    "without VNNI; --source measures what is left"
                )
                continue
            curve = recorded_curve(bundle, precision, backend_of(engine).flavour)
            if curve is not None:
                curves[precision, engine] = curve
        if curves:
            plan.data = "as the manifest records it"
    plan.curves = curves
    if full in curves:
        plan.full = curves[full].at[0]
