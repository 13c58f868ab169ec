"""Pairs of synthetic street scenes, generated without end."""

from __future__ import annotations

import numpy as np

from dff_edge.bundle.tasks import FORMATS, TaskName
from dff_edge.errors import ConfigError
from dff_edge.synthetic import SPLITS, StreetScene, true_boxes
from dff_edge.trainer.data.pairs import FLOW_STRIDE, Pair, PairBatch, PairData, Truth, stack_pairs

_SCENE_FRAMES = 120


class SyntheticPairs(PairData):
    """Pairs of synthetic scenes, a new scene for every item.

    Args:
        seed: selects the stream of scenes.
        split: split of the scenes.
        frame_size: H and W.
        length: number of items.
        group: pairs in an item.
        max_distance: largest i - k.
        both_ways: also pairs with the key frame after the current one, for flow pre-training.
        task: whether pairs come with labels or with boxes, those of ``BOX_CLASSES``.
    """

    knows_flow = True

    def __init__(
        self,
        *,
        seed: int,
        frame_size: tuple[int, int],
        length: int,
        group: int,
        max_distance: int,
        split: str = "train",
        both_ways: bool = False,
        task: TaskName = "segmentation",
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"split is '{split}', expected one of {', '.join(SPLITS)}.")
        self.seed, self.split, self.frame_size, self.length = seed, split, frame_size, length
        self.group, self.max_distance, self.both_ways = group, max_distance, both_ways
        self.task = task

    def __getitem__(self, index: int) -> PairBatch:
        rng = np.random.default_rng([self.seed, index])
        frames = max(_SCENE_FRAMES, 2 * self.max_distance + 1)
        scene = StreetScene(int(rng.integers(2**62)), self.split, self.frame_size, frames)
        pairs = []
        for _ in range(self.group):
            distance = int(rng.integers(0, self.max_distance + 1))
            key = int(rng.integers(self.max_distance, frames - self.max_distance))
            forward = not self.both_ways or rng.random() < 0.5
            current = key + (distance if forward else -distance)
            image, labels = scene.render(current)
            key_image = image if distance == 0 else scene.render(key)[0]
            flow_px = np.asarray(scene.flow(current, key, stride=FLOW_STRIDE)[0], np.float32)
            truth = Truth(labels)
            if FORMATS.find(self.task).truth == "boxes":
                truth = Truth(boxes=true_boxes(scene, current))
            pairs.append(Pair(key_image, image, truth, distance == 0, flow_px))
        return stack_pairs(pairs)
