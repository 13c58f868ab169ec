"""Video in COCO's format: one JSON file for all videos of a split.

See ``coco_json`` for the format. Classes are the categories in the order of their
ids. Every image counts as labelled. Frames are image files (``images=FOLDER``), and a video with
missing ones becomes several clips; or they are read from the video files (``videos=FOLDER``, or
``videos=FILE`` of a single one), whose frames between the labelled ones are there too.

Parts of a file: ``only=NAME,NAME`` and ``without=NAME,NAME`` choose videos, by names with ``*``,
``?`` and ``[...]``; with ``every=20`` only frames 19, 39, .. of each count as labelled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from dff_edge.boxes import TrueBoxes
from dff_edge.data.datasets.coco_json import (
    CocoFile,
    CocoImage,
    CocoObject,
    CocoVideo,
    read_coco,
)
from dff_edge.data.datasets.files_clip import FilesClip, Listing, list_folder
from dff_edge.data.datasets.video_clip import open_clip
from dff_edge.errors import ConfigError, SourceError

_SHOWN = 3  # names of videos in a message


class CocoClip(FilesClip):
    """Frames of a video without a gap; ``objects`` holds the boxes of each, as in the file.

    Attributes:
        video: name of the video, of which others may be clips too.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        images: Sequence[CocoImage],
        source: Path,
        objects: list[TrueBoxes],
        every: int = 1,
        video: str | None = None,
    ) -> None:
        truths = {n: source.name for n, image in enumerate(images) if _counts(image, every)}
        super().__init__(name, folder, [image.file for image in images], source.parent, truths)
        self.video = video or name
        self._objects = objects

    def where(self, index: int) -> str:
        """Return the name of a frame in the file."""
        return f"{self.truth_path(index)}, {self.images[index]}"

    def boxes(self, index: int) -> TrueBoxes | None:
        """Return the boxes of a frame; crowds are ignored."""
        return self._objects[index]


def class_names(root: Path, _options: dict[str, str]) -> tuple[str, ...]:
    """Return the names of the categories in the order of their ids.

    Raises:
        SourceError: as ``read_coco``.
    """
    return read_coco(root).classes


def list_clips(root: Path, options: dict[str, str]) -> Listing:
    """Return the videos of a file.

    Args:
        root: the JSON file.
        options: ``images``, the folder of the frames, or ``videos``, that of the video files,
            relative to the file's, which is the default of the first; ``only`` and ``without``,
            names of videos; ``every``, of how many frames one counts as labelled.

    Raises:
        ConfigError: images and videos are both given, or ``every`` is no number.
        SourceError: as ``read_coco``, or no video has all its images.
    """
    if "images" in options and "videos" in options:
        raise ConfigError(
            f"'{root}' is given with images= and videos=, expected one: the frames are image files "
            "or in video files."
        )
    text = options.get("every", "1")
    if not re.fullmatch(r"[1-9]\d{0,5}", text, re.ASCII):
        raise ConfigError(f"'{root}': every is '{text}', expected a whole number from 1 up.")
    content = read_coco(root)
    content = replace(content, videos=_chosen(root, content.videos, options))
    listing = Listing([], [f"{root}: {problem}" for problem in content.problems])
    if "videos" in options:
        _list_videos(root, root.parent / options["videos"], content, int(text), listing)
    else:
        _list_images(root, root.parent / options.get("images", "."), content, int(text), listing)
    return listing


def _chosen(root: Path, videos: list[CocoVideo], options: dict[str, str]) -> list[CocoVideo]:
    """Return the videos that ``only`` and ``without`` leave; raise for a name of none."""
    for key in ("only", "without"):
        wanted = options[key].split(",") if key in options else []
        for pattern in wanted:
            if not any(fnmatchcase(video.name, pattern) for video in videos):
                known = ", ".join(video.name for video in videos[:8])
                raise SourceError(
                    f"'{root}' has no video '{pattern}' ({key}=), expected names such as {known}."
                )
        if wanted:
            videos = [
                video
                for video in videos
                if any(fnmatchcase(video.name, pattern) for pattern in wanted) == (key == "only")
            ]
    return videos


def _counts(image: CocoImage, every: int) -> bool:
    return image.frame % every == every - 1


def _list_videos(root: Path, place: Path, content: CocoFile, every: int, listing: Listing) -> None:
    """List the videos whose files are in a folder, or the only one, whose file is given."""
    if not place.exists():
        raise SourceError(
            f"There is no '{place}', expected the folder of the video files of '{root}', or the "
            "file of the only one. Give another as ?videos=PATH, relative to the file's."
        )
    if place.is_file() and len(content.videos) != 1:
        raise SourceError(
            f"'{root}' has {len(content.videos)} videos, and '{place}' is one file. Give the "
            "folder of the video files as ?videos=FOLDER."
        )
    for video in content.videos:
        path = place if place.is_file() else place / (video.file or video.name)
        if not path.is_file():
            listing.problems.append(f"{path} is missing; the video is left out")
            continue
        objects = {
            image.frame: _true_boxes(content.objects.get(image.id, []), image.size)
            for image in video.images
            if _counts(image, every)
        }
        if not objects:
            listing.problems.append(f"{root}: video {video.name} has no labelled frame")
            continue
        clip = open_clip(video.name, path, root, objects, listing.problems)
        listing.clips += [] if clip is None else [clip]
    if not listing.clips:
        why = f": {listing.problems[-1]}" if listing.problems else ""
        raise SourceError(
            f"'{root}' has no video that can be read{why}. They are looked for in '{place}' by "
            "their file_name; another folder is given as ?videos=FOLDER."
        )


def _list_images(root: Path, folder: Path, content: CocoFile, every: int, listing: Listing) -> None:
    """List the videos all of whose frames are image files in a folder."""
    if not folder.is_dir():
        raise SourceError(
            f"There is no folder '{folder}', expected the frames of '{root}' in it. Give another "
            "as ?images=FOLDER, relative to the file's; video files as ?videos=FOLDER."
        )

    @cache
    def names_in(parent: Path) -> frozenset[str]:
        return frozenset(list_folder(parent).files) if parent.is_dir() else frozenset()

    def is_there(file: Path) -> bool:
        return file.name in names_in(file.parent)

    gaps: dict[str, int] = {}  # clips of each video that lacks frames
    for name, frames, _ in content.videos:
        if not frames:
            listing.problems.append(f"{root}: video {name} has no images")
            continue
        files = [folder / image.file for image in frames]
        missing = next((file for file in files if not is_there(file)), None)
        if missing is not None:
            listing.problems.append(f"{missing} is missing; the video is left out")
            continue
        parts = _consecutive([image.frame for image in frames])
        if len(parts) > 1:
            gaps[name] = len(parts)
        boxes = [_true_boxes(content.objects.get(image.id, []), image.size) for image in frames]
        for part in parts:
            part_name = name if len(parts) == 1 else f"{name}:{frames[part.start].frame}"
            listing.clips.append(
                CocoClip(part_name, folder, frames[part], root, boxes[part], every, video=name)
            )
    if gaps:
        listing.problems.append(
            f"{root}: {_videos(list(gaps))} frames between others; pairs over these gaps are left "
            f"out, the rest makes {sum(gaps.values())} clips"
        )
    if not listing.clips:
        why = f": {listing.problems[-1]}" if listing.problems else ""
        raise SourceError(
            f"'{root}' has no video whose images are there{why}. They are looked for in "
            f"'{folder}'; another folder is given as ?images=FOLDER, video files as ?videos=FOLDER."
        )


def _videos(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"video {names[0]} lacks"
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} videos ({', '.join(names[:_SHOWN])}{more}) lack"


def _consecutive(numbers: list[int]) -> list[slice]:
    """Return the slices of rising numbers without a gap."""
    gaps = [n for n in range(1, len(numbers)) if numbers[n] != numbers[n - 1] + 1]
    return [slice(start, end) for start, end in pairwise([0, *gaps, len(numbers)])]


def _true_boxes(objects: list[CocoObject], size: tuple[int, int] | None) -> TrueBoxes:
    boxes = np.array([found.box for found in objects], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return TrueBoxes(
        boxes,
        np.array([found.label for found in objects], np.int32),
        np.array([found.is_ignored for found in objects], np.bool_),
        size,
    )
