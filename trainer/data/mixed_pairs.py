"""Pairs from several data sets, in a fixed ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dff_edge.trainer.data.pairs import PairBatch, PairData

_CHOICE = 1  # separates the choice from the data sets' own use of (seed, index)


class MixedPairs(PairData):
    """Each item comes from one data set, drawn at random, so a group is of one data set.

    Args:
        parts: data sets of equal length.
        shares: how often each is drawn, relative to the others.
        seed: of the choice.
    """

    def __init__(self, parts: Sequence[PairData], shares: Sequence[float], *, seed: int) -> None:
        self.parts, self.shares, self.seed = parts, np.array(shares) / np.sum(shares), seed
        self.length = parts[0].length
        self.knows_flow = all(part.knows_flow for part in parts)

    def __getitem__(self, index: int) -> PairBatch:
        rng = np.random.default_rng([self.seed, index, _CHOICE])
        return self.parts[int(rng.choice(len(self.parts), p=self.shares))][index]
