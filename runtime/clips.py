"""Labelled clips: videos with label maps or boxes, for training, calibration and evaluation.

One grammar names them everywhere:

- ``synthetic://street?split=val&clips=16&frames=20&step=1&seed=0&height=256&width=512``; of the
  scene every ``step``-th frame, as a camera of a lower rate sees it
- a public data set, ``cityscapes://ROOT?split=val`` and others (``datasets/names.py``)
- a folder with ``images/`` and ``labels/``: frames in natural order and, for some or all of
  them, an 8-bit PNG of the same stem. Each folder inside ``images/`` is a clip of its own, its
  labels in the folder of the same name inside ``labels/``. Labels of K and above are not scored.

Pictures are read as they are stored, EXIF rotation passed over: labels and boxes are of those
pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from numpy.typing import NDArray

from dff_edge.runtime.boxes import TrueBoxes
from dff_edge.runtime.contract import Task
from dff_edge.runtime.datasets import DATA_SETS, parse_data_name
from dff_edge.runtime.errors import ConfigError, SourceError
from dff_edge.runtime.frames import Image, LabelMap
from dff_edge.runtime.hiding import hide_credentials
from dff_edge.runtime.opencv import cv2
from dff_edge.runtime.sources.images import natural_key, read_image
from dff_edge.runtime.synthetic import BOX_CLASSES, CLASSES, StreetScene, true_boxes
from dff_edge.runtime.uri import IMAGE_SUFFIXES, SourceUri

_SYNTHETIC_KEYS = ("split", "seed", "clips", "frames", "step", "height", "width")


class LabelledClip(Protocol):
    """Consecutive frames of one video, some of them labelled.

    What it hands out may be handed out again: the caller does not write to it.
    """

    name: str

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image:
        """Frame ``index``, uint8 ``(H, W, 3)`` BGR."""
        ...

    def is_labelled(self, index: int) -> bool:
        """Whether a frame has a label map or boxes, without reading them."""
        ...

    def labels(self, index: int) -> LabelMap | None:
        """Label map of a frame, uint8 ``(H, W)``, or None where it has none."""
        ...

    def boxes(self, index: int) -> TrueBoxes | None:
        """Objects in a frame, in its pixels, or None where nobody has looked for them."""
        ...

    def flow(self, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """True flow in pixels ``(H, W, 2)`` and occlusion ``(H, W)``, or None where unknown."""
        ...


class SyntheticClip:
    """A synthetic scene as a labelled clip; every frame is labelled and every flow known.

    Args:
        scene: what is seen.
        name: of the clip.
        step: frames of the scene from one of the clip to the next.
    """

    def __init__(self, scene: StreetScene, name: str, step: int = 1) -> None:
        self.name = name
        self._scene = scene
        self._step = step
        self._render = lru_cache(maxsize=4)(scene.render)

    def __len__(self) -> int:
        return -(-len(self._scene) // self._step)

    def image(self, index: int) -> Image:
        """Draw a frame."""
        return self._render(index * self._step)[0]

    def is_labelled(self, index: int) -> bool:
        """Say True: every frame is."""
        return True

    def labels(self, index: int) -> LabelMap | None:
        """Give the exact labels of a frame."""
        return self._render(index * self._step)[1]

    def boxes(self, index: int) -> TrueBoxes | None:
        """Give the exact boxes of what is seen of ``BOX_CLASSES``."""
        return true_boxes(self._scene, index * self._step)

    def flow(self, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """Give the exact flow between two frames."""
        return self._scene.flow(current * self._step, key * self._step)


class FolderClip:
    """Images in the order given, with label PNGs for some of them.

    Args:
        images: files of the frames.
        label_dir: folder of the labels, ``<stem of the image>.png`` each; may be missing.
        name: of the clip.
    """

    def __init__(self, images: Sequence[Path], label_dir: Path, name: str) -> None:
        self.name = name
        self._images = list(images)
        self._label_dir = label_dir

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Image:
        """Read a frame, as it is stored: EXIF rotation is passed over.

        Raises:
            FrameError: the file is damaged or gone.
        """
        return read_image(self._images[index], as_stored=True)

    def is_labelled(self, index: int) -> bool:
        """Say whether the frame's label file exists."""
        return self._label_path(index).is_file()

    def labels(self, index: int) -> LabelMap | None:
        """Read the labels of a frame, None where it has no file.

        Raises:
            SourceError: the file is no 8-bit PNG with one channel.
        """
        path = self._label_path(index)
        if not path.is_file():
            return None
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
            got = "an unreadable file" if labels is None else f"{labels.dtype} {labels.shape}"
            raise SourceError(
                f"{path} is {got}, expected an 8-bit PNG with one channel of class numbers. Of a "
                "picture with a palette save the indices, not the colours."
            )
        return np.asarray(labels, np.uint8)

    def boxes(self, index: int) -> TrueBoxes | None:
        """Give None: such a folder holds label maps."""
        return None

    def flow(self, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """Give None: nobody knows the true flow of real video."""
        return None

    def _label_path(self, index: int) -> Path:
        return self._label_dir / f"{self._images[index].stem}.png"


def open_clips(uri: str, *, split: str = "val") -> list[LabelledClip]:
    """Open labelled clips by name.

    Args:
        uri: see the head of this file.
        split: of a data set whose name says none.

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
    if data := parse_data_name(uri, split=split):
        return list(data.clips())
    if "://" in uri:
        known = ", ".join(f"{name}://ROOT" for name in DATA_SETS)
        raise ConfigError(
            f"'{hide_credentials(uri)}' is not labelled data, expected synthetic://street, a "
            f"folder with images/ and labels/, or a data set: {known}."
        )
    return _folder_clips(Path(uri))


def class_names(uri: str, task: Task = "segmentation") -> tuple[str, ...] | None:
    """The classes of labelled data for a task where it knows them itself, else None."""
    if data := parse_data_name(uri):
        return data.classes()
    if not uri.startswith("synthetic://"):
        return None
    return BOX_CLASSES if task == "detection" else CLASSES


def check_class_names(uri: str, task: Task, names: Sequence[str], owner: str) -> None:
    """See that labelled data, where it knows its classes, has those of a model.

    Args:
        uri: of the data.
        task: of the model.
        names: the model's classes.
        owner: what has them, for the error.

    Raises:
        ConfigError: other classes, or another order.
    """
    known = class_names(uri, task)
    if known is not None and known != tuple(names):
        raise ConfigError(
            f"{uri} has the classes {', '.join(known)}, {owner} {', '.join(names)}; expected the "
            "same in the same order."
        )


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
    split = options.pop("split", "val")
    numbers = SourceUri(uri, "synthetic", "street", options)
    first = numbers.integer("seed", minimum=0) or 0
    frames, clips = numbers.integer("frames") or 20, numbers.integer("clips") or 1
    step = numbers.integer("step") or 1
    size = (numbers.integer("height") or 256, numbers.integer("width") or 512)
    try:
        return [
            SyntheticClip(StreetScene(seed, split, size, frames * step), f"{split}-{seed}", step)
            for seed in range(first, first + clips)
        ]
    except ConfigError as error:
        raise ConfigError(f"'{uri}': {error}") from error


def _folder_clips(root: Path) -> list[LabelledClip]:
    images, labels = root / "images", root / "labels"
    for folder in (images, labels):
        if not folder.is_dir():
            raise SourceError(
                f"'{root}' has no folder '{folder.name}'. Labelled data is a folder with images/ "
                "(frames) and labels/ (8-bit PNGs of the same stem)."
            )
    clips: list[LabelledClip] = []
    for group in [images, *_in_order(path for path in images.iterdir() if path.is_dir())]:
        files = _in_order(path for path in group.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if files:
            name = root.name if group == images else group.name
            clips.append(FolderClip(files, labels / group.relative_to(images), name))
    if not clips:
        raise SourceError(
            f"'{images}' holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}), nor do its folders."
        )
    return clips


def _in_order(paths: Iterable[Path]) -> list[Path]:
    """Natural order, without hidden files."""
    seen = (path for path in paths if not path.name.startswith("."))
    return sorted(seen, key=lambda path: (natural_key(path.name), path.name))
