"""A video annotated in CVAT, exported as "CVAT for video 1.1": one XML file beside the video.

Classes are the labels of the task in their order. The boxes of its tracks count; between two boxes
of a track that are not ``outside``, frames that the file leaves out have the box between them, as
CVAT itself interpolates, and after the last one the box stays. Other shapes are left out and
counted. Frames are numbered as in the video; the task's first and last frame and its step tell
which of them are labelled.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import TrueBoxes
from dff_edge.data.datasets.files_clip import Listing
from dff_edge.data.datasets.video_clip import open_clip
from dff_edge.errors import SourceError
from dff_edge.files.regular import read_text

_MAX_BYTES = 1 << 30
_MAX_FRAME = 10**7  # of a task: 92 hours at 30 Hz
_MAX_PX = 1e6
_WHAT = "a file that CVAT exported as 'CVAT for video 1.1'"
_ENDS = ("xtl", "ytl", "xbr", "ybr")


class _Box(NamedTuple):
    frame: int
    is_outside: bool
    ends: NDArray[np.float64]


class _Task(NamedTuple):
    """Facts of a file about its task; ``frames`` are those that were labelled."""

    labels: tuple[str, ...]
    frames: range
    size: tuple[int, int] | None
    source: str | None


def class_names(root: Path, _options: dict[str, str]) -> tuple[str, ...]:
    """Return the labels of the task in their order.

    Raises:
        SourceError: the file is missing, or no export of CVAT.
    """
    return _read_task(root, _read(root)).labels


def list_clips(root: Path, options: dict[str, str]) -> Listing:
    """Return the video of a file as one clip.

    Args:
        root: the XML file.
        options: ``video``, the video file relative to the XML; else the one that the XML names is
            expected beside it.

    Raises:
        SourceError: one of the files is missing or cannot be read.
    """
    tree = _read(root)
    task = _read_task(root, tree)
    name = options.get("video", task.source)
    if name is None:
        raise SourceError(f"'{root}' names no video. Give it as ?video=FILE, relative to the XML.")
    path = root.parent / name
    if not path.is_file():
        raise SourceError(
            f"There is no video '{path}', which '{root}' is of. Give it as ?video=FILE, relative "
            "to the XML."
        )
    listing = Listing([])
    objects = _read_objects(root, tree, task, listing.problems)
    clip = open_clip(path.stem, path, root, objects, listing.problems)
    if clip is None:
        why = f": {listing.problems[-1]}" if listing.problems else ""
        raise SourceError(f"'{root}' labels no frame of '{path}'{why}.")
    listing.clips.append(clip)
    return listing


def _read(root: Path) -> ET.Element:
    text = read_text(root, max_bytes=_MAX_BYTES, what=_WHAT, error=SourceError)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities can expand without bound
        raise SourceError(f"{root} declares a document type or entities, expected {_WHAT}.")
    try:
        tree = ET.fromstring(text)
    except (ET.ParseError, ValueError) as error:
        raise SourceError(f"{root} is damaged: {error}; expected {_WHAT}.") from error
    if tree.tag != "annotations":
        raise SourceError(f"{root} begins with <{tree.tag}>, expected <annotations>: {_WHAT}.")
    return tree


def _read_task(root: Path, tree: ET.Element) -> _Task:
    meta = tree.find("meta/task")
    meta = tree.find("meta/job") if meta is None else meta
    if meta is None:
        raise SourceError(
            f"{root} has no <meta> of a task or job, expected {_WHAT}. Of a project, export each "
            "task by itself."
        )
    if tree.find("image") is not None:
        raise SourceError(
            f"{root} has annotations of images ('CVAT for images'), expected {_WHAT}. Export it "
            "anew, as CVAT for video or as COCO."
        )
    labels = tuple(name.text or "" for name in meta.iterfind("labels/label/name"))
    if not labels or "" in labels or len(set(labels)) < len(labels):
        raise SourceError(
            f"{root} has the labels {', '.join(labels) or 'none'}, expected a name each."
        )
    filtered = re.fullmatch(r"\s*step\s*=\s*(\d+)\s*", meta.findtext("frame_filter") or "")
    try:
        step = int(filtered[1]) if filtered else 1
        first = int(meta.findtext("start_frame") or 0)
        stop = meta.findtext("stop_frame")
        last = first + (int(_needed(meta, "size")) - 1) * step if stop is None else int(stop)
        if not (0 <= first <= last <= _MAX_FRAME and step > 0):
            raise ValueError(f"it is of frames {first} to {last} in steps of {step}")
        size = [int(meta.findtext(f"original_size/{side}") or 0) for side in ("height", "width")]
    except ValueError as error:
        raise SourceError(f"{root} is damaged: {error}.") from error
    source = meta.findtext("source") or tree.findtext("meta/source")
    # A name alone: a file of another machine cannot be meant.
    name = source.replace("\\", "/").rpartition("/")[2] if source else None
    return _Task(
        labels,
        range(first, last + 1, step),
        (size[0], size[1]) if min(size) > 0 else None,
        name or None,
    )


def _read_objects(
    root: Path, tree: ET.Element, task: _Task, problems: list[str]
) -> dict[int, TrueBoxes]:
    """Return the boxes of each labelled frame."""
    boxes: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    labels: dict[int, list[int]] = defaultdict(list)
    others: Counter[str] = Counter()
    rotated = 0
    for number, track in enumerate(tree.iterfind("track")):
        others.update(item.tag for item in track if item.tag not in ("box", "attribute"))
        label = track.get("label")
        if label not in task.labels:
            raise SourceError(
                f"{root}: track {track.get('id', number)} has the label '{label}', expected one of "
                f"{', '.join(task.labels)}."
            )
        try:
            shown = [_read_box(item) for item in track.iterfind("box")]
        except ValueError as error:
            raise SourceError(f"{root}: track {track.get('id', number)}: {error}.") from error
        rotated += sum(bool(float(item.get("rotation") or 0)) for item in track.iterfind("box"))
        for frame, ends in _on_frames(shown, task.frames):
            boxes[frame].append(ends)
            labels[frame].append(task.labels.index(label))
    if others:
        kinds = ", ".join(f"{count} <{kind}>" for kind, count in others.items())
        problems.append(f"{root}: shapes other than boxes are left out: {kinds}")
    if rotated:
        problems.append(f"{root}: {rotated} boxes are rotated; read as upright")
    return {
        frame: TrueBoxes(
            np.array(boxes[frame], np.float32).reshape(-1, 4),
            np.array(labels[frame], np.int32),
            np.zeros(len(labels[frame]), np.bool_),
            task.size,
        )
        for frame in task.frames
    }


def _read_box(item: ET.Element) -> _Box:
    frame = int(_given(item, "frame"))
    ends = np.array([float(_given(item, end)) for end in _ENDS])
    if not (np.abs(ends) <= _MAX_PX).all():  # so that NaN is refused too
        raise ValueError(f"the box of frame {frame} is {ends.tolist()}, expected pixels")
    return _Box(frame, item.get("outside") == "1", ends)


def _on_frames(shown: list[_Box], frames: range) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the box of a track in each labelled frame where it has one."""
    shown = sorted(shown, key=lambda box: box.frame)
    if not shown:
        return
    last = shown[-1]._replace(frame=max(frames.stop, shown[-1].frame + 1))
    for box, after in pairwise([*shown, last]):
        if box.is_outside:
            continue
        # To a box that ends the track nothing moves: the object is last seen where it was.
        end = box.ends if after.is_outside else after.ends
        for frame in range(max(box.frame, frames.start), min(after.frame, frames.stop)):
            if frame in frames:
                share = (frame - box.frame) / (after.frame - box.frame)
                yield frame, box.ends + share * (end - box.ends)


def _needed(element: ET.Element, path: str) -> str:
    found = element.findtext(path)
    if found is None:
        raise ValueError(f"<{element.tag}> has no <{path}>")
    return found


def _given(element: ET.Element, name: str) -> str:
    value = element.get(name)
    if value is None:
        raise ValueError(f"a <{element.tag}> has no '{name}'")
    return value
