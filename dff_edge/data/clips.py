"""Labelled clips: videos with label maps or boxes, for training, calibration and evaluation.

One grammar names them everywhere:

- ``synthetic://street?split=val&clips=16&frames=20&step=1&seed=0&height=256&width=512``; every
  ``step``-th frame of the scene, as seen by a camera of a lower rate; ``&motion=mixed`` for a
  camera that stands, drives and turns, 30 frames of the scene each
- a public data set, ``cityscapes://ROOT?split=val`` and others (``datasets/names.py``)
- a folder with ``images/`` and ``labels/`` (``datasets/folder.py``)

Pictures are read as they are stored, without EXIF rotation: labels and boxes belong to those
pixels. Label 255 is not scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import TrueBoxes
from dff_edge.bundle.tasks import FORMATS, TaskName
from dff_edge.data.datasets import DATA_SETS, LabelledClip, parse_data_name
from dff_edge.data.datasets.findings import check_clips
from dff_edge.errors import ConfigError
from dff_edge.frames import Image, LabelMap
from dff_edge.hiding import hide_credentials
from dff_edge.synthetic import BOX_CLASSES, CLASSES, StreetScene, true_boxes
from dff_edge.uri import SourceUri

_SYNTHETIC_KEYS = ("split", "seed", "clips", "frames", "step", "height", "width", "motion")


class SyntheticClip:
    """A synthetic scene as a labelled clip; every frame is labelled and every flow known.

    Args:
        scene: the scene to draw.
        name: of the clip.
        step: distance of two frames of the clip, in frames of the scene.
    """

    def __init__(self, scene: StreetScene, name: str, step: int = 1) -> None:
        self.name = name
        self._scene = scene
        self._step = step
        self._render = lru_cache(maxsize=4)(scene.render)

    def __len__(self) -> int:
        return -(-len(self._scene) // self._step)

    def image(self, index: int) -> Image:
        """Return a frame, rendered."""
        return self._render(index * self._step)[0]

    def is_labelled(self, index: int) -> bool:
        """Return True: every frame is."""
        return True

    def where(self, index: int) -> str:
        """Return the number of a frame in the scene."""
        return f"clip '{self.name}', frame {index}"

    def labels(self, index: int) -> LabelMap | None:
        """Return the exact labels of a frame."""
        return self._render(index * self._step)[1]

    def boxes(self, index: int) -> TrueBoxes | None:
        """Return the exact boxes of the visible objects of ``BOX_CLASSES``."""
        return true_boxes(self._scene, index * self._step)

    def flow(self, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """Return exact flow in pixels ``(H, W, 2)`` and occlusion ``(H, W)``."""
        return self._scene.flow(current * self._step, key * self._step)


def open_clips(uri: str, *, split: str = "val") -> list[LabelledClip]:
    """Return labelled clips by name.

    Args:
        uri: see the head of this file.
        split: of a data set whose name has none.

    Returns:
        At least one clip, those of a folder in natural order of their names.

    Raises:
        ConfigError: for an unknown scheme or option.
        SourceError: for a folder without images or without labels.

    Example:
        >>> [clip.name for clip in open_clips("synthetic://street?split=test&clips=2&frames=3")]
        ['test-0', 'test-1']
    """
    if uri.startswith("synthetic://"):
        return _synthetic_clips(uri)
    data = parse_data_name(uri, split=split)
    if data is None:
        known = ", ".join(f"{name}://ROOT" for name in DATA_SETS)
        raise ConfigError(
            f"'{hide_credentials(uri)}' is not labelled data, expected synthetic://street, a "
            f"folder with images/ and labels/, or a data set: {known}."
        )
    return list(data.clips())


def class_names(uri: str, task: TaskName = "segmentation") -> tuple[str, ...] | None:
    """Return the classes of labelled data for a task where the data defines them, else None."""
    if data := parse_data_name(uri):
        return data.classes()
    if not uri.startswith("synthetic://"):
        return None
    return BOX_CLASSES if FORMATS.find(task).truth == "boxes" else CLASSES


def check_class_names(uri: str, task: TaskName, names: Sequence[str], owner: str) -> None:
    """Raise unless labelled data has the classes of a model, where it defines its classes.

    Args:
        uri: of the data.
        task: of the model.
        names: the model's classes.
        owner: name of the model in the error.

    Raises:
        ConfigError: other classes, or another order.
    """
    known = class_names(uri, task)
    if known is not None and known != tuple(names):
        raise ConfigError(
            f"{uri} has the classes {', '.join(known)}, {owner} {', '.join(names)}; expected the "
            "same in the same order."
        )


def check_for_model(
    clips: Sequence[LabelledClip],
    uri: str,
    task: TaskName,
    names: Sequence[str],
    owner: str,
    *,
    pairs: bool = True,
) -> None:
    """Raise unless labelled clips fit a model; log possible faults.

    Args:
        clips: result of ``open_clips`` for ``uri``.
        uri: of the data.
        task: of the model.
        names: the model's classes.
        owner: name of the model in errors: "the model".
        pairs: whether frames are predicted from frames before them.

    Raises:
        ConfigError: other classes, or another order.
        SourceError: as ``check_clips``, which opens a sample of the frames.
    """
    check_class_names(uri, task, names, owner)
    if not uri.startswith("synthetic://"):  # correct by construction
        check_clips(clips, uri, task, names, pairs=pairs)


def _synthetic_clips(uri: str) -> list[LabelledClip]:
    parts = urlsplit(uri)
    if parts.netloc != "street" or parts.path.strip("/"):
        raise ConfigError(
            f"'{uri}' names the scene '{parts.netloc}{parts.path}', expected synthetic://street."
        )
    options: dict[str, str] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in _SYNTHETIC_KEYS:
            raise ConfigError(
                f"'{uri}': unknown option '{key}', expected {', '.join(_SYNTHETIC_KEYS)}."
            )
        if key in options:
            raise ConfigError(f"'{uri}' gives {key} twice.")
        options[key] = value
    split, motion = options.pop("split", "val"), options.pop("motion", "steady")
    numbers = SourceUri(uri, "synthetic", "street", options)
    first = numbers.integer("seed", minimum=0) or 0
    frames, clips = numbers.integer("frames") or 20, numbers.integer("clips") or 1
    step = numbers.integer("step") or 1
    size = (numbers.integer("height") or 256, numbers.integer("width") or 512)
    try:
        return [
            SyntheticClip(
                StreetScene(seed, split, size, frames * step, motion), f"{split}-{seed}", step
            )
            for seed in range(first, first + clips)
        ]
    except ConfigError as error:
        raise ConfigError(f"'{uri}': {error}") from error
