"""Pairs from single labelled pictures: both frames are views of one, with motion between them.

For data without neighbouring frames. It cannot show objects that appear
between two frames; flow networks learn real motion from it (docs/experiments, CamVid).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dff_edge.data.datasets.labelled_clip import LabelledClip
from dff_edge.frames import Image, LabelMap
from dff_edge.opencv import cv2
from dff_edge.trainer.data.boxes import clip_boxes, map_boxes
from dff_edge.trainer.data.colour import jitter_colours
from dff_edge.trainer.data.labelled_pairs import LabelledPairs, read_frame
from dff_edge.trainer.data.motion import Points, draw_motion, in_picture
from dff_edge.trainer.data.pairs import FLOW_STRIDE, IGNORED, Pair, PairBatch, Truth, stack_pairs

_MAX_PATCHES = 2
_DRIVES = 0.75
_EXPOSURE = 0.04  # by which brightness differs at most between the frames of a pair
_HALVE_FROM = 2.0  # pixels of the picture per pixel of the frame


class StillPairs(LabelledPairs):
    """Pairs with synthetic motion, of labelled frames each for itself.

    The distance is drawn from 0 to ``max_distance``, and the motion grows with it, like that of
    real video (``motion.py``); at 0 the frames are equal. Up to two patches of the picture move on
    their own, with their labels; none on data with boxes, as they would hide objects. Labels
    are the current frame's.

    Neighbours of the labelled frames are not read. Arguments are those of ``LabelledPairs``.

    Args:
        drives: whether the camera drives through the picture in three of four pairs.
    """

    knows_flow = True

    def __init__(
        self, clips: Sequence[LabelledClip], *, drives: bool = False, **settings: Any
    ) -> None:
        super().__init__(clips, **settings)
        self.drives = drives

    def __getitem__(self, index: int) -> PairBatch:
        rng = np.random.default_rng([self.seed, index])
        pairs = []
        for _ in range(self.group):
            number, frame = self.labelled[int(rng.integers(len(self.labelled)))]
            image, truth = read_frame(self.clips[number], frame, self.class_count, self.task)
            pairs.append(self._moved(rng, image, truth))
        return stack_pairs(pairs)

    def _moved(self, rng: np.random.Generator, picture: Image, truth: Truth) -> Pair:
        distance = int(rng.integers(0, self.max_distance + 1))
        patches = int(rng.integers(0, _MAX_PATCHES + 1))
        motion = draw_motion(
            rng,
            picture_size=picture.shape[:2],
            frame_size=self.frame_size,
            distance=distance,
            enlarge=self.augment.enlarge,
            shrink=self.augment.shrink,
            mirror=bool(rng.random() < 0.5),
            patches=0 if distance == 0 or truth.boxes is not None else patches,
            drives=self.drives and distance > 0 and rng.random() < _DRIVES,
        )
        exposures = 1 + rng.uniform(-_EXPOSURE, _EXPOSURE, 2)
        place = motion.current_map()
        current = sample(picture, place)
        frames = [current]
        if distance:
            key = sample(picture, motion.key_map())
            both = zip((current, key), exposures, strict=True)
            frames = [
                np.asarray(cv2.convertScaleAbs(frame, alpha=exposure), np.uint8)
                for frame, exposure in both
            ]
        frames = jitter_colours(frames, rng, self.augment.colour)
        out = Truth()
        if truth.labels is not None:
            out = out._replace(labels=sample_labels(truth.labels, place))
        if truth.boxes is not None:
            # The wave moves borders by less than their labelling error; it is left out.
            boxes = map_boxes(truth.boxes, motion.layers[0].current)
            out = out._replace(boxes=clip_boxes(boxes, self.frame_size))
        return Pair(frames[-1], frames[0], out, distance == 0, motion.flow(FLOW_STRIDE))


def sample(picture: Image, places: Points) -> Image:
    """Read a picture at places ``(H, W, 2)`` in edge coordinates.

    The picture is halved, as means of four pixels, while a step from pixel to pixel is two of its
    pixels or more; the rest is bilinear.
    """
    # The median: a step over the border of a patch that moves on its own is a jump.
    steps = np.linalg.norm(places[1::8, 1::8] - places[:-1:8, :-1:8], axis=-1)
    step = float(np.median(steps)) / np.sqrt(2)
    while step >= _HALVE_FROM and min(picture.shape[:2]) >= 2:
        height, width = (side // 2 for side in picture.shape[:2])
        scale = np.array([width / picture.shape[1], height / picture.shape[0]])
        picture = np.asarray(
            cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )
        places, step = places * scale, step / 2
    x, y = np.moveaxis((places - 0.5).astype(np.float32), -1, 0)
    moved = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def sample_labels(labels: LabelMap, places: Points) -> LabelMap:
    """Read labels at places ``(H, W, 2)`` in edge coordinates, the nearest pixel's.

    Labels outside the picture by more than rounding are not scored.
    """
    x, y = np.moveaxis(np.floor(places).astype(int), -1, 0)
    height, width = labels.shape
    read = labels[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return np.where(in_picture(places, labels.shape), read, np.uint8(IGNORED))
