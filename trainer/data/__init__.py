"""Training pairs from labelled clips, from single pictures and from synthetic scenes."""

from dff_edge.trainer.data.clip_pairs import ClipPairs
from dff_edge.trainer.data.open_pairs import (
    check_training_data,
    moves_already,
    open_pairs,
    training_classes,
)
from dff_edge.trainer.data.pairs import PairBatch, PairData
from dff_edge.trainer.data.still_pairs import StillPairs
from dff_edge.trainer.data.synthetic_pairs import SyntheticPairs

__all__ = [
    "ClipPairs",
    "PairBatch",
    "PairData",
    "StillPairs",
    "SyntheticPairs",
    "check_training_data",
    "moves_already",
    "open_pairs",
    "training_classes",
]
