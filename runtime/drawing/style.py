"""Style of drawn results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dff_edge.bundle.manifest import Manifest

SHOWN_SCORE = 0.5  # from which detections are drawn and written where no bundle says another


@dataclass(frozen=True, slots=True)
class Style:
    """Style of drawn results.

    Attributes:
        legend: whether a label map gets a legend; boxes are drawn with their names.
        opacity: of class colours over the picture, 0..1.
        min_score: detections that score less are left out; None for the bundle's threshold.
        shown: indices of the classes that are drawn; None for all.
    """

    legend: bool = True
    opacity: float = 0.5
    min_score: float | None = None
    shown: frozenset[int] | None = None

    def of_bundle(self, manifest: Manifest) -> Style:
        """Return the style for the results of a bundle, with its threshold where none is set."""
        chosen = manifest.score_threshold
        if self.min_score is not None or chosen is None:
            return self
        return replace(self, min_score=chosen.score)

    @property
    def least_score(self) -> float:
        """``min_score``, or ``SHOWN_SCORE`` where there is none."""
        return SHOWN_SCORE if self.min_score is None else self.min_score


DEFAULT_STYLE = Style()
