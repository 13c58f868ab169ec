"""Pairs from labelled clips: both frames of real video."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import SourceError
from dff_edge.frames import Image
from dff_edge.opencv import cv2
from dff_edge.runtime.kernels.resize import resize_image
from dff_edge.trainer.data.boxes import clip_boxes, map_boxes
from dff_edge.trainer.data.colour import jitter_colours
from dff_edge.trainer.data.labelled_pairs import LabelledPairs, read_frame
from dff_edge.trainer.data.pairs import (
    IGNORED,
    Pair,
    PairBatch,
    Truth,
    stack_pairs,
    unknown_flow,
)


class ClipPairs(LabelledPairs):
    """Pairs from labelled clips: i is a labelled frame, k up to ``max_distance`` frames before it.

    Both frames and the labels of a pair are cropped alike, resized to ``frame_size`` as in the
    runtime, and mirrored half of the time. At the start of a clip i - k is less than
    ``max_distance``. Arguments are those of ``LabelledPairs``.
    """

    knows_flow = False

    def __getitem__(self, index: int) -> PairBatch:
        rng = np.random.default_rng([self.seed, index])
        pairs = []
        for _ in range(self.group):
            number, current = self.labelled[int(rng.integers(len(self.labelled)))]
            clip = self.clips[number]
            distance = min(int(rng.integers(0, self.max_distance + 1)), current)
            image, truth = read_frame(clip, current, self.class_count, self.task)
            key_image = image if distance == 0 else clip.image(current - distance)
            if image.shape != key_image.shape:
                raise SourceError(
                    f"clip '{clip.name}': frame {current} is {image.shape[:2]} and frame "
                    f"{current - distance} is {key_image.shape[:2]}, expected one size."
                )
            pairs.append(self._augmented(rng, key_image, image, truth, distance == 0))
        return stack_pairs(pairs)

    def _augmented(
        self, rng: np.random.Generator, key: Image, current: Image, truth: Truth, same: bool
    ) -> Pair:
        source_height, source_width = current.shape[:2]
        grow = rng.uniform(self.augment.shrink, self.augment.enlarge)
        height, width = max(round(source_height / grow), 1), max(round(source_width / grow), 1)
        top, left = (
            _place(rng, *sides) for sides in ((source_height, height), (source_width, width))
        )
        step = -1 if rng.random() < 0.5 else 1
        window = _Window(top, left, height, width)

        def moved(image: Image) -> Image:
            out = np.empty((*self.frame_size, 3), np.uint8)
            resize_image(np.asarray(window.cut(image, cv2.BORDER_REPLICATE), np.uint8), out)
            return out[:, ::step]

        frames = [moved(current)] if same else [moved(current), moved(key)]
        frames = jitter_colours(frames, rng, self.augment.colour)
        out = Truth()
        if truth.labels is not None:
            # The exact kind: plain INTER_NEAREST is not aligned to pixel centres like the others.
            resized = cv2.resize(
                window.cut(truth.labels, cv2.BORDER_CONSTANT),
                self.frame_size[::-1],
                interpolation=cv2.INTER_NEAREST_EXACT,
            )
            out = out._replace(labels=np.asarray(resized, np.uint8)[:, ::step])
        if truth.boxes is not None:
            out_height, out_width = self.frame_size
            x_factor, y_factor = step * out_width / width, out_height / height
            x_shift = (out_width if step < 0 else 0) - left * x_factor
            matrix = np.array([[x_factor, 0, x_shift], [0, y_factor, -top * y_factor]])
            boxes = clip_boxes(map_boxes(truth.boxes, matrix), self.frame_size)
            out = out._replace(boxes=boxes)
        return Pair(frames[-1], frames[0], out, same, unknown_flow(self.frame_size))


class _Window(NamedTuple):
    """A part of a frame, in pixels; or more than the frame, whose border is repeated then."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: NDArray[np.uint8], border: int) -> NDArray[np.uint8]:
        """Crop an image ``(h, w, ...)``; labels outside of it are not scored."""
        height, width = image.shape[:2]
        bottom, right = self.top + self.height, self.left + self.width
        rows = slice(max(self.top, 0), min(bottom, height))
        columns = slice(max(self.left, 0), min(right, width))
        missing = (-self.top, bottom - height, -self.left, right - width)
        inside = image[rows, columns]
        if max(missing) <= 0:
            return inside
        above, below, before, behind = (max(cells, 0) for cells in missing)
        padded = cv2.copyMakeBorder(inside, above, below, before, behind, border, value=IGNORED)
        return np.asarray(padded, np.uint8)


def _place(rng: np.random.Generator, source: int, wanted: int) -> int:
    """Draw the start of a window: within the frame, or with all of the frame in it."""
    room = source - wanted
    return int(rng.integers(min(room, 0), max(room, 0) + 1))
