"""Style of drawn results."""

from __future__ import annotations

from dataclasses import dataclass

SHOWN_SCORE = 0.5  # default: detections that score less are neither drawn nor written


@dataclass(frozen=True, slots=True)
class Style:
    """Style of drawn results.

    Attributes:
        legend: whether a label map gets a legend; boxes are drawn with their names.
        opacity: of class colours over the picture, 0..1.
        min_score: detections that score less are left out.
        shown: indices of the classes that are drawn; None for all.
    """

    legend: bool = True
    opacity: float = 0.5
    min_score: float = SHOWN_SCORE
    shown: frozenset[int] | None = None


DEFAULT_STYLE = Style()
