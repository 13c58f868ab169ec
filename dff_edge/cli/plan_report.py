"""The report of `dff-edge plan`: its table, its advice, its numbers."""

from __future__ import annotations

import shlex
from typing import Any

import click

from dff_edge.bundle.reader import Bundle
from dff_edge.cli.command import table
from dff_edge.plan.judge import Choice, Miss, relaxed
from dff_edge.plan.planner import Plan
from dff_edge.plan.verify import Speed, off

_WIDTH = 100  # of the notes
_LITTLE_ROOM = 0.85  # at work for more of the time, slower frames queue
_NEARLY_ALL = 0.98  # of the frames: of fewer answered, some are dropped already


def print_plan(plan: Plan, bundle: Bundle, *, is_all: bool) -> None:
    """Print the candidates as a table, the best with its command, and why others fall short.

    Args:
        plan: of the bundle.
        bundle: its bundle.
        is_all: whether all candidates are printed, else the best of each kind.
    """
    shown = plan.choices if is_all else _best_of_each(plan.choices)
    has_accuracy = any(choice.accuracy is not None for choice in shown)
    headers = ["", "key frames", "fps", "answ.", "p50", "p99", "old"]
    headers += [plan.metric.partition("@")[0]] * has_accuracy + ["but"]
    table(headers, [_row(choice, plan, has_accuracy) for choice in shown])
    click.echo()
    if len(shown) < len(plan.choices):
        _note(
            "Each line is the best engine and number of threads of its kind; --all prints "
            f"{len(plan.choices)}."
        )
    _note(
        "answ.: answered, of the frames captured; p50, p99: age of answers from capture, ms; old: "
        "mean age in frames of the features that a captured frame is left with."
    )
    _accuracy_notes(plan, bundle)
    for reason in plan.left_out:
        _note(f"Left out: {reason}.")
    click.echo()
    best = plan.best
    if best.fits:
        click.echo("Best:")
        click.echo(f"  {_line(bundle, best, plan)}")
        _about_room(plan)
        _about_per_frame(plan)
    else:
        _nothing_fits(plan, bundle)


def _row(choice: Choice, plan: Plan, has_accuracy: bool) -> list[str]:
    forecast, setup = choice.forecast, choice.candidate.setup
    threads = "" if setup.threads is None else f"/{setup.threads}"
    background = "" if setup.keys.is_in_order else ", background"
    cells = [
        f"{setup.precision} {setup.engine}{threads}",
        f"{choice.candidate.policy}{background}",
        f"{forecast.fps:.1f}",
        f"{forecast.answered_share:.1%}",
        _ms(forecast.age_s(50)),
        _ms(forecast.age_s(99)),
        f"{forecast.staleness:.{int(forecast.staleness < 9.95)}f}",
    ]
    if has_accuracy:
        cells.append(_percent(choice))
    why = ", ".join(map(_lack, choice.misses))
    return [*cells, "best" if choice is plan.best and choice.fits else why]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def _lack(miss: Miss) -> str:
    if miss.wish == "loss":
        return "loss?" if miss.got is None else "loss"
    return {"answered": "drops", "age": "late"}[miss.wish]


def _percent(choice: Choice) -> str:
    if choice.accuracy is None:
        return "-"
    bound = "<" if choice.accuracy.is_bound else ""
    return f"{bound}{100 * choice.accuracy.value:.1f}"


def _best_of_each(choices: list[Choice]) -> list[Choice]:
    """Return the first of each precision, key mode and policy."""
    found: dict[tuple[Any, ...], Choice] = {}
    for choice in choices:
        setup = choice.candidate.setup
        found.setdefault((setup.precision, setup.keys, choice.candidate.policy), choice)
    return list(found.values())


def _accuracy_notes(plan: Plan, bundle: Bundle) -> None:
    record = f"dff-edge benchmark {bundle.path} --intervals 1,30 --source LABELLED --record"
    if plan.data is None:
        _note(
            "Accuracy is not known: fresher features stand for it. Give --source CLIP to measure "
            f"it, or record it: {record}"
        )
        return
    _note(
        f"{plan.metric}: {plan.data}; over all captured frames, of which one without an answer "
        "keeps the answer before it."
    )
    if plan.full is not None:
        _note(
            f"loss: against {100 * plan.full:.1f} of the full network in fp32 on every frame; "
            "loss?: cannot be promised."
        )
    if any(choice.accuracy is not None and choice.accuracy.is_bound for choice in plan.choices):
        _note(
            "<: at most so much; some frames have older features, or keep an answer for longer, "
            f"than accuracy is known for. Give --source CLIP, of longer clips, or: {record}"
        )
    setup, distance = plan.best.candidate.setup, plan.best.forecast.distance(99)
    is_known = (setup.precision, setup.engine) in plan.curves
    limit = bundle.manifest.known_distance(setup.precision) if is_known else None
    if limit is not None and distance > limit:
        _note(
            f"The features of the best are up to {distance:.0f} frames old, and the model was "
            f"trained and calibrated for {limit}."
        )


def _line(bundle: Bundle, choice: Choice, plan: Plan) -> str:
    cameras = [str(number) for number in range(plan.wishes.streams)]
    words = ["dff-edge", "run", str(bundle.path), *cameras, *choice.candidate.options()]
    return shlex.join(words)


def _about_room(plan: Plan) -> None:
    forecast = plan.best.forecast
    if forecast.busy_share > _LITTLE_ROOM and forecast.answered_share > _NEARLY_ALL:
        _note(
            f"It is at work for {forecast.busy_share:.0%} of the time: on a machine that is a "
            "little slower than now frames wait for each other, and ages grow by more than that. "
            "A lower --rate leaves room."
        )


def _about_per_frame(plan: Plan) -> None:
    if plan.best.candidate.is_per_frame:
        _note(
            "Plain per-frame inference is the better choice here: the full network answers every "
            "frame in time, and feature flow would only lose accuracy."
        )
        return
    per_frame = next((c for c in plan.choices if c.candidate.is_per_frame), None)
    if per_frame is None:
        return
    forecast = per_frame.forecast
    accuracy = "" if per_frame.accuracy is None else f", {plan.metric} {_percent(per_frame)} %"
    _note(
        f"Per-frame inference ({per_frame.candidate.setup.precision}, at its best) would answer "
        f"{forecast.answered_share:.1%} of the frames at an age of "
        f"{1e3 * forecast.age_s(99):.0f} ms (p99){accuracy}."
    )


def _nothing_fits(plan: Plan, bundle: Bundle) -> None:
    click.echo("Nothing fits. The nearest miss:")
    click.echo(f"  {_line(bundle, plan.best, plan)}")
    helps = []
    for wish, choice in relaxed(plan.choices, plan.wishes).items():
        (miss,) = choice.misses
        assert miss.got is not None
        option = {
            "age": f"--max-age {1e3 * miss.got * 1.1:.0f}ms",
            "loss": f"--max-loss {miss.got + 0.1:.1f}",
            "answered": f"--min-answered {100 * miss.got * 0.99:.0f}",
        }[wish]
        setup = choice.candidate.setup
        helps.append(f"{option} ({setup.precision}, {choice.candidate.policy}, keys {setup.keys})")
    slower = plan.fitting_rate()
    if slower is not None:
        helps.append(f"--rate {slower[0]:.3g} ({slower[1].candidate.policy})")
    if "int8" not in bundle.precisions:
        helps.append(f"INT8 graphs (dff-edge calibrate {bundle.path} --source CLIPS)")
    click.echo("It would fit, or come closer, with:" if helps else "A lighter model would help.")
    for text in helps:
        click.echo(f"  {text}")


def print_verified(plan: Plan, measured: Speed) -> None:
    """Print the forecast of the best beside its measured speed."""
    expected = Speed.of(plan.best.forecast)
    errors = off(expected, measured)
    rows = []
    for title, field, factor in (
        ("fps", "fps", 1.0),
        ("answered %", "answered_share", 100.0),
        ("age p50 ms", "age_p50_s", 1e3),
        ("age p99 ms", "age_p99_s", 1e3),
        ("distance p50", "distance_p50", 1.0),
    ):
        values = [f"{factor * getattr(speed, field):.1f}" for speed in (expected, measured)]
        if field == "age_p50_s":
            values = [_median_ms(speed) for speed in (expected, measured)]
        rows.append([title, *values, f"{errors[field]:+.0%}" if field in errors else ""])
    click.echo("\nVerified, on a paced source:")
    table(["", "predicted", "measured", "off"], rows)
    if expected.has_two_medians or measured.has_two_medians:
        _note(
            "About half of the answers are key frames, and the median age is that of one kind or "
            "of the other: given are the 48th and the 52nd percentile, off is of the nearest pair."
        )


def _median_ms(speed: Speed) -> str:
    if speed.has_two_medians:
        return f"{1e3 * speed.age_p48_s:.1f} to {1e3 * speed.age_p52_s:.1f}"
    return f"{1e3 * speed.age_p50_s:.1f}"


def numbers_of(
    plan: Plan, bundle: Bundle, measured: Speed | None, machine: dict[str, Any]
) -> dict[str, Any]:
    """Return the numbers of a plan, ready for JSON.

    Args:
        plan: of the bundle.
        bundle: its bundle.
        measured: speed of the best, where it was run.
        machine: as ``Machine`` describes it.
    """
    wishes = plan.wishes
    return {
        "bundle": str(bundle.path),
        "machine": machine,
        "wishes": {
            "rate": wishes.rate,
            "streams": wishes.streams,
            "min_answered": wishes.min_answered,
            "max_age_s": wishes.max_age_s,
            "max_loss": wishes.max_loss,
        },
        "seconds": plan.seconds,
        "metric": plan.metric,
        "accuracy_of": plan.data,
        "full_accuracy": plan.full,
        "fits": plan.best.fits,
        "run": _line(bundle, plan.best, plan),
        "candidates": [_candidate(choice) for choice in plan.choices],
        "left_out": plan.left_out,
        "verified": None if measured is None else measured._asdict(),
        "off": None if measured is None else off(Speed.of(plan.best.forecast), measured),
    }


def _candidate(choice: Choice) -> dict[str, Any]:
    setup = choice.candidate.setup
    return {
        "precision": setup.precision,
        "engine": setup.engine,
        "threads": setup.threads,
        "keys": str(setup.keys),
        "policy": choice.candidate.policy,
        "depth": 1,
        **Speed.of(choice.forecast)._asdict(),
        "distance_p99": choice.forecast.distance(99),
        "staleness": choice.forecast.staleness,
        "busy_share": choice.forecast.busy_share,
        "key_frames": choice.forecast.key_frames,
        "accuracy": None if choice.accuracy is None else choice.accuracy.value,
        "accuracy_is_bound": None if choice.accuracy is None else choice.accuracy.is_bound,
        "loss": choice.loss,
        "fits": choice.fits,
        "misses": [{"wish": miss.wish, "got": miss.got} for miss in choice.misses],
    }


def _note(text: str) -> None:
    click.echo(click.wrap_text(text, _WIDTH, subsequent_indent="  "))
