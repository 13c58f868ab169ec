"""Labelled data divided on disk: a part to train on, and one that is held out from it.

A labelled folder becomes two, whose files are links to its own where the disk allows it. A JSON
file in COCO's format becomes two files, and its pictures stay in their place.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dff_edge.data.datasets import parse_data_name
from dff_edge.data.datasets.coco_json import Id, read_coco
from dff_edge.data.datasets.files_clip import FilesClip
from dff_edge.data.datasets.folder import list_clips
from dff_edge.data.datasets.names import DATA_SETS, FOLDER
from dff_edge.data.hold_out import Part, choose_parts
from dff_edge.errors import ConfigError, SinkError
from dff_edge.files.atomic import write_atomically

TRAIN, HELD_OUT = "train", "val"


@dataclass(frozen=True)
class SplitPart:
    """One side of divided data.

    Attributes:
        source: its name, for ``data.train`` and the like.
        labelled: number of its labelled frames.
        clips: names of its clips, with the first and last frame where it is a part of one.
    """

    source: str
    labelled: int
    clips: tuple[str, ...]


class _Outline(NamedTuple):
    """A clip's name, number of frames, and labelled frames."""

    name: str
    frames: int
    labelled: Sequence[int]


def split_data(source: str, folder: Path, share: float) -> tuple[SplitPart, SplitPart]:
    """Divide labelled data on disk, by whole clips or by blocks (``hold_out.choose_parts``).

    Args:
        source: a labelled folder, or ``cocovid://FILE.json``.
        folder: for the two parts; new or empty.
        share: of the labelled frames that is held out, about.

    Returns:
        The part for training, and the one that is held out.

    Raises:
        ConfigError: data of another kind, or too few labelled frames.
        SourceError: it cannot be read.
        SinkError: the folder is not empty, or cannot be written.
    """
    data = parse_data_name(source)
    split: Callable[[Path, dict[str, str], Path, float], tuple[SplitPart, SplitPart]]
    if data is not None and data.kind is DATA_SETS["cocovid"]:
        split = _split_coco
    elif data is not None and data.kind is FOLDER:
        split = _split_folder
    else:
        raise ConfigError(
            f"'{source}' cannot be divided, expected a labelled folder or cocovid://FILE.json; "
            "public data sets have splits of their own, and a video annotated in CVAT is one clip "
            "(CVAT exports COCO's format too)."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SinkError(f"'{folder}' is not an empty folder. Give a new one.")
    try:
        return split(data.root, data.options, folder, share)
    except OSError as error:
        raise SinkError(f"'{folder}' cannot be written: {error}. Give another folder.") from error


def _split_folder(
    root: Path, options: dict[str, str], folder: Path, share: float
) -> tuple[SplitPart, SplitPart]:
    # All of them are, in a folder; the listing's type is for data sets of any kind.
    clips = [clip for clip in list_clips(root, options).clips if isinstance(clip, FilesClip)]
    outlines = [_Outline(clip.name, len(clip), sorted(clip.truths)) for clip in clips]
    parts = choose_parts([clip.labelled for clip in outlines], [len(clip) for clip in clips], share)
    for part in parts:
        clip = clips[part.clip]
        name = clip.name if _is_whole(part, len(clip)) else f"{clip.name}-{part.start}"
        _link_part(clip, part, folder / (HELD_OUT if part.is_held_out else TRAIN), name)
    return (
        _described(str(folder / TRAIN), outlines, [p for p in parts if not p.is_held_out]),
        _described(str(folder / HELD_OUT), outlines, [p for p in parts if p.is_held_out]),
    )


def _link_part(clip: FilesClip, part: Part, side: Path, name: str) -> None:
    images, labels = side / "images" / name, side / "labels" / name
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for index in range(part.start, part.stop):
        _link(clip.image_path(index), images)
        if index in clip.truths:
            _link(clip.truth_path(index), labels)


def _link(file: Path, folder: Path) -> None:
    """Put a file into a folder: as a second name of it, or as a copy where that cannot be."""
    try:
        os.link(file.resolve(), folder / file.name)
    except OSError:  # another disk, or one without links
        shutil.copyfile(file, folder / file.name)


def _split_coco(
    root: Path, options: dict[str, str], folder: Path, share: float
) -> tuple[SplitPart, SplitPart]:
    chosen = [f"{key}=" for key in ("only", "without", "every") if key in options]
    if chosen:
        raise ConfigError(
            f"'{root}' is given with {', '.join(chosen)}, expected none: a whole file is divided."
        )
    videos = [video for video in read_coco(root).videos if video.images]
    outlines = [
        _Outline(video.name, len(video.images), range(len(video.images))) for video in videos
    ]
    parts = choose_parts(
        [clip.labelled for clip in outlines], [clip.frames for clip in outlines], share
    )
    content = json.loads(root.read_bytes())  # checked by read_coco
    key = "videos" if "videos" in options else "images"
    place = (root.parent / options.get(key, ".")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for is_held_out, side in ((False, TRAIN), (True, HELD_OUT)):
        own = [part for part in parts if part.is_held_out == is_held_out]
        kept = {
            image.id for part in own for image in videos[part.clip].images[part.start : part.stop]
        }
        path = folder / f"{side}.json"
        write_atomically(path, json.dumps(_restricted(content, kept)).encode())
        source = f"cocovid://{path}?{key}={os.path.relpath(place, folder.absolute())}"
        made.append(_described(source, outlines, own))
    return made[0], made[1]


def _restricted(content: dict[str, Any], kept: set[Id]) -> dict[str, Any]:
    """Return a COCO file's content with some of its images, and what belongs to them."""
    images = [each for each in content["images"] if _id(each["id"]) in kept]
    changed = {
        "images": images,
        "annotations": [each for each in content["annotations"] if _id(each["image_id"]) in kept],
    }
    if content.get("videos"):
        own = {_id(each["video_id"]) for each in images}
        changed["videos"] = [each for each in content["videos"] if _id(each["id"]) in own]
    return content | changed


def _id(value: Any) -> Id:
    """Return an id as ``read_coco`` gives it: numbers that are written as text are numbers."""
    try:
        return int(value)
    except ValueError:
        return str(value)


def _described(source: str, clips: Sequence[_Outline], parts: Sequence[Part]) -> SplitPart:
    labelled, names = 0, []
    for part in parts:
        clip = clips[part.clip]
        labelled += sum(part.start <= index < part.stop for index in clip.labelled)
        is_whole = _is_whole(part, clip.frames)
        names.append(
            clip.name if is_whole else f"{clip.name}, frames {part.start} to {part.stop - 1}"
        )
    return SplitPart(source, labelled, tuple(names))


def _is_whole(part: Part, length: int) -> bool:
    return part.start == 0 and part.stop == length
