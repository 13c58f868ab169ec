"""Checked labels and boxes of a frame: the same rules for every use.

Training, evaluation and ``data check`` read labels and boxes through these two functions, so
that all accept the same.

- Labels and boxes belong to a frame of one size: the label map's own, or the one stated in the
  annotations. Another size is refused; if the file has an EXIF rotation, the message names it.
- Labels are 0..K-1, or 255 for pixels that are not scored. Others are refused.
- Boxes are clipped at the border of the frame; boxes without area, or outside, are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dff_edge.boxes import TrueBoxes
from dff_edge.data.datasets.files_clip import FilesClip
from dff_edge.data.datasets.label_png import NOT_SCORED
from dff_edge.data.datasets.labelled_clip import LabelledClip
from dff_edge.errors import SourceError
from dff_edge.frames import LabelMap

_BEYOND_PX = 1.0  # by which a box may reach past the border without a report: rounding


class FittedBoxes(NamedTuple):
    """Boxes in a frame, and the numbers of the changed ones.

    Attributes:
        boxes: clipped, all with an area.
        clipped: number of boxes that reached past the border by more than a pixel.
        outside: number of boxes that lay wholly outside, which are left out.
        flat: number of boxes without an area of their own, which are left out.
    """

    boxes: TrueBoxes
    clipped: int
    outside: int
    flat: int


def true_labels(
    clip: LabelledClip, index: int, size: tuple[int, int], class_count: int | None
) -> LabelMap | None:
    """Return the label map of a frame, uint8 ``(H, W)``: 0..K-1 and 255.

    Args:
        clip: the clip of the frame.
        index: of the frame.
        size: ``(H, W)`` of the frame.
        class_count: K, None where it is not known: then any label counts.

    Returns:
        None where the frame has no label map.

    Raises:
        SourceError: its size is not the frame's, it has a label of K and above other than 255, or
            its file cannot be read.
    """
    labels = clip.labels(index)
    if labels is None:
        return None
    _check_size(clip, index, size, (labels.shape[0], labels.shape[1]))
    if class_count is not None:
        above = labels[(labels >= class_count) & (labels != NOT_SCORED)]
        if above.size:
            raise SourceError(
                f"{clip.where(index)}: {above.size / labels.size:.1%} of the pixels have labels of "
                f"no class, {int(above.max())} the largest, expected 0 to {class_count - 1}, or "
                f"{NOT_SCORED} for what is not scored. Add the class, or write {NOT_SCORED}."
            )
    return labels


def true_boxes(
    clip: LabelledClip, index: int, size: tuple[int, int], class_count: int | None
) -> FittedBoxes | None:
    """Return the boxes of a frame within its border.

    Arguments are those of ``true_labels``.

    Returns:
        None where the frame is not annotated.

    Raises:
        SourceError: the annotations are of a frame of another size, or have a class of K and above,
            or cannot be read.
    """
    truth = clip.boxes(index)
    if truth is None:
        return None
    if truth.size is not None:
        _check_size(clip, index, size, truth.size)
    if class_count is not None and len(truth) and int(truth.labels.max()) >= class_count:
        raise SourceError(
            f"{clip.where(index)}: a box is of class {int(truth.labels.max())}, expected 0 to "
            f"{class_count - 1}: the model has other classes than the data."
        )
    return fit_boxes(truth, size)


def fit_boxes(truth: TrueBoxes, size: tuple[int, int]) -> FittedBoxes:
    """Clip boxes at the border of a frame of ``size`` (H, W), and drop those without area.

    Example:
        >>> given = TrueBoxes(np.float32([[-8, 2, 4, 6], [9, 9, 9, 12]]), np.int32([0, 1]),
        ...                   np.array([False, False]))
        >>> fitted = fit_boxes(given, (10, 20))
        >>> fitted.boxes.boxes.tolist(), fitted.clipped, fitted.outside, fitted.flat
        ([[0.0, 2.0, 4.0, 6.0]], 1, 0, 1)
    """
    height, width = size
    ends = np.array([width, height, width, height], np.float32)
    has_area = (truth.boxes[:, 2:] > truth.boxes[:, :2]).all(axis=1)
    inside = np.clip(truth.boxes, 0, ends)
    is_seen = (inside[:, 2:] > inside[:, :2]).all(axis=1) & has_area
    is_cut = np.abs(truth.boxes - inside).max(axis=1, initial=0) > _BEYOND_PX
    kept = TrueBoxes(inside[is_seen], truth.labels[is_seen], truth.ignored[is_seen], size)
    return FittedBoxes(
        kept,
        clipped=int((is_cut & is_seen).sum()),
        outside=int((has_area & ~is_seen).sum()),
        flat=int((~has_area).sum()),
    )


def _check_size(
    clip: LabelledClip, index: int, size: tuple[int, int], stated: tuple[int, int]
) -> None:
    if stated == size:
        return
    (height, width), (other_height, other_width) = size, stated
    text = (
        f"{clip.where(index)}: the labels are of {other_width} x {other_height} pixels, and frame "
        f"{index} of clip '{clip.name}' has {width} x {height}, expected one size."
    )
    if isinstance(clip, FilesClip) and clip.is_turned(index):
        text += (
            " The picture has an EXIF rotation, which is not applied. Turn "
            "the stored pixels (exiftran -ai, or PIL.ImageOps.exif_transpose), and labels of what "
            "is shown fit."
        )
    elif stated == (width, height):
        text += " Height and width are exchanged."
    raise SourceError(text)
