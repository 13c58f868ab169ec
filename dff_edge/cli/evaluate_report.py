"""The report of ``dff-edge evaluate``: accuracy by distance and class, boxes at their threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dff_edge.cli.command import table

if TYPE_CHECKING:
    from dff_edge.evaluation.accuracy import Accuracy
    from dff_edge.evaluation.score_threshold import BoxReport


def print_accuracy(
    accuracy: Accuracy, consistency: dict[int, float | None], not_scored: str
) -> None:
    """Print the accuracy of pairs: at each distance, at each key interval, of each class.

    Args:
        accuracy: of a model.
        consistency: temporal consistency by key interval; None where the data cannot tell it.
        not_scored: name of the labels that are not scored, as "pixels".
    """
    metric, most = accuracy.metric, accuracy.max_interval
    rows = [
        [
            str(accuracy.lag + n),
            f"{100 * accuracy.at_distance(accuracy.lag + n):.1f}",
            f"{100 * accuracy.at_interval(n + 1):.1f}",
        ]
        for n in range(most)
    ]
    after = f"DFF at distance {f'- {accuracy.lag} ' * bool(accuracy.lag)}+ 1"
    table(["distance", f"{metric.title} %", after], rows)
    click.echo()
    if accuracy.not_scored:
        click.echo(f"{accuracy.not_scored:.1%} of the labelled {not_scored} are not scored\n")
    on_key_frames = accuracy.by_class(1)
    where = f"at distance {accuracy.lag}" if accuracy.lag else "of key frames"
    table(
        ["class", f"{metric.of_class} % {where}", f"at l = {most}"],
        [
            [name, _percent(on_key_frames[name]), _percent(value)]
            for name, value in accuracy.by_class(most).items()
        ],
    )
    steady = {n: value for n, value in consistency.items() if value is not None}
    if steady:
        parts = [f"l = {n}: {100 * value:.1f}%" for n, value in steady.items()]
        click.echo(
            "\ntemporal consistency (mIoU with the result before, moved by true flow): "
            + ", ".join(parts)
        )


def print_boxes(boxes: BoxReport) -> None:
    """Print precision and recall of the boxes that are shown, and the best F1 on the data."""
    which = "the model's threshold" if boxes.is_own else "the default"
    click.echo(f"\nboxes that score {boxes.threshold:.2f} and more ({which}), at all distances:")
    table(
        ["class", "precision %", "recall %"],
        [
            [name, _percent(own.precision), _percent(own.recall)]
            for name, own in boxes.classes.items()
        ],
    )
    if boxes.best is not None:
        click.echo(
            f"\nF1 there {_percent(boxes.f1)}%; the best on this data is "
            f"{_percent(boxes.best.f1)}%, from {boxes.best.score:.2f} on"
        )


def print_run(numbers: dict[str, Any]) -> None:
    """Print the accuracy of clips that were answered as a run would: over all, and by distance.

    Args:
        numbers: as ``--json`` writes them.
    """
    title = numbers["metric"]
    click.echo(
        f"{numbers['policy']}, keys {numbers['keys']}: {numbers['key_frames']} key frames in "
        f"{numbers['frames']} frames ({numbers['key_share']:.1%})"
    )
    if numbers["expected_disagreement"] is not None:
        click.echo(
            "expected disagreement with the full network: mean "
            f"{numbers['expected_disagreement']:.1%}"
        )
    click.echo(f"{title} over all answers: {_percent(numbers['accuracy'])} %\n")
    rows = [
        [str(row["distance"]), str(row["answers"]), _percent(row["accuracy"])]
        for row in numbers["at_distance"]
    ]
    table(["distance", "scored", f"{title} %"], rows)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
