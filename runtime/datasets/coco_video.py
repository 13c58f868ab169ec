"""Video in COCO's format: one JSON file for all videos of a split.

``videos`` (id, name), ``images`` (id, file_name, video_id, frame_id), ``annotations`` (image_id,
category_id, bbox as x, y, width, height; iscrowd) and ``categories`` (id, name), as in COCO-VID of
mmtracking. Classes are the categories in the order of their ids. Every image counts as labelled. A
video of which frames are missing is several clips.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dff_edge.runtime.boxes import TrueBoxes
from dff_edge.runtime.datasets.files_clip import FilesClip, Listing, list_names
from dff_edge.runtime.errors import SourceError

_LISTS = ("videos", "images", "annotations", "categories")
_MAX_PX = 1e6  # of a box; more is damage, and soon too much for float32


class CocoClip(FilesClip):
    """One video; ``objects`` holds the boxes of each of its frames."""

    def __init__(
        self, name: str, folder: Path, images: Sequence[str], source: Path, objects: list[TrueBoxes]
    ) -> None:
        truths = dict.fromkeys(range(len(images)), source.name)
        super().__init__(name, folder, images, source.parent, truths)
        self._objects = objects

    def boxes(self, index: int) -> TrueBoxes | None:
        """Give the boxes of a frame; crowds are ignored."""
        return self._objects[index]


def class_names(root: Path, _options: dict[str, str]) -> tuple[str, ...]:
    """Name the categories in the order of their ids.

    Raises:
        SourceError: the file is missing or damaged.
    """
    return tuple(_load(root)[0].values())


def list_clips(root: Path, options: dict[str, str]) -> Listing:
    """List the videos of a file.

    Args:
        root: the JSON file.
        options: ``images``, the folder of the frames, relative to the file's; by default that.

    Raises:
        SourceError: the file is missing or damaged.
    """
    _, videos, images, objects = _load(root)
    folder = root.parent / options.get("images", ".")
    if not folder.is_dir():
        raise SourceError(
            f"There is no folder '{folder}', expected the frames of '{root}' in it. Give another "
            "as ?images=FOLDER, relative to the file's."
        )

    @cache
    def names_in(parent: Path) -> frozenset[str]:
        return frozenset(list_names(parent)) if parent.is_dir() else frozenset()

    def is_there(file: Path) -> bool:
        return file.name in names_in(file.parent)

    listing = Listing([])
    for video, name in videos.items():
        frames = sorted(images.get(video, []))
        numbers = [number for number, _, _ in frames]
        if len(set(numbers)) != len(numbers):
            raise SourceError(f"{root}: video {name} has two images of one frame_id.")
        if not frames:
            listing.problems.append(f"{root}: video {name} has no images")
            continue
        files = [file for _, _, file in frames]
        missing = next((folder / file for file in files if not is_there(folder / file)), None)
        if missing is not None:
            listing.problems.append(f"{missing} is missing; the video is left out")
            continue
        parts = _consecutive(numbers)
        if len(parts) > 1:
            listing.problems.append(
                f"{root}: video {name} lacks frames between others; pairs over these gaps are left "
                f"out, the rest makes {len(parts)} clips"
            )
        boxes = [_true_boxes(objects.get(image, [])) for _, image, _ in frames]
        for part in parts:
            part_name = name if len(parts) == 1 else f"{name}:{numbers[part.start]}"
            listing.clips.append(CocoClip(part_name, folder, files[part], root, boxes[part]))
    if not listing.clips:
        why = f": {listing.problems[0]}" if listing.problems else ""
        raise SourceError(f"'{root}' has no video whose images are there{why}.")
    return listing


def _consecutive(numbers: list[int]) -> list[slice]:
    """Where numbers that rise go on without a gap."""
    gaps = [n for n in range(1, len(numbers)) if numbers[n] != numbers[n - 1] + 1]
    return [slice(start, end) for start, end in pairwise([0, *gaps, len(numbers)])]


_Loaded = tuple[
    dict[int, str],  # categories: names by id
    dict[int, str],  # videos: names by id
    dict[int, list[tuple[int, int, str]]],  # frame_id, id and file of images by video
    dict[int, list[tuple[int, bool, list[float]]]],  # class, crowd and xywh by image
]


@lru_cache(maxsize=2)
def _load(path: Path) -> _Loaded:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(
            f"'{path}' cannot be read: {error.strerror}; expected a JSON file of COCO video."
        ) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"'{path}' is no JSON: {error}.") from error
    lacking = [k for k in _LISTS if not isinstance(data, dict) or not isinstance(data.get(k), list)]
    if lacking:
        raise SourceError(f"'{path}' has no list '{lacking[0]}', expected {', '.join(_LISTS)}.")
    try:
        return _read(data)
    except KeyError as error:
        raise SourceError(f"'{path}': an entry lacks {error}, or what it points to.") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SourceError(f"'{path}' is damaged: {error}.") from error


def _read(data: dict[str, Any]) -> _Loaded:
    categories = {int(c["id"]): str(c["name"]) for c in data["categories"]}
    categories = dict(sorted(categories.items()))
    class_of = {category: number for number, category in enumerate(categories)}
    videos = {int(video["id"]): str(video["name"]) for video in data["videos"]}
    images = defaultdict(list)
    known = set()
    for image in data["images"]:
        name = Path(str(image["file_name"]))
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"file_name is '{name}', expected a path below the folder of images")
        video = int(image["video_id"])
        if video not in videos:
            raise KeyError(f"video {video}")
        images[video].append((int(image["frame_id"]), int(image["id"]), str(name)))
        known.add(int(image["id"]))
    objects = defaultdict(list)
    for item in data["annotations"]:
        image_id = int(item["image_id"])
        if image_id not in known:
            raise KeyError(f"image {image_id}")
        box = [float(value) for value in item["bbox"]]
        # Negated, so that NaN is refused too.
        if len(box) != 4 or not all(abs(value) <= _MAX_PX for value in box) or min(box[2:]) < 0:
            raise ValueError(f"bbox is {item['bbox']}, expected x, y, width and height")
        is_crowd = bool(item.get("iscrowd", 0))
        objects[image_id].append((class_of[int(item["category_id"])], is_crowd, box))
    return categories, videos, dict(images), dict(objects)


def _true_boxes(objects: list[tuple[int, bool, list[float]]]) -> TrueBoxes:
    boxes = np.array([box for _, _, box in objects], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return TrueBoxes(
        boxes,
        np.array([number for number, _, _ in objects], np.int32),
        np.array([is_crowd for _, is_crowd, _ in objects], np.bool_),
    )
