"""Training pairs from labelled clips and from synthetic scenes."""

from dff_edge.trainer.data.pairs import ClipPairs, PairBatch, SyntheticPairs, open_pairs

__all__ = ["ClipPairs", "PairBatch", "SyntheticPairs", "open_pairs"]
