"""The manifest's model of staleness: how far an answer is expected to be from the full network's.

``dff_edge.runtime.staleness`` measures a propagated frame and predicts by it,
``dff_edge.calibration.staleness`` fits it.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from dff_edge.bundle.record import Record
from dff_edge.bundle.records import Count, Name, Share, Text

Measure = Literal["distance", "flow", "flow_spread", "error", "doubt"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
CALIBRATION_BINS = 10

_Centre = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
_Deviation = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
_Weight = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
_Correlation = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
_Distance = Annotated[int, Field(ge=1, le=1000)]


class Term(Record):
    """One measure in the model: ``weight * (log(measure) - centre) / deviation``.

    Attributes:
        weight: not negative: more motion never means a fresher answer.
        centre, deviation: of the logarithm, on the frames of the fit.
    """

    weight: _Weight
    centre: _Centre
    deviation: _Deviation


class CalibrationBin(Record):
    """Pairs of similar prediction: means of what was expected and of what was found."""

    expected: Share
    found: Share
    pairs: Count


class StalenessQuality(Record):
    """How well staleness is predicted on clips that the model was not fitted on.

    Attributes:
        rank_correlation: Spearman's, of expected and found disagreement over all pairs.
        distance_alone: the same of the distance from the key frame and the found disagreement.
        within_distance: mean of the rank correlations of the pairs at each distance.
        calibration: bins of as many pairs each, by rising prediction.
    """

    rank_correlation: _Correlation
    distance_alone: _Correlation
    within_distance: _Correlation
    calibration: Annotated[tuple[CalibrationBin, ...], Field(min_length=1, max_length=100)]


class StalenessModel(Record):
    """Expected disagreement ``1 / (1 + exp(-(bias + sum of terms)))``.

    Attributes:
        bias: of the sum.
        terms: by the name of the measure.
        growth: exponent p of the disagreement's growth with distance, ``d^p``: a prediction at one
            distance foretells another.
        max_distance: the largest distance that it was fitted on, in frames.
        source: clips of the fit, as given on the command line.
        clips, pairs: how many were used.
        date: ISO 8601.
        quality: on clips that were left out of the fit.
    """

    bias: Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
    terms: Annotated[dict[Measure, Term], Field(min_length=1)]
    growth: Annotated[float, Field(ge=0, le=4, allow_inf_nan=False)]
    max_distance: _Distance
    source: Text
    clips: Count
    pairs: Count
    date: Name
    quality: StalenessQuality

    @model_validator(mode="after")
    def _has_effect(self) -> StalenessModel:
        if not any(term.weight for term in self.terms.values()):
            raise ValueError("a weight above 0 in terms")
        return self
