"""Findings in a sample of labelled data: errors, warnings and their messages.

``dff-edge data check`` prints all findings; training and evaluation refuse errors and log warnings
through ``check_clips``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.tasks import FORMATS, TaskName
from dff_edge.data.datasets.anchor_proposal import overlaps, propose_anchors
from dff_edge.data.datasets.label_png import NOT_SCORED
from dff_edge.data.datasets.labelled_clip import LabelledClip
from dff_edge.data.datasets.sample import Sample, take_sample
from dff_edge.errors import SourceError

Severity = Literal["error", "warning", "note"]

_MUCH_NOT_SCORED = 0.25
_MUCH_OUTSIDE = 0.5
_MUCH_UNRELATED, _MOSTLY_UNRELATED = 0.1, 0.5
_LEAST_OVERLAP = 0.5  # with the best anchor; proposals are trained on 0.7 and the best of each box
_MUCH_WITHOUT_ANCHOR = 0.25
_SHOWN_CLASSES = 8

_log = logging.getLogger("dff_edge.data")


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        name: of the check, for programs.
        severity: "error" if the data cannot be used as it is, "warning" if it may be wrong.
        text: for people: the finding, its meaning, and what to do.
    """

    name: str
    severity: Severity
    text: str


class Anchors(NamedTuple):
    """The anchors of a detector.

    Attributes:
        sizes: float32 ``(A, 2)``, width and height in pixels of the network's frame.
        frame_size: ``(H, W)`` of that frame.
    """

    sizes: NDArray[np.float32]
    frame_size: tuple[int, int]


def check_clips(
    clips: Sequence[LabelledClip],
    name: str,
    task: TaskName,
    classes: Sequence[str],
    *,
    anchors: Anchors | None = None,
    pairs: bool = False,
) -> None:
    """Open a sample of labelled frames, raise for errors, and log warnings.

    Args:
        clips: the data.
        name: its name in messages.
        task: its intended use.
        classes: of the model, K names.
        anchors: of a detector that is trained on it.
        pairs: whether neighbouring frames are used as pairs.

    Raises:
        SourceError: a frame is damaged, a label is of no class, label maps hold one class alone
            beside unscored pixels, or boxes lie outside their frames.
    """
    sample = take_sample(clips, task, len(classes))
    for finding in find(sample, task, classes, anchors=anchors, pairs=pairs):
        if finding.severity == "error":
            raise SourceError(f"'{name}': {finding.text}")
        if finding.severity == "warning":
            _log.warning("'%s': %s", name, finding.text)


def find(
    sample: Sample,
    task: TaskName,
    classes: Sequence[str] | None,
    *,
    anchors: Anchors | None = None,
    pairs: bool = True,
) -> list[Finding]:
    """Return the findings in a sample, errors first.

    Args:
        sample: of the labelled frames.
        task: what they are used for.
        classes: names of the K classes, None where they are not known.
        anchors: of a detector that is trained on them.
        pairs: whether neighbouring frames are used as pairs.
    """
    if not sample.labelled:
        return [Finding("unlabelled", "error", "no frame has labels or boxes")]
    found = [Finding("damaged", "error", text) for text in sample.damaged]
    if sample.opened:
        has_boxes = FORMATS.find(task).truth == "boxes"
        found += _boxes(sample) if has_boxes else _labels(sample, classes)
        found += _missing_classes(sample, classes)
        if anchors is not None and len(sample.box_sizes):
            found.append(_anchors(sample.box_sizes, anchors))
        found += _pictures(sample, pairs)
    order = ("error", "warning", "note")
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _labels(sample: Sample, classes: Sequence[str] | None) -> list[Finding]:
    total, unscored = int(sample.pixels.sum()), int(sample.pixels[NOT_SCORED])
    if not total:
        return []
    found: list[Finding] = []
    share = unscored / total
    present = np.flatnonzero(sample.pixels[:NOT_SCORED]).tolist()
    if not sample.shows_classes:
        held = f"{present[0]} and {NOT_SCORED}" if present else f"{NOT_SCORED}"
        found.append(
            Finding(
                "one_class",
                "error",
                f"the label maps hold nothing but {held}, and {NOT_SCORED} means that a pixel is "
                f"not scored ({share:.1%} of them): there is no second class to be told from. In a "
                f"mask of 0 and {NOT_SCORED}, write the class as 1.",
            )
        )
    elif share > 0:
        severity: Severity = "warning" if share > _MUCH_NOT_SCORED else "note"
        text = f"{share:.1%} of the labelled pixels are {NOT_SCORED}, which is not scored"
        if severity == "warning":
            text += f": they count in no loss and no result. Is a class written as {NOT_SCORED}?"
        found.append(Finding("not_scored", severity, text))
    if classes is None:
        text = f"labels are {_numbers(present)}; name the classes to have them checked"
        found.append(Finding("classes_unknown", "note", f"{text} (--classes or --config)"))
    return found


def _boxes(sample: Sample) -> list[Finding]:
    found: list[Finding] = []
    total = sample.boxes + sample.outside + sample.flat
    if not total:
        is_all = sample.opened == sample.labelled
        return [
            Finding(
                "no_boxes",
                "error" if is_all else "warning",
                f"there is no box in {'any' if is_all else 'the'} of the {sample.opened} frames "
                "that were opened",
            )
        ]
    if sample.outside:
        severity: Severity = "error" if sample.outside > _MUCH_OUTSIDE * total else "warning"
        found.append(
            Finding(
                "boxes_outside",
                severity,
                f"{sample.outside} of {total} boxes lie wholly outside their frames, and are left "
                "out. Are they of pictures of another size?",
            )
        )
    if sample.flat:
        text = f"{sample.flat} of {total} boxes have no area, and are left out"
        found.append(Finding("boxes_flat", "warning", text))
    if sample.clipped:
        text = f"{sample.clipped} of {total} boxes reach past the border, and are clipped there"
        found.append(Finding("boxes_clipped", "note", text))
    if sample.ignored:
        text = f"{sample.ignored} of {total} boxes are ignored (crowds): they are not scored"
        found.append(Finding("boxes_ignored", "note", text))
    return found


def _missing_classes(sample: Sample, classes: Sequence[str] | None) -> list[Finding]:
    missing = [name for n, name in enumerate(classes or ()) if not sample.frames_with[n]]
    if not missing or not sample.frames_with:
        return []
    some = ", ".join(missing[:_SHOWN_CLASSES]) + (", ..." if len(missing) > _SHOWN_CLASSES else "")
    text = (
        f"in none of the {sample.opened} frames that were opened is there any of {len(missing)} of "
        f"the {len(classes or ())} classes: {some}"
    )
    if sample.pixels[NOT_SCORED]:
        text += f". Was it written as {NOT_SCORED}, which is not scored?"
    return [Finding("class_missing", "warning", text)]


def _anchors(shares: NDArray[np.float32], anchors: Anchors) -> Finding:
    height, width = anchors.frame_size
    sizes = shares * np.array([width, height], np.float32)
    best = overlaps(sizes, anchors.sizes).max(axis=1)
    lacking = float((best < _LEAST_OVERLAP).mean())
    low, middle, high = np.percentile(np.sqrt(sizes.prod(axis=1)), (5, 50, 95))
    sides = np.sqrt(anchors.sizes.prod(axis=1))
    text = (
        f"boxes at {height} x {width} have sides of {low:.0f} to {high:.0f} px, {middle:.0f} in "
        f"the median (roots of their areas), anchors of {sides.min():.0f} to {sides.max():.0f}; "
        f"{lacking:.0%} of the boxes overlap no anchor by {_LEAST_OVERLAP}, wherever it is put"
    )
    if lacking <= _MUCH_WITHOUT_ANCHOR:
        return Finding("anchors", "note", text)
    proposal = propose_anchors(sizes)
    assert proposal is not None  # there are boxes
    return Finding(
        "anchors",
        "warning",
        f"{text}. Anchors that overlap them by {proposal.overlap:.2f} in the mean: --set "
        f'"model.task.{proposal.setting}"',
    )


def anchors_for(
    shares: NDArray[np.float32], frame_size: tuple[int, int], anchors: Anchors | None
) -> list[Finding]:
    """Return a note with anchors that fit boxes, as a line for a configuration; none without boxes.

    Args:
        shares: ``(n, 2)``, sizes of boxes as shares of the frame.
        frame_size: ``(H, W)`` of the network's frame.
        anchors: those in use, None where there are none.
    """
    sizes = shares * np.array(frame_size[::-1], np.float32)
    proposal = propose_anchors(sizes)
    if proposal is None:
        return []
    text = (
        f"at {frame_size[0]} x {frame_size[1]} px, {len(proposal.scales) * len(proposal.ratios)} "
        f"anchors overlap the boxes by {proposal.overlap:.2f} in the mean: {proposal.line}"
    )
    if anchors is not None:
        now = float(overlaps(sizes, anchors.sizes).max(axis=1).mean())
        text += f" (now {len(anchors.sizes)} anchors, {now:.2f})"
    return [Finding("anchors_proposed", "note", text)]


def _pictures(sample: Sample, pairs: bool) -> list[Finding]:
    found: list[Finding] = []
    if sample.turned:
        found.append(
            Finding(
                "exif_rotation",
                "warning",
                f"{len(sample.turned)} of {sample.opened} pictures are shown turned or mirrored by "
                f"their EXIF orientation ({sample.turned[0]}). They are read as they are stored: "
                "their labels must be of the stored pixels",
            )
        )
    continuity = sample.continuity
    if pairs and continuity.share > _MUCH_UNRELATED:
        most = continuity.share > _MOSTLY_UNRELATED
        found.append(
            Finding(
                "unrelated_frames",
                "warning",
                f"{len(continuity.unrelated)} of {continuity.pairs} pairs of neighbouring frames "
                f"show {'unrelated pictures' if most else 'other things'} "
                f"({continuity.unrelated[0]}): flow does not lead from one to the other. "
                + (
                    "For training, pairs of single pictures are made by data.motion: synthetic"
                    if most
                    else "Are there cuts? Give each part a folder, or a video, of its own"
                ),
            )
        )
    return found


def _numbers(numbers: Sequence[int]) -> str:
    if len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    listed = ", ".join(map(str, numbers[:12]))
    return listed + (", ..." if len(numbers) > 12 else "")
