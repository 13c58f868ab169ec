"""COCO's JSON format, with and without video, as labelling tools write it.

These are accepted beside COCO-VID's ``videos`` (id, name), ``images`` (id, file_name, video_id,
frame_id), ``annotations`` (image_id, category_id, bbox) and ``categories`` (id, name):

- ids that are numbers, numbers as text, or text; categories that start at 0 or have gaps
- ``frame_index`` for ``frame_id``, ``file_name`` for the ``name`` of a video (TAO, MOT converters)
- no ``videos`` at all (CVAT, Roboflow, Label Studio): files of one folder whose names differ in the
  number at their end are one video, numbered by it; see ``_videos_of_names``
- Roboflow's first category, which stands for the project and has no boxes: it is no class
- backslashes in file names (Label Studio on Windows); ``ignore`` beside ``iscrowd``

Contradictions are refused with the entry and the field: an id that is given twice, an
image in two videos, a file that is two images, a frame of a video twice.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dff_edge.errors import SourceError
from dff_edge.files.regular import read_regular

Id = int | str

_MAX_BYTES = 1 << 32
_MAX_PX = 1e6  # of a box; more is damage, and soon too much for float32
_LISTS = ("images", "annotations", "categories")
_WHAT = "a JSON file in COCO's format"
# What Roboflow appends to a picture's name, and Label Studio puts before it.
_APPENDED = re.compile(r"_(?:bmp|jpe?g|png|webp)\.rf\.[0-9A-Za-z]+$")
_PREPENDED = re.compile(r"^[0-9a-f]{8}-")
_NUMBER_AT_END = re.compile(r"(?<!\d)(\d{1,18})$", re.ASCII)


class CocoImage(NamedTuple):
    """One picture: ``frame`` is its number in its video, ``size`` (H, W) as the file states it."""

    id: Id
    file: str
    frame: int
    size: tuple[int, int] | None


class CocoVideo(NamedTuple):
    """One video: ``images`` in the order of their frames, ``file`` where the file names one."""

    name: str
    images: list[CocoImage]
    file: str | None = None


class CocoObject(NamedTuple):
    """One box ``(x, y, width, height)`` in pixels; ``label`` is the number of its class."""

    label: int
    is_ignored: bool
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class CocoFile:
    """Contents of a file.

    Attributes:
        classes: names of the categories in the order of their ids.
        videos: each with its images.
        objects: by the image's id.
        problems: entries that were left out or amended, a line each.
    """

    classes: tuple[str, ...]
    videos: list[CocoVideo]
    objects: dict[Id, list[CocoObject]]
    problems: list[str] = field(default_factory=list)


def read_coco(path: Path) -> CocoFile:
    """Return the contents of a file; it is read again when it was written to.

    Raises:
        SourceError: it is missing, damaged, or contradicts itself.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"'{path}' cannot be read: {reason}; expected {_WHAT}.") from error
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, _changed_ns: int, _bytes: int) -> CocoFile:
    data = read_regular(path, max_bytes=_MAX_BYTES, what=_WHAT, error=SourceError)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"'{path}' is no JSON: {error}.") from error
    for name in _LISTS:
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise SourceError(
                f"'{path}' has no list '{name}', expected {', '.join(_LISTS)}, and of video "
                "'videos'."
            )
    try:
        return _parse(content)
    except ValueError as error:
        raise SourceError(f"'{path}': {error}") from error


class _Entry:
    """An entry of one of the lists; errors name it and the field."""

    def __init__(self, kind: str, index: int, value: Any) -> None:
        self._place = kind, index
        if not isinstance(value, dict):
            raise ValueError(f"{kind}[{index}] is {_short(value)}, expected an object with fields.")
        self.fields: dict[str, Any] = value

    @property
    def name(self) -> str:
        """Its place in the file, for errors."""
        kind, index = self._place
        own = f" (id {_short(self.fields['id'])})" if "id" in self.fields else ""
        return f"{kind}[{index}]{own}"

    def __contains__(self, key: str) -> bool:
        return self.fields.get(key) is not None

    def get(self, key: str) -> Any:
        if key not in self.fields:
            known = ", ".join(map(str, list(self.fields)[:12]))
            raise ValueError(f"{self.name} has no '{key}'; it has {known or 'no fields'}.")
        return self.fields[key]

    def wrong(self, key: str, expected: str) -> ValueError:
        return ValueError(
            f"{self.name}: {key} is {_short(self.fields.get(key))}, expected {expected}."
        )

    def id(self, key: str = "id") -> Id:
        value = self.get(key)
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
            return int(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise self.wrong(key, "a number or a text")
        return value

    def whole(self, key: str) -> int:
        value = self.id(key)
        if not isinstance(value, int):
            raise self.wrong(key, "a whole number")
        return value

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "a text")
        return value

    def flag(self, key: str) -> bool:
        value = self.fields.get(key)
        if value not in (None, 0, 1):
            raise self.wrong(key, "0 or 1")
        return bool(value)

    def size(self) -> tuple[int, int] | None:
        if not ("width" in self and "height" in self):
            return None
        size = self.whole("height"), self.whole("width")
        return size if min(size) > 0 else None

    def box(self) -> tuple[float, float, float, float]:
        value = self.get("bbox")
        is_box = isinstance(value, list) and len(value) == 4
        # Written so that NaN is refused too.
        if not is_box or not all(_is_number(side) and abs(side) <= _MAX_PX for side in value):
            raise self.wrong("bbox", "four finite numbers x, y, width, height in pixels")
        x, y, width, height = map(float, value)
        return x, y, width, height


def _parse(content: dict[str, Any]) -> CocoFile:
    problems: list[str] = []
    entries = [_Entry("annotations", *item) for item in enumerate(content["annotations"])]
    names = _categories(content["categories"], entries, problems)
    class_of = {category: number for number, category in enumerate(names)}
    images = _images(content["images"])
    videos = _videos(content.get("videos"), images, problems)
    objects: dict[Id, dict[CocoObject, None]] = defaultdict(dict)  # a set that keeps its order
    twice = rotated = 0
    for entry in entries:
        image = entry.id("image_id")
        if image not in images:
            raise entry.wrong("image_id", "the id of one of the images")
        category = entry.id("category_id")
        if category not in class_of:
            raise entry.wrong("category_id", f"the id of a category: {_some(class_of)}")
        is_ignored = entry.flag("iscrowd") or entry.flag("ignore")
        found = CocoObject(class_of[category], is_ignored, entry.box())
        if found in objects[image]:
            twice += 1
            continue
        objects[image][found] = None
        attributes = entry.fields.get("attributes")
        rotated += isinstance(attributes, dict) and bool(attributes.get("rotation"))
    if twice:
        problems.append(f"{twice} annotations repeat another one, box and class; left out")
    if rotated:
        problems.append(f"{rotated} boxes are rotated (attributes.rotation); read as upright")
    boxes = {image: list(found) for image, found in objects.items()}
    return CocoFile(tuple(names.values()), videos, boxes, problems)


def _categories(values: list[Any], annotations: list[_Entry], problems: list[str]) -> dict[Id, str]:
    """Return names by id in the order of the ids, without Roboflow's entry for the project."""
    names: dict[Id, str] = {}
    taken: set[str] = set()
    above: dict[Id, Any] = {}
    for index, value in enumerate(values):
        entry = _Entry("categories", index, value)
        category, name = entry.id(), entry.text("name")
        if category in names:
            raise entry.wrong("id", f"another than that of '{names[category]}': ids are unique")
        if name in taken:
            raise entry.wrong("name", "another than that of a category before: names are unique")
        taken.add(name)
        names[category], above[category] = name, entry.fields.get("supercategory")
    names = dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))
    root = names.get(0)
    others = [above[category] for category in names if category != 0]
    is_root = above.get(0) == "none" and others and all(other == root for other in others)
    if is_root and all(entry.id("category_id") != 0 for entry in annotations):
        problems.append(f"category 0, '{root}', stands for all others and has no box: no class")
        del names[0]
    return names


def _images(values: list[Any]) -> dict[Id, _Entry]:
    images: dict[Id, _Entry] = {}
    files: dict[str, _Entry] = {}
    for index, value in enumerate(values):
        entry = _Entry("images", index, value)
        name = _path_below(entry, "images")
        if entry.id() in images:
            raise entry.wrong(
                "id",
                f"another than that of {images[entry.id()].name}: ids are unique. Were "
                "files merged? Give the images of one of them other ids, annotations alike",
            )
        if name in files:
            raise entry.wrong("file_name", f"another than that of {files[name].name}")
        entry.fields = {**entry.fields, "file_name": name}
        images[entry.id()] = files[name] = entry
    return images


def _path_below(entry: _Entry, what: str) -> str:
    """Return the file name of an entry, a path below a folder of ``what``."""
    text = entry.text("file_name").replace("\\", "/")
    name = PurePosixPath(text)
    if name.is_absolute() or ".." in name.parts or not name.name or "://" in text:
        raise entry.wrong("file_name", f"a path below the folder of the {what} (?{what}=FOLDER)")
    return str(name)


def _videos(values: Any, images: dict[Id, _Entry], problems: list[str]) -> list[CocoVideo]:
    if not isinstance(values, list | None):
        raise ValueError(f"videos is {_short(values)}, expected a list.")
    if not values and not any("video_id" in entry for entry in images.values()):
        return _videos_of_names(images, problems)
    names: dict[Id, str] = {}
    files: dict[Id, str] = {}
    for index, value in enumerate(values or []):
        entry = _Entry("videos", index, value)
        if "file_name" in entry:
            files[entry.id()] = _path_below(entry, "videos")
        key = next((key for key in ("name", "file_name") if key in entry), None)
        if entry.id() in names:
            raise entry.wrong("id", f"another than that of '{names[entry.id()]}': ids are unique")
        names[entry.id()] = str(entry.id()) if key is None else str(entry.fields[key])
    frames: dict[Id, dict[int, _Entry]] = defaultdict(dict)
    for entry in images.values():
        video = entry.id("video_id")
        if values and video not in names:
            raise entry.wrong("video_id", "the id of one of the videos")
        number = _frame_number(entry)
        if number in frames[video]:
            raise ValueError(
                f"{entry.name} and {frames[video][number].name} are both frame {number} of video "
                f"{names.get(video, video)}, expected each frame once."
            )
        frames[video][number] = entry
    made = []
    for video in names or frames:
        own = [_image(entry, number) for number, entry in sorted(frames.get(video, {}).items())]
        made.append(CocoVideo(names.get(video, str(video)), own, files.get(video)))
    return made


def _frame_number(entry: _Entry) -> int:
    for key in ("frame_id", "frame_index"):
        if key in entry:
            return entry.whole(key)
    number = _split_name(entry.fields["file_name"])[1]
    if number is None:
        raise ValueError(
            f"{entry.name} has no 'frame_id', and its file_name no number at its end that could "
            "stand for it."
        )
    return number


def _videos_of_names(images: dict[Id, _Entry], problems: list[str]) -> list[CocoVideo]:
    """Videos of a file that names none: pictures whose names differ in the last number.

    Where that is not clear, because a number comes twice (augmented copies) or there is none, each
    picture is a video of its own.
    """
    groups: dict[str, list[tuple[int, _Entry]]] = defaultdict(list)
    for entry in images.values():
        group, number = _split_name(entry.fields["file_name"])
        groups[group if number is not None else entry.fields["file_name"]].append(
            (number or 0, entry)
        )
    made: list[CocoVideo] = []
    alone = 0
    for group, members in groups.items():
        repeats = max(Counter(number for number, _ in members).values()) > 1
        if repeats or len(members) == 1:
            alone += len(members)
            made += [
                CocoVideo(entry.fields["file_name"], [_image(entry, 0)]) for _, entry in members
            ]
        else:
            ordered = sorted(members, key=lambda member: member[0])
            made.append(CocoVideo(group, [_image(entry, number) for number, entry in ordered]))
    problems.append(
        f"it has no 'videos': {len(images)} pictures make {len(made) - alone} videos by the "
        f"numbers in their names, and {alone} pictures stand alone"
    )
    return made


def _split_name(file_name: str) -> tuple[str, int | None]:
    """Return the common part of the names of one video, and the number at the end of this one."""
    path = PurePosixPath(file_name)
    stem = _PREPENDED.sub("", _APPENDED.sub("", path.stem))
    number = _NUMBER_AT_END.search(stem)
    if number is None:
        return file_name, None
    return str(path.parent / stem[: number.start()]), int(number[1])


def _image(entry: _Entry, frame: int) -> CocoImage:
    return CocoImage(entry.id(), entry.fields["file_name"], frame, entry.size())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _some(names: dict[Id, int]) -> str:
    listed = [str(name) for name in list(names)[:8]]
    return ", ".join(listed) + (", ..." if len(names) > 8 else "")


def _short(value: Any) -> str:
    """Return a value for messages, of bounded length."""
    text = reprlib.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
