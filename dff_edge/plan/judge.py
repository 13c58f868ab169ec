"""Candidates against what a user wants: which fit, which is best, and what the others lack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dff_edge.errors import ConfigError
from dff_edge.plan.accuracy import Estimate
from dff_edge.plan.candidates import Candidate
from dff_edge.plan.simulation import Forecast

_ALIKE = 0.002  # of accuracy: within it, the younger answers are better
Wish = Literal["answered", "age", "loss"]


@dataclass(frozen=True)
class Wishes:
    """Wishes of the user, which a run has to keep.

    Attributes:
        rate: of each camera, frames per second.
        streams: number of cameras.
        min_answered: part of the captured frames that is to be answered, 0..1.
        max_age_s: bound of the age of answers, from capture, that 99% of them keep; None for none.
        max_loss: accuracy that may be lost against the full network on every frame, in points of
            percent; None for any.
    """

    rate: float = 30.0
    streams: int = 1
    min_answered: float = 0.99
    max_age_s: float | None = None
    max_loss: float | None = None

    def __post_init__(self) -> None:
        bounds = (
            ("rate", self.rate, 0 < self.rate <= 1000, "more than 0 frames a second, up to 1000"),
            ("streams", self.streams, 1 <= self.streams <= 64, "1 to 64 cameras"),
            ("min_answered", self.min_answered, 0 <= self.min_answered <= 1, "a share, 0 to 1"),
            ("max_age_s", self.max_age_s, (self.max_age_s or 1) > 0, "more than 0 seconds"),
            ("max_loss", self.max_loss, 0 <= (self.max_loss or 0) <= 100, "0 to 100 points"),
        )
        for name, value, is_valid, expected in bounds:
            if not is_valid:
                raise ConfigError(f"{name} is {value}, expected {expected}.")


class Miss(NamedTuple):
    """A wish that a candidate does not fulfil.

    Attributes:
        wish: which.
        got: as the wish is given; None for a loss that is not known.
        factor: how far it is from that, as a factor above 1.
    """

    wish: Wish
    got: float | None
    factor: float


@dataclass(frozen=True)
class Choice:
    """A candidate, and what it leads to.

    Attributes:
        candidate: how to run.
        forecast: of its speed.
        accuracy: over all captured frames; None where it is not known.
        loss: of the full network's accuracy, in points of percent; None likewise.
        misses: what it does not fulfil, the worst first; empty where it fits.
    """

    candidate: Candidate
    forecast: Forecast
    accuracy: Estimate | None
    loss: float | None
    misses: tuple[Miss, ...]

    @property
    def fits(self) -> bool:
        """Whether it fulfils every wish."""
        return not self.misses


def judge(
    candidate: Candidate,
    forecast: Forecast,
    accuracy: Estimate | None,
    full: float | None,
    wishes: Wishes,
) -> Choice:
    """Compare what a candidate leads to with the wishes.

    Args:
        candidate: how to run.
        forecast: of its speed.
        accuracy: over all captured frames.
        full: accuracy of the full network on every frame.
        wishes: of the user.
    """
    loss = None if accuracy is None or full is None else 100 * (full - accuracy.value)
    misses = []
    if forecast.answered_share < wishes.min_answered:
        share = forecast.answered_share
        misses.append(Miss("answered", share, wishes.min_answered / max(share, 1e-9)))
    age_s = forecast.age_s(99)
    if wishes.max_age_s is not None and age_s > wishes.max_age_s:
        misses.append(Miss("age", age_s, age_s / wishes.max_age_s))
    if wishes.max_loss is not None:
        if loss is not None and loss > wishes.max_loss:
            misses.append(Miss("loss", loss, (1 + loss) / (1 + wishes.max_loss)))
        elif loss is None or (accuracy is not None and accuracy.is_bound):
            misses.append(Miss("loss", None, math.inf))  # nobody can promise it
    misses.sort(key=lambda miss: -miss.factor)
    return Choice(candidate, forecast, accuracy, loss, tuple(misses))


def ranked(choices: Sequence[Choice]) -> list[Choice]:
    """Return choices, the best first.

    Those that fit come first, the most accurate before the others; of those about as accurate as
    the best, the one whose answers are younger. Where accuracy is not known, or is a bound, fresher
    features stand for it. Those that do not fit follow, by the factor of their worst miss.
    """
    fitting = [choice for choice in choices if choice.fits]
    is_known = all(c.accuracy is not None and not c.accuracy.is_bound for c in fitting)

    def accuracy(choice: Choice) -> float:
        return -1.0 if choice.accuracy is None else choice.accuracy.value

    def preference(choice: Choice) -> tuple[float, ...]:
        stale, age_s = choice.forecast.staleness, choice.forecast.age_s(99)
        return (-accuracy(choice), age_s) if is_known else (stale, age_s)

    fitting.sort(key=preference)
    if is_known and fitting:
        alike = [c for c in fitting if accuracy(c) >= accuracy(fitting[0]) - _ALIKE]
        alike.sort(key=lambda choice: choice.forecast.age_s(99))
        fitting = alike + [c for c in fitting if accuracy(c) < accuracy(fitting[0]) - _ALIKE]
    others = [choice for choice in choices if not choice.fits]
    others.sort(key=lambda choice: (choice.misses[0].factor, *preference(choice)))
    return fitting + others


def relaxed(choices: Sequence[Choice], wishes: Wishes) -> dict[Wish, Choice]:
    """Return, for each single wish, the choice that fits when that one is given up the least.

    Args:
        choices: of which none fits.
        wishes: of the user.
    """
    found: dict[Wish, Choice] = {}
    for choice in choices:
        if len(choice.misses) != 1 or choice.misses[0].got is None:
            continue
        (miss,) = choice.misses
        best = found.get(miss.wish)
        if best is None or miss.factor < best.misses[0].factor:
            found[miss.wish] = choice
    return found
