"""Pairs from labelled clips: both frames of real video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.data.datasets import LabelledClip
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

_ON_OBJECT = 0.75  # of the parts of frames; the others teach what is no object


class ClipPairs(LabelledPairs):
    """Pairs from labelled clips: i is a labelled frame, k up to ``max_distance`` frames before it.

    Both frames and the labels of a pair are cropped alike, resized to ``frame_size`` as in the
    runtime, and mirrored half of the time. At the start of a clip i - k is less than
    ``max_distance``. Arguments are those of ``LabelledPairs``.

    Args:
        crop: H and W of the pairs, parts of frames resized to ``frame_size``; three of four of them
            hold an object, where the frame has one. None for whole frames.
    """

    knows_flow = False

    def __init__(
        self,
        clips: Sequence[LabelledClip],
        *,
        crop: tuple[int, int] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(clips, **settings)
        self.crop = crop

    def __getitem__(self, index: int) -> PairBatch:
        rng = np.random.default_rng([self.seed, index])
        pairs = []
        for _ in range(self.group):
            number, current = self.labelled[int(rng.integers(len(self.labelled)))]
            clip = self.clips[number]
            distance = min(int(rng.integers(0, self.max_distance + 1)), current)
            image, truth = self._read(clip, current)
            key_image = image if distance == 0 else clip.image(current - distance)
            if image.shape != key_image.shape:
                raise SourceError(
                    f"clip '{clip.name}': frame {current} is {image.shape[:2]} and frame "
                    f"{current - distance} is {key_image.shape[:2]}, expected one size."
                )
            pairs.append(self._augmented(rng, key_image, image, truth, distance == 0))
        return stack_pairs(pairs)

    def _read(self, clip: LabelledClip, index: int) -> tuple[Image, Truth]:
        return read_frame(clip, index, self.class_count, self.task)

    def _augmented(
        self, rng: np.random.Generator, key: Image, current: Image, truth: Truth, same: bool
    ) -> Pair:
        out_size = self.crop or self.frame_size
        grow = rng.uniform(self.augment.shrink, self.augment.enlarge)
        source = current.shape[:2]
        height, width = (
            max(round(whole * part / (frame * grow)), 1)
            for whole, part, frame in zip(source, out_size, self.frame_size, strict=True)
        )
        shown = None if self.crop is None else _drawn_box(rng, truth)
        rows, columns = (None, None) if shown is None else (shown[[1, 3]], shown[[0, 2]])
        top, left = _place(rng, source[0], height, rows), _place(rng, source[1], width, columns)
        step = -1 if rng.random() < 0.5 else 1
        window = _Window(top, left, height, width)

        def moved(image: Image) -> Image:
            out = np.empty((*out_size, 3), np.uint8)
            resize_image(np.asarray(window.cut(image, cv2.BORDER_REPLICATE), np.uint8), out)
            return out[:, ::step]

        frames = [moved(current)] if same else [moved(current), moved(key)]
        frames = jitter_colours(frames, rng, self.augment.colour)
        out = Truth()
        if truth.labels is not None:
            # The exact kind: plain INTER_NEAREST is not aligned to pixel centres like the others.
            resized = cv2.resize(
                window.cut(truth.labels, cv2.BORDER_CONSTANT),
                out_size[::-1],
                interpolation=cv2.INTER_NEAREST_EXACT,
            )
            out = out._replace(labels=np.asarray(resized, np.uint8)[:, ::step])
        if truth.boxes is not None:
            out_height, out_width = out_size
            x_factor, y_factor = step * out_width / width, out_height / height
            x_shift = (out_width if step < 0 else 0) - left * x_factor
            matrix = np.array([[x_factor, 0, x_shift], [0, y_factor, -top * y_factor]])
            boxes = clip_boxes(map_boxes(truth.boxes, matrix), out_size)
            out = out._replace(boxes=boxes)
        return Pair(frames[-1], frames[0], out, same, unknown_flow(out_size))


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


def _drawn_box(rng: np.random.Generator, truth: Truth) -> NDArray[np.float32] | None:
    """Draw the object that a part of a frame must hold, xyxy in pixels; None for no object."""
    if truth.boxes is None or rng.random() >= _ON_OBJECT:
        return None
    objects = truth.boxes.boxes[~truth.boxes.ignored]
    return objects[int(rng.integers(len(objects)))] if len(objects) else None


def _place(
    rng: np.random.Generator, source: int, wanted: int, shown: NDArray[np.float32] | None
) -> int:
    """Draw the start of a window: within the frame, or with all of the frame in it.

    Args:
        rng: random generator.
        source: side of the frame.
        wanted: side of the window.
        shown: start and end of an object that lies within the window, or around it where it is
            larger; None for any place.
    """
    room = source - wanted
    first, last = min(room, 0), max(room, 0)
    if shown is not None:
        ends = sorted((int(np.ceil(shown[1])) - wanted, int(shown[0])))
        first, last = (int(np.clip(end, first, last)) for end in ends)
    return int(rng.integers(first, last + 1))
