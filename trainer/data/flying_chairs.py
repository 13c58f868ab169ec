"""Pairs of Flying Chairs, for pre-training the flow network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dff_edge.data.datasets.flying_chairs import file_names, list_chairs, read_flo
from dff_edge.errors import SourceError
from dff_edge.runtime.sources.images import read_image
from dff_edge.trainer.data.flow_augmentation import augment_flow, plain_flow
from dff_edge.trainer.data.pairs import Pair, PairBatch, PairData, Truth, stack_pairs


class FlyingChairsPairs(PairData):
    """Pairs of Flying Chairs; img1 is the current frame, img2 the key frame.

    The flow of the files leads from img1 to img2, so it is M[i->k] as it is.
    Pairs of "train" are drawn at random and augmented. Those of "val" come in order, each once,
    cropped to the middle of the pictures.

    Args:
        root: the folder.
        split: "train" or "val".
        seed: selects the stream of pairs.
        frame_size: H and W.
        length: number of items of "train".
        group: pairs in an item.

    Raises:
        SourceError: files or the split file are missing or do not fit together.
    """

    knows_flow = True
    knows_truth = False

    def __init__(
        self,
        root: Path,
        *,
        split: str,
        seed: int,
        frame_size: tuple[int, int],
        length: int,
        group: int,
    ) -> None:
        self.seed, self.frame_size = seed, frame_size
        self.folder, self.numbers = list_chairs(root)[split]
        self.is_held_out = split == "val"
        self.length = -(-len(self.numbers) // group) if self.is_held_out else length
        self.group = group

    def __getitem__(self, index: int) -> PairBatch:
        rng = np.random.default_rng([self.seed, index])
        pairs = []
        for number in self._numbers_of(index, rng):
            current, key, flow = (self.folder / name for name in file_names(number))
            images, flow_px = (read_image(current), read_image(key)), read_flo(flow)
            if not images[0].shape[:2] == images[1].shape[:2] == flow_px.shape[:2]:
                raise SourceError(
                    f"{flow} is {flow_px.shape[:2]} and its pictures are {images[0].shape[:2]} and "
                    f"{images[1].shape[:2]}, expected one size. Is the download whole?"
                )
            if self.is_held_out:
                made = plain_flow(*images, flow_px, self.frame_size)
            else:
                made = augment_flow(rng, *images, flow_px, self.frame_size)
            pairs.append(Pair(made.key, made.current, Truth(), False, made.flow_px))
        return stack_pairs(pairs)

    def _numbers_of(self, index: int, rng: np.random.Generator) -> list[int]:
        """Return the numbers of the pairs of an item; the last one of "val" may have fewer."""
        if self.is_held_out:
            return self.numbers[index * self.group : (index + 1) * self.group]
        return [self.numbers[int(rng.integers(len(self.numbers)))] for _ in range(self.group)]
