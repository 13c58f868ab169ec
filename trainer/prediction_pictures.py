"""Pictures of predictions on frames that are held out, drawn while a model trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dff_edge.boxes import TrueBoxes
from dff_edge.bundle.tasks import FORMATS
from dff_edge.data.datasets import LabelledClip
from dff_edge.data.datasets.truth import true_boxes, true_labels
from dff_edge.frames import Image
from dff_edge.opencv import cv2
from dff_edge.runtime.drawing.boxes import draw_boxes
from dff_edge.runtime.drawing.overlay import draw_overlay
from dff_edge.runtime.drawing.style import Style
from dff_edge.runtime.drawing.text import draw_legend, palette_of, text_height_px
from dff_edge.runtime.tasks import RUNTIME_TASKS
from dff_edge.trainer.models import TaskConfig
from dff_edge.trainer.predictor import TorchPredictor
from dff_edge.trainer.tensor_files import make_folder, write_file

FOLDER = "predictions"
_FRAMES = 4
_WIDTH_PX = 480  # of a frame in the picture
_GAP_PX = 4
# One legend below all; of detections early ones are unsure.
_STYLE = Style(legend=False, min_score=0.15)
_QUALITY = 90


class PredictionPictures:
    """A JPEG a validation: a few held-out frames, on the left as labelled, on the right predicted.

    Args:
        run_folder: its folder ``predictions`` gets the pictures.
        clips: held out, with labelled frames.
        task: of the model.
        interval: frames are predicted from features ``interval - 1`` frames old.
        done_steps: steps of the stages before, which names go on from.
    """

    def __init__(
        self,
        run_folder: Path,
        clips: Sequence[LabelledClip],
        task: TaskConfig,
        *,
        interval: int,
        done_steps: int,
    ) -> None:
        self._folder = run_folder / FOLDER
        self._task = task
        self._distance = interval - 1
        self._done_steps = done_steps
        usable = [
            (clip, i)
            for clip in clips
            for i in range(self._distance, len(clip))
            if clip.is_labelled(i)
        ]
        chosen = np.linspace(0, len(usable) - 1, min(_FRAMES, len(usable))).round().astype(int)
        self._frames = [usable[number] for number in chosen]

    def draw(self, predictor: TorchPredictor, step: int) -> Path:
        """Write the picture of a step of the stage, and return its file.

        Raises:
            CheckpointError: it cannot be written.
        """
        rows = [self._row(predictor, clip, index) for clip, index in self._frames]
        width = max(row.shape[1] for row in rows)
        same = [
            cv2.copyMakeBorder(row, 0, _GAP_PX, 0, width - row.shape[1], cv2.BORDER_CONSTANT)
            for row in rows
        ]
        picture = np.concatenate([*same, *self._legend(rows[0].shape[0], width)])[:-_GAP_PX]
        done, encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        assert done
        make_folder(self._folder)
        path = self._folder / f"step_{self._done_steps + step:06d}.jpg"
        write_file(path, encoded.tobytes())
        return path

    def _legend(self, height: int, width: int) -> list[Image]:
        """Return a strip with the classes, at most half as high; boxes have their names."""
        if FORMATS.find(self._task.name).truth == "boxes":
            return []
        strip = np.zeros((height, width, 3), np.uint8)
        colours = palette_of(self._task.colours)
        names = [(name, colours[number]) for number, name in enumerate(self._task.classes)]
        draw_legend(strip, names, text_height_px(strip), height // 2)
        used = np.flatnonzero(strip.any(axis=(1, 2)))
        return [strip[used[0] - _GAP_PX :]] if len(used) else []  # it may not fit

    def _row(self, predictor: TorchPredictor, clip: LabelledClip, index: int) -> Image:
        image = clip.image(index)
        key = predictor.extract(clip.image(index - self._distance))
        answer = predictor.predict(key, image if self._distance else None)
        size = image.shape[0], image.shape[1]
        scale = min(1.0, _WIDTH_PX / size[1])
        small = np.asarray(
            cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
        )
        age = f"features {self._distance} old" if self._distance else "key frame"
        predicted = RUNTIME_TASKS.find(self._task.name).draw(
            small,
            answer,
            self._task.classes,
            self._task.colours,
            _STYLE,
            size=size,
            caption=f"predicted, {age}",
        )
        gap = np.zeros((small.shape[0], _GAP_PX, 3), np.uint8)
        return np.concatenate([self._truth(clip, index, small, size), gap, predicted], axis=1)

    def _truth(self, clip: LabelledClip, index: int, small: Image, size: tuple[int, int]) -> Image:
        names, colours = self._task.classes, self._task.colours
        caption = f"{clip.name}, {index}, labelled"
        if FORMATS.find(self._task.name).truth == "boxes":
            fitted = true_boxes(clip, index, size, len(names))
            assert fitted is not None  # only labelled frames are chosen
            shares = np.array([small.shape[1] / size[1], small.shape[0] / size[0]] * 2, np.float32)
            boxes = TrueBoxes(
                fitted.boxes.boxes * shares, fitted.boxes.labels, fitted.boxes.ignored
            )
            return draw_boxes(small, boxes, colours, names, caption=caption)
        labels: Any = true_labels(clip, index, size, len(names))
        shown = cv2.resize(labels, small.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return draw_overlay(small, np.asarray(shown, np.uint8), colours, caption=caption)
