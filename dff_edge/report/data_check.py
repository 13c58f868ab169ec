"""Check of labelled data on disk: contents, faults, and whether it can be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dff_edge.bundle.tasks import FORMATS, TaskName
from dff_edge.data.clips import class_names, open_clips
from dff_edge.data.datasets import (
    FLYING_CHAIRS,
    VID_AND_DET,
    DataName,
    LabelledClip,
    parse_chairs_name,
    parse_data_name,
    vid_and_det,
)
from dff_edge.data.datasets.anchor_proposal import box_shares
from dff_edge.data.datasets.findings import Anchors, Finding, anchors_for, find
from dff_edge.data.datasets.flying_chairs import file_names, list_chairs, read_flo
from dff_edge.data.datasets.label_png import NOT_SCORED
from dff_edge.data.datasets.sample import SAMPLE, Sample, take_sample
from dff_edge.errors import DffEdgeError, SourceError
from dff_edge.runtime.sources.images import read_image
from dff_edge.uri import split_query

_Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Wanted:
    """Intended use of the data.

    Attributes:
        task: None for that of the data.
        classes: K names, None where they are not known.
        anchors: of a detector, None where there is none.
    """

    task: TaskName | None = None
    classes: tuple[str, ...] | None = None
    anchors: Anchors | None = None


@dataclass
class SplitReport:
    """Contents and faults of one split.

    Attributes:
        name: of the split.
        error: why it cannot be used at all, or None.
        clips: videos, snippets or single images; pairs of Flying Chairs.
        frames: images.
        labelled: frames with labels or boxes; pairs with flow.
        alone: labelled frames with no frame before them: no pair (k, i) with i > k ends there.
        opened: labelled frames that were opened and are valid.
        boxes: in the frames that were opened, ignored ones included.
        not_scored: share of the pixels in opened label maps that are 255; None without label maps.
        classes: number of opened frames with each class, by name.
        problems: files that are missing or left out, a line each.
        findings: findings in the opened frames, errors first.
    """

    name: str
    error: str | None = None
    clips: int = 0
    frames: int = 0
    labelled: int = 0
    alone: int = 0
    opened: int = 0
    boxes: int = 0
    not_scored: float | None = None
    classes: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_usable(self) -> bool:
        """Whether it has labelled frames, and no error was found in those that were opened."""
        return bool(self.labelled) and all(f.severity != "error" for f in self.findings)


def check_data(
    source: str,
    wanted: Wanted = Wanted(),  # noqa: B008, it is frozen
    *,
    most: int | None = SAMPLE,
    progress: _Progress = lambda _split, _done, _total: None,
) -> list[SplitReport]:
    """Check labelled data by name.

    Args:
        source: as for ``open_clips``, or data for training (``vid+det://``, ``flyingchairs://``).
            If the name has no split, all of them are checked.
        wanted: its intended use.
        most: labelled frames of a split that are opened, evenly spread; None for all.
        progress: called with the split, how many frames were opened, and how many will be.

    Raises:
        ConfigError: the name is invalid.
    """
    if source.startswith(f"{FLYING_CHAIRS}://"):
        return _check_chairs(source, most, progress)
    return [_check(name, data, source, wanted, most, progress) for name, data in _parts(source)]


def is_usable(reports: Sequence[SplitReport]) -> bool:
    """Return whether some split can be used, and no error was found in any."""
    has_error = any(f.severity == "error" for report in reports for f in report.findings)
    return any(report.is_usable for report in reports) and not has_error


def _parts(source: str) -> list[tuple[str, DataName | None]]:
    """Return the splits or data sets of a name; None for generated scenes, which have no files.

    Raises:
        ConfigError: it names none.
    """
    if source.startswith(f"{VID_AND_DET}://"):
        return [(uri.partition("://")[0], parse_data_name(uri)) for uri in vid_and_det(source)]
    data = parse_data_name(source)
    if data is None or not data.kind.splits:
        return [("all", data)]
    if "split" in split_query(source, with_paths=True)[1]:
        return [(data.options["split"], data)]
    return [
        (split, replace(data, options={**data.options, "split": split}))
        for split in data.kind.splits
    ]


def _check(
    name: str,
    data: DataName | None,
    source: str,
    wanted: Wanted,
    most: int | None,
    progress: _Progress,
) -> SplitReport:
    report = SplitReport(name)
    task = wanted.task or (data.kind.task if data else "segmentation")
    try:
        clips: Sequence[LabelledClip]
        if data is None:
            clips, own = open_clips(source), class_names(source, task)
        else:
            listing = data.listing()
            clips, report.problems, own = listing.clips, listing.problems, data.classes()
    except SourceError as error:
        report.error = str(error)
        return report
    classes = wanted.classes or own
    report.clips, report.frames = len(clips), sum(len(clip) for clip in clips)
    sample = take_sample(
        clips,
        task,
        None if classes is None else len(classes),
        most=most,
        progress=lambda done, total: progress(report.name, done, total),
    )
    report.labelled, report.alone, report.opened = sample.labelled, sample.alone, sample.opened
    report.boxes = sample.boxes
    if pixels := int(sample.pixels.sum()):
        report.not_scored = int(sample.pixels[NOT_SCORED]) / pixels
    report.classes = _by_name(sample, classes)
    if own is not None and own != classes:
        text = f"it has the classes {', '.join(own)}, expected {', '.join(classes or ())}"
        report.findings.append(Finding("other_classes", "error", text))
    if data is not None and data.kind.task != task:
        text = f"{data.kind.title} is data for {data.kind.task}, expected data for {task}"
        report.findings.append(Finding("other_task", "error", text))
    else:
        report.findings += find(sample, task, classes, anchors=wanted.anchors)
        report.findings += _proposed(clips, sample, task, wanted.anchors)
    return report


def _proposed(
    clips: Sequence[LabelledClip], sample: Sample, task: TaskName, anchors: Anchors | None
) -> list[Finding]:
    """Return anchors that fit the boxes of the data, for the model's frame, or else the data's."""
    frame_size = sample.frame_size if anchors is None else anchors.frame_size
    if FORMATS.find(task).truth != "boxes" or frame_size is None:
        return []
    shares = box_shares(clips)
    return anchors_for(shares if len(shares) else sample.box_sizes, frame_size, anchors)


def _by_name(sample: Sample, classes: Sequence[str] | None) -> dict[str, int]:
    numbers = sorted(sample.frames_with) if classes is None else range(len(classes))
    names = {n: str(n) if classes is None else classes[n] for n in numbers}
    return {name: sample.frames_with[n] for n, name in names.items()}


def _check_chairs(source: str, most: int | None, progress: _Progress) -> list[SplitReport]:
    root, wanted = parse_chairs_name(source)
    try:
        splits = list_chairs(root)
    except SourceError as error:
        return [SplitReport(wanted or "all", error=str(error))]
    return [
        _check_pairs(split, folder, numbers, most, progress)
        for split, (folder, numbers) in splits.items()
        if wanted in (None, split)
    ]


def _check_pairs(
    split: str, folder: Path, numbers: list[int], most: int | None, progress: _Progress
) -> SplitReport:
    report = SplitReport(split, clips=len(numbers), frames=2 * len(numbers), labelled=len(numbers))
    count = len(numbers) if most is None else min(most, len(numbers))
    chosen = np.linspace(0, len(numbers) - 1, count).round().astype(int)
    for done, chosen_pair in enumerate(chosen, 1):
        first, second, flow = (folder / name for name in file_names(numbers[chosen_pair]))
        try:
            sizes = {read_image(first).shape[:2], read_image(second).shape[:2]}
            sizes.add(read_flo(flow).shape[:2])
            if len(sizes) > 1:
                raise SourceError(f"{flow} and its pictures differ in size: {sorted(sizes)}")
            report.opened += 1
        except DffEdgeError as error:
            report.findings.append(Finding("damaged", "error", str(error)))
        progress(split, done, len(chosen))
    return report
