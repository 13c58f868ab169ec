"""What a data set on disk holds, lacks, and whether it can be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dff_edge.runtime.clips import LabelledClip, open_clips
from dff_edge.runtime.datasets import DATA_SETS
from dff_edge.runtime.datasets.flying_chairs import file_names, list_chairs, read_flo
from dff_edge.runtime.errors import DffEdgeError, FrameError, SourceError
from dff_edge.runtime.sources.images import read_image

CHECKED = (*DATA_SETS, "flyingchairs", "folder")
_IGNORED = 255
SAMPLE = 50  # labelled frames of a split that a sample opens

_Progress = Callable[[str, int, int], None]


@dataclass
class SplitReport:
    """What one split holds.

    Attributes:
        name: of the split.
        error: why it cannot be used at all, or None.
        clips: videos, snippets or single images; pairs of Flying Chairs.
        frames: images.
        labelled: frames with labels or boxes; pairs with flow.
        alone: labelled frames with no frame before them: no pair (k, i) with i > k ends there.
        opened: labelled frames that were opened.
        boxes: in the frames that were opened, ignored ones included.
        classes: opened frames in which each class is, by name.
        problems: files that are missing or cannot be used, a line each.
        damaged: of the problems, those that opening a file found.
    """

    name: str
    error: str | None = None
    clips: int = 0
    frames: int = 0
    labelled: int = 0
    alone: int = 0
    opened: int = 0
    boxes: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    damaged: int = 0


def check_data(
    name: str,
    root: Path,
    options: dict[str, str],
    *,
    most: int | None,
    progress: _Progress = lambda _split, _done, _total: None,
) -> list[SplitReport]:
    """Look at every split of a data set.

    Args:
        name: one of ``CHECKED``.
        root: its folder, or file.
        options: of its name, such as ``ids`` of Cityscapes.
        most: labelled frames of a split that are opened, evenly spread; None for all.
        progress: told the split, how many frames were opened, and how many will be.
    """
    if name == "flyingchairs":
        return _check_chairs(root, most, progress)
    if name == "folder":
        return [_check(_empty("all"), lambda: (open_clips(str(root)), []), None, most, progress)]
    kind = DATA_SETS[name]
    reports = []
    for split in kind.splits or ("all",):
        own = {**options, "split": split} if kind.splits else options
        reports.append(
            _check(
                _empty(split),
                lambda own=own: _listed(name, root, own),  # type: ignore[misc]
                lambda own=own: kind.classes(root, own),  # type: ignore[misc]
                most,
                progress,
            )
        )
    return reports


def is_usable(reports: Sequence[SplitReport]) -> bool:
    """Whether there is a split with labelled frames, and nothing that was opened is damaged."""
    return any(report.labelled for report in reports) and not any(r.damaged for r in reports)


def _empty(name: str) -> SplitReport:
    return SplitReport(name)


def _listed(
    name: str, root: Path, options: dict[str, str]
) -> tuple[Sequence[LabelledClip], list[str]]:
    listing = DATA_SETS[name].list(root, options)
    return listing.clips, listing.problems


def _check(
    report: SplitReport,
    list_clips: Callable[[], tuple[Sequence[LabelledClip], list[str]]],
    class_names: Callable[[], tuple[str, ...]] | None,
    most: int | None,
    progress: _Progress,
) -> SplitReport:
    try:
        clips, report.problems = list_clips()
        classes = class_names() if class_names else ()
    except SourceError as error:
        report.error = str(error)
        return report
    report.clips, report.frames = len(clips), sum(len(clip) for clip in clips)
    labelled = [(clip, i) for clip in clips for i in range(len(clip)) if clip.is_labelled(i)]
    report.labelled = len(labelled)
    report.alone = sum(index == 0 for _, index in labelled)
    seen: Counter[int] = Counter()
    chosen = _spread(len(labelled), most)
    for done, number in enumerate(chosen, 1):
        clip, index = labelled[number]
        try:
            seen.update(_open(clip, index, report, len(classes)))
            report.opened += 1
        except DffEdgeError as error:
            report.problems.append(str(error))
            report.damaged += 1
        progress(report.name, done, len(chosen))
    report.classes = {
        (classes[label] if label < len(classes) else str(label)): seen[label]
        for label in (range(len(classes)) if classes else sorted(seen))
    }
    return report


def _open(clip: LabelledClip, index: int, report: SplitReport, class_count: int) -> set[int]:
    """The classes in a frame."""
    image, labels, boxes = clip.image(index), clip.labels(index), clip.boxes(index)
    size = image.shape[:2]
    if index and clip.image(index - 1).shape != image.shape:
        raise FrameError(f"clip '{clip.name}': frames {index - 1} and {index} differ in size")
    found: set[int] = set()
    if labels is not None:
        if labels.shape != size:
            raise SourceError(
                f"clip '{clip.name}': frame {index} is {size} and its labels are {labels.shape}"
            )
        found = {int(label) for label in np.unique(labels)} - {_IGNORED}
        unknown = [label for label in found if class_count and label >= class_count]
        if unknown:
            raise SourceError(
                f"clip '{clip.name}': frame {index} has the label {unknown[0]}, expected 0 to "
                f"{class_count - 1}, or 255"
            )
    if boxes is not None:
        ends = boxes.boxes[:, 2:].max(axis=0, initial=0)
        if (ends > (size[1] + 1, size[0] + 1)).any() or (boxes.boxes < -1).any():
            raise SourceError(
                f"clip '{clip.name}': frame {index} is {size} and has boxes outside it"
            )
        report.boxes += len(boxes)
        found |= {int(label) for label in boxes.labels}
    return found


def _check_chairs(root: Path, most: int | None, progress: _Progress) -> list[SplitReport]:
    try:
        splits = list_chairs(root)
    except SourceError as error:
        return [SplitReport("all", error=str(error))]
    reports = []
    for split, (folder, numbers) in splits.items():
        report = SplitReport(
            split, clips=len(numbers), frames=2 * len(numbers), labelled=len(numbers)
        )
        chosen = _spread(len(numbers), most)
        for done, chosen_pair in enumerate(chosen, 1):
            first, second, flow = (folder / name for name in file_names(numbers[chosen_pair]))
            try:
                sizes = {read_image(first).shape[:2], read_image(second).shape[:2]}
                sizes.add(read_flo(flow).shape[:2])
                if len(sizes) > 1:
                    raise SourceError(f"{flow} and its pictures differ in size: {sorted(sizes)}")
                report.opened += 1
            except DffEdgeError as error:
                report.problems.append(str(error))
                report.damaged += 1
            progress(split, done, len(chosen))
        reports.append(report)
    return reports


def _spread(count: int, most: int | None) -> list[int]:
    """At most so many of ``count`` numbers, evenly spread."""
    if most is None or count <= most:
        return list(range(count))
    return [int((n + 0.5) * count / most) for n in range(most)]
