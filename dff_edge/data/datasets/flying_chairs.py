"""Flying Chairs: pairs of pictures with true flow.

A folder holds ``data/00001_img1.ppm``, ``00001_img2.ppm`` and ``00001_flow.flo`` (the files may
also lie in the folder itself) and ``FlyingChairs_train_val.txt``, a line for each pair in order, 1
for training and 2 for validation. The flow leads from the first picture to the second.

Source: Dosovitskiy et al., FlowNet: Learning Optical Flow with Convolutional Networks, ICCV 2015.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dff_edge.data.datasets.files_clip import list_folder
from dff_edge.errors import FrameError, SourceError
from dff_edge.files.regular import read_regular, read_text
from dff_edge.runtime.sources.decoding.picture_size import MAX_PICTURE_PX, check_size

SPLITS = ("train", "val")
SPLIT_FILE = "FlyingChairs_train_val.txt"

_FLO_MAGIC = 202021.25  # "PIEH" as a float32
_MAX_FLO_BYTES = 12 + 8 * MAX_PICTURE_PX
_MAX_LIST_BYTES = 1 << 20  # of half a million pairs
_UNKNOWN_FLOW_PX = 1e9  # and beyond, by the convention of .flo files
_WHERE_FROM = (
    "It is available from the University of Freiburg (lmb.informatik.uni-freiburg.de, data set "
    "Flying Chairs), the split file from the same page"
)


def list_chairs(root: Path) -> dict[str, tuple[Path, list[int]]]:
    """List the pairs of each split: the folder of the files, and the pairs' numbers.

    Raises:
        SourceError: the folder, the split file or files of pairs are missing.
    """
    folder = root / "data" if (root / "data").is_dir() else root
    splits = root / SPLIT_FILE
    if not splits.is_file():
        raise SourceError(
            f"'{root}' holds no {SPLIT_FILE}, expected Flying Chairs: data/00001_img1.ppm, "
            f"00001_img2.ppm, 00001_flow.flo and so on, and {SPLIT_FILE}. {_WHERE_FROM}."
        )
    marks = read_text(
        splits, max_bytes=_MAX_LIST_BYTES, what="a line for each pair, 1 or 2", error=SourceError
    ).split()
    if set(marks) != {"1", "2"}:
        raise SourceError(f"{splits} holds other lines than 1 and 2, expected one for each pair.")
    there = set(list_folder(folder).files)
    numbers = range(1, len(marks) + 1)
    missing = [name for n in numbers for name in file_names(n) if name not in there]
    if missing:
        raise SourceError(
            f"'{folder}' lacks {len(missing)} files of the {3 * len(marks)} that {SPLIT_FILE} "
            f"speaks of, {', '.join(missing[:3])} first. {_WHERE_FROM}."
        )
    return {
        split: (folder, [n for n, mark in zip(numbers, marks, strict=True) if mark == code])
        for split, code in zip(SPLITS, "12", strict=True)
    }


def file_names(number: int) -> tuple[str, str, str]:
    """Return the names of the first picture, the second, and the flow of a pair."""
    return f"{number:05}_img1.ppm", f"{number:05}_img2.ppm", f"{number:05}_flow.flo"


def read_flo(path: Path) -> NDArray[np.float32]:
    """Read a .flo file: float32 202021.25, int32 width and height, float32 (dx, dy) by rows.

    Returns:
        float32 ``(H, W, 2)`` in pixels, NaN where the file marks it as unknown.

    Raises:
        SourceError: it cannot be read, or is no .flo file, or is cut short.
    """
    data = read_regular(path, max_bytes=_MAX_FLO_BYTES, what="a .flo file", error=SourceError)
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != _FLO_MAGIC:
        raise SourceError(f"{path} is no .flo file, expected it to begin with {_FLO_MAGIC}.")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, offset=4))
    try:
        check_size(height, width)
    except FrameError as error:
        raise SourceError(f"{path} has a damaged header: {error}.") from error
    expected = 12 + 8 * width * height
    if len(data) != expected:
        raise SourceError(
            f"{path} has {len(data)} bytes, expected {expected} for {width} x {height} pixels."
        )
    flow = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).astype(np.float32)
    unknown = ~(np.abs(flow) < _UNKNOWN_FLOW_PX).all(axis=2)
    flow[unknown] = np.nan
    return flow
