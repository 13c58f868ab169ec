"""Labelled folders: ``images/`` and ``labels/``, a PNG of class numbers for some of the frames.

``images/`` holds frames of one clip in natural order, ``labels/`` a PNG of the same stem for some
or all of them. Each folder inside ``images/`` is a clip of its own, its labels in the folder of the
same name inside ``labels/``. Pixels of label 255 are not scored.
"""

from __future__ import annotations

from pathlib import Path

from dff_edge.data.datasets.files_clip import (
    Entries,
    FilesClip,
    Listing,
    by_stem,
    list_folder,
    some,
)
from dff_edge.data.datasets.label_png import read_label_png
from dff_edge.errors import SourceError
from dff_edge.frames import LabelMap
from dff_edge.runtime.sources.images import natural_key
from dff_edge.uri import IMAGE_SUFFIXES


class FolderClip(FilesClip):
    """Images of one folder, with label PNGs for some of them."""

    def labels(self, index: int) -> LabelMap | None:
        """Return the labels of a frame, None where it has no file.

        Raises:
            SourceError: as ``read_label_png``.
        """
        return read_label_png(self.truth_path(index)) if index in self.truths else None


def is_labelled_folder(path: str | Path) -> bool:
    """Return whether a folder is laid out as labelled data."""
    return all((Path(path) / name).is_dir() for name in ("images", "labels"))


def list_clips(root: Path, _options: dict[str, str]) -> Listing:
    """Return the clips of a labelled folder, in natural order of their names.

    Raises:
        SourceError: a folder is missing or holds no images, or two files have one stem.
    """
    images, labels = root / "images", root / "labels"
    for folder in (images, labels):
        if not folder.is_dir():
            raise SourceError(
                f"'{root}' has no folder '{folder.name}'. Labelled data is a folder with images/ "
                "(frames) and labels/ (PNGs of class numbers, of the same stem)."
            )
    listing = Listing([])
    inside = list_folder(images)
    _add(listing, root.absolute().name, images, inside, labels)
    for name in sorted(inside.folders, key=_natural):
        held = list_folder(images / name)
        _add(listing, name, images / name, held, labels / name)
        if held.folders:
            listing.problems.append(
                f"{images / name}: {some(held.folders, 'folders')} in a clip's folder, ignored"
            )
    if lost := sorted(set(list_folder(labels).folders) - set(inside.folders)):
        listing.problems.append(f"{labels}: {some(lost, 'folders')} with no folder in {images}")
    if not listing.clips:
        raise SourceError(
            f"'{images}' holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}), nor do its folders."
        )
    return listing


def _add(listing: Listing, name: str, images: Path, inside: Entries, labels: Path) -> None:
    """Add the clip of one folder, where it holds images, and its faults."""
    pictures = [n for n in inside.files if _suffix(n) in IMAGE_SUFFIXES]
    if lost := [n for n in inside.others if _suffix(n) in IMAGE_SUFFIXES]:
        listing.problems.append(f"{images}: {some(lost, 'names')} of no file, left out")
    frames = by_stem(images, sorted(pictures, key=_natural), "the pictures")
    present = list_folder(labels).files if labels.is_dir() else []
    truths = by_stem(labels, (n for n in present if _suffix(n) == ".png"), "the labels")
    if others := [n for n in present if _suffix(n) in IMAGE_SUFFIXES - {".png"}]:
        listing.problems.append(f"{labels}: {some(others, 'files')} are no PNG, so no labels")
    if orphans := [truth for stem, truth in truths.items() if stem not in frames]:
        listing.problems.append(
            f"{labels}: {some(orphans, 'label PNGs')} of no picture: {images} has none of the stem"
        )
    if frames:
        known = {n: truths[stem] for n, stem in enumerate(frames) if stem in truths}
        listing.clips.append(FolderClip(name, images, list(frames.values()), labels, known))


def _natural(name: str) -> tuple[object, str]:
    return natural_key(name), name


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()
