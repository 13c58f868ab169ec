"""The names of data sets: ``NAME://ROOT?key=value&key=value``.

- ``cityscapes://ROOT?split=val&ids=19``; ``ids=30`` for all classes, ``sequence=0`` for the
  labelled frames alone
- ``vid://ROOT?split=val``, ImageNet VID; ``frames=15`` to use that many frames of each snippet as
  labelled, evenly spread
- ``det://ROOT?split=train``, the images of ImageNet DET that VID's 30 classes are in, by the
  official list in ROOT; ``list=FILE`` for another
- ``camvid://ROOT?split=val``
- ``cocovid://ANNOTATIONS.json?images=FOLDER``, video in COCO's format; ``videos=FOLDER`` for video
  files instead of images, ``only=``, ``without=`` and ``every=`` for parts of it
- ``cvat://ANNOTATIONS.xml?video=FILE``, a video annotated in CVAT, "CVAT for video 1.1"
- a path without ``NAME://``: a labelled folder (``folder.py``)

ROOT is a path, relative or absolute (``cityscapes:///data/cityscapes``). Training also accepts
``vid+det://`` and ``flyingchairs://``, of which no clips are listed here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dff_edge.bundle.tasks import TaskName
from dff_edge.data.datasets import (
    camvid,
    cityscapes,
    coco_video,
    cvat_video,
    flying_chairs,
    folder,
    imagenet,
)
from dff_edge.data.datasets.files_clip import Listing
from dff_edge.data.datasets.labelled_clip import LabelledClip
from dff_edge.errors import ConfigError
from dff_edge.uri import split_query

VID_AND_DET, FLYING_CHAIRS = "vid+det", "flyingchairs"

_log = logging.getLogger("dff_edge.data")


@dataclass(frozen=True)
class DataSet:
    """A kind of data set.

    Attributes:
        title: for people.
        task: of its labels.
        splits: names of its splits; empty where it has none.
        choices: other keys of its names, with their allowed values; None for any.
        list: returns the clips of one split, and the faults of its files.
        classes: returns the names of its classes; None where the files do not define them.
    """

    title: str
    task: TaskName
    splits: tuple[str, ...]
    choices: dict[str, tuple[str, ...] | None]
    list: Callable[[Path, dict[str, str]], Listing]
    classes: Callable[[Path, dict[str, str]], tuple[str, ...] | None]


FOLDER = DataSet(
    "a labelled folder",
    "segmentation",
    (),
    {},
    folder.list_clips,
    lambda _root, _options: None,
)
DATA_SETS = {
    "cityscapes": DataSet(
        "Cityscapes",
        "segmentation",
        cityscapes.SPLITS,
        {"ids": ("19", "30"), "sequence": ("0", "1")},
        cityscapes.list_clips,
        cityscapes.class_names,
    ),
    "vid": DataSet(
        "ImageNet VID",
        "detection",
        imagenet.SPLITS,
        {"frames": None},
        imagenet.list_vid,
        lambda _root, _options: imagenet.CLASSES,
    ),
    "det": DataSet(
        "ImageNet DET, the classes of VID",
        "detection",
        imagenet.SPLITS,
        {"list": None},
        imagenet.list_det,
        lambda _root, _options: imagenet.CLASSES,
    ),
    "camvid": DataSet(
        "CamVid",
        "segmentation",
        camvid.SPLITS,
        {},
        camvid.list_clips,
        lambda _root, _options: camvid.CLASSES,
    ),
    "cocovid": DataSet(
        "video in COCO's format",
        "detection",
        (),
        {"images": None, "videos": None, "only": None, "without": None, "every": None},
        coco_video.list_clips,
        coco_video.class_names,
    ),
    "cvat": DataSet(
        "a video annotated in CVAT",
        "detection",
        (),
        {"video": None},
        cvat_video.list_clips,
        cvat_video.class_names,
    ),
}


@dataclass(frozen=True)
class DataName:
    """The name of a data set, parsed; its files are not read."""

    text: str
    kind: DataSet
    root: Path
    options: dict[str, str]

    def listing(self) -> Listing:
        """Return its clips, and the faults of its files.

        Raises:
            SourceError: it is missing, or its layout is wrong.
            ConfigError: the value of an option is not allowed.
        """
        return self.kind.list(self.root, self.options)

    def clips(self) -> Sequence[LabelledClip]:
        """Return its clips; log the faults of its files.

        Raises:
            SourceError: it is missing, or its layout is wrong.
            ConfigError: the value of an option is not allowed.
        """
        listing = self.listing()
        if listing.problems:
            _tell(self.text, len(listing.problems), listing.problems[0])
        return listing.clips

    def classes(self) -> tuple[str, ...] | None:
        """Return the names of its classes, None where its files do not define them."""
        return self.kind.classes(self.root, self.options)


@cache
def _tell(name: str, count: int, first: str) -> None:
    """Log the faults of data once: training opens its data several times."""
    more = f" (and {count - 1} more: `dff-edge data check` lists them)" if count > 1 else ""
    _log.warning("'%s': left out or not as usual in its files: %s%s", name, first, more)


def parse_data_name(uri: str, *, split: str = "val") -> DataName | None:
    """Parse the name of a data set, without opening it; None for other names.

    Args:
        uri: the name.
        split: the default split.

    Raises:
        ConfigError: it has no root, or an option that its data set does not know.

    Example:
        >>> parse_data_name("cityscapes://data/cs?split=val").options
        {'split': 'val', 'ids': '19', 'sequence': '1'}
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return DataName(uri, FOLDER, Path(uri), {})
    if scheme not in DATA_SETS:
        return None
    kind = DATA_SETS[scheme]
    root, given = split_query(rest, with_paths=True)
    if not root:
        raise ConfigError(f"'{uri}' names no folder, expected {scheme}://ROOT.")
    allowed: dict[str, tuple[str, ...] | None] = dict(kind.choices)
    if kind.splits:
        allowed = {"split": kind.splits, **allowed}
    for key, value in given.items():
        if key not in allowed:
            known = ", ".join(allowed)
            raise ConfigError(f"'{uri}': unknown option '{key}', expected {known}.")
        values = allowed[key]
        if values is not None and value not in values:
            raise ConfigError(f"'{uri}': {key} is '{value}', expected {' or '.join(values)}.")
    defaults = {"split": split, "ids": "19", "sequence": "1"}
    options = {key: defaults[key] for key in allowed if key in defaults} | given
    return DataName(uri, kind, Path(root), options)


def vid_and_det(uri: str) -> tuple[str, str]:
    """Return the names of the two data sets of ``vid+det://``, each with its own options.

    Raises:
        ConfigError: an option is of neither.
    """
    root, options = split_query(uri.partition("://")[2], with_paths=True)
    if set(options) - {"frames", "list"} or not root:
        raise ConfigError(
            f"'{uri}': expected {VID_AND_DET}://ROOT with no options but frames (of VID) and list "
            "(of DET)."
        )
    names = []
    for scheme, key in (("vid", "frames"), ("det", "list")):
        own = f"&{key}={options[key]}" if key in options else ""
        names.append(f"{scheme}://{root}?split=train{own}")
    return names[0], names[1]


def parse_chairs_name(uri: str) -> tuple[Path, str | None]:
    """Return the folder and the split of ``flyingchairs://``, None where the name has none.

    Raises:
        ConfigError: it has no folder, or another option, or another split.
    """
    root, query = split_query(uri.partition("://")[2], with_paths=True)
    split = query.pop("split", None)
    if query or not root or split not in (None, *flying_chairs.SPLITS):
        raise ConfigError(
            f"'{uri}': expected {FLYING_CHAIRS}://ROOT with no option but '?split=', "
            f"{' or '.join(flying_chairs.SPLITS)}."
        )
    return Path(root), split
