"""Cityscapes: snippets of 30 frames, of which the 20th is labelled.

``leftImg8bit_sequence/SPLIT/CITY/CITY_SEQUENCE_FRAME_leftImg8bit.png`` and
``gtFine/SPLIT/CITY/CITY_SEQUENCE_FRAME_gtFine_labelIds.png``. Numbers have six digits; the frames
of a snippet are those of its sequence from 19 before the labelled one to 10 after it.

Source of names, ids and the 19 classes: cityscapesScripts, helpers/labels.py (MIT). The 30 classes
of Cordts et al., CVPR 2016, which the Deep Feature Flow paper uses, are the ids 4 to 33: static,
dynamic and ground, then all that are not void.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dff_edge.data.datasets.files_clip import (
    FilesClip,
    Listing,
    list_folder,
    missing_folder,
    some,
)
from dff_edge.data.datasets.label_png import NOT_SCORED, read_label_png
from dff_edge.errors import SourceError
from dff_edge.frames import LabelMap

SPLITS = ("train", "val", "test")
SNIPPET_FRAMES, FRAMES_BEFORE = 30, 19

_NAMES = (  # by id, from 4 on
    "static dynamic ground road sidewalk parking rail_track building wall fence guard_rail bridge "
    "tunnel pole polegroup traffic_light traffic_sign vegetation terrain sky person rider car "
    "truck bus caravan trailer train motorcycle bicycle"
).split()
_FIRST_ID, _LAST_ID = 4, 33
_SCORED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_IDS = {"19": _SCORED_IDS, "30": tuple(range(_FIRST_ID, _FIRST_ID + len(_NAMES)))}
_LABELS = re.compile(r"(.+)_(\d{6})_(\d{6})_gtFine_labelIds\.png")
_WHERE_FROM = (
    "Cityscapes is available from cityscapes-dataset.com: gtFine_trainvaltest.zip, "
    "leftImg8bit_sequence_trainvaltest.zip (video) or leftImg8bit_trainvaltest.zip (labelled "
    "frames alone, sequence=0)."
)


class CityscapesClip(FilesClip):
    """One snippet; ``ids`` are the label ids of its classes, in the order of their numbers."""

    def __init__(
        self,
        name: str,
        folder: Path,
        images: Sequence[str],
        truth_folder: Path,
        truths: Mapping[int, str],
        ids: tuple[int, ...],
    ) -> None:
        super().__init__(name, folder, images, truth_folder, truths)
        self._class_of = np.full(256, NOT_SCORED, np.uint8)
        self._class_of[list(ids)] = np.arange(len(ids))

    def labels(self, index: int) -> LabelMap | None:
        """Read the labels of a frame; ids of no class become 255.

        Raises:
            SourceError: the file is damaged, or has an id that Cityscapes does not know.
        """
        if index not in self.truths:
            return None
        ids = read_label_png(self.truth_path(index))
        found = int(np.where(ids == NOT_SCORED, 0, ids).max())
        if found > _LAST_ID:
            raise SourceError(
                f"{self.truth_path(index)} has the id {found}, expected 0 to {_LAST_ID}, or 255."
            )
        return self._class_of[ids]


def class_names(_root: Path, options: dict[str, str]) -> tuple[str, ...]:
    """Return the names of the 19 or 30 classes."""
    return tuple(_NAMES[i - _FIRST_ID].replace("_", " ") for i in _IDS[options["ids"]])


def list_clips(root: Path, options: dict[str, str]) -> Listing:
    """List the snippets of a split that have labels.

    Raises:
        SourceError: a folder is missing, or no label has its frame.
    """
    split = options["split"]
    frames_in = "leftImg8bit_sequence" if options["sequence"] == "1" else "leftImg8bit"
    for folder in (f"gtFine/{split}", f"{frames_in}/{split}"):
        if not (root / folder).is_dir():
            raise missing_folder(root, folder, _WHERE_FROM)
    listing = Listing([])
    for city in list_folder(root / "gtFine" / split).folders:
        images_dir = root / frames_in / split / city
        there = set(list_folder(images_dir).files) if images_dir.is_dir() else set()
        used: set[str] = set()
        for name in list_folder(root / "gtFine" / split / city).files:
            match = _LABELS.fullmatch(name)
            if match is None:
                continue
            stem = f"{match[1]}_{match[2]}"
            labelled = int(match[3])
            first = labelled - FRAMES_BEFORE if options["sequence"] == "1" else labelled
            count = SNIPPET_FRAMES if options["sequence"] == "1" else 1
            names = [f"{stem}_{n:06}_leftImg8bit.png" for n in range(first, first + count)]
            used.update(names)
            missing = [image for image in names if image not in there]
            if missing:
                listing.problems.append(f"{images_dir / missing[0]} is missing")
            # A gap begins another segment: only frames that join the labelled one count.
            run = _around(names, there, labelled - first)
            if run is None:
                continue
            start, stop = run
            clip = CityscapesClip(
                f"{stem}_{match[3]}",
                images_dir,
                names[start:stop],
                root / "gtFine" / split / city,
                {labelled - first - start: name},
                _IDS[options["ids"]],
            )
            listing.clips.append(clip)
        if orphans := sorted(there - used):
            listing.problems.append(f"{images_dir}: {some(orphans, 'files')} of no label")
    if not listing.clips:
        why = listing.problems[0] if listing.problems else "no labelIds PNG is there"
        raise SourceError(f"'{root}' has no labelled frame in {split}: {why}. {_WHERE_FROM}")
    return listing


def _around(names: list[str], there: set[str], labelled: int) -> tuple[int, int] | None:
    """Return first and last + 1 of the frames without a gap around the labelled one, or None."""
    if names[labelled] not in there:
        return None
    start = stop = labelled
    while start > 0 and names[start - 1] in there:
        start -= 1
    while stop < len(names) and names[stop] in there:
        stop += 1
    return start, stop
