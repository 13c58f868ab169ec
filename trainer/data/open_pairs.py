"""Training pairs by name.

All names of labelled clips (``dff_edge/data/clips.py``), and

- ``synthetic://street?split=train``, scenes without end
- ``vid+det://ROOT?frames=15&list=FILE``, ImageNet VID and DET, two groups of pairs from VID to one
  from DET: "each mini-batch samples images from either ImageNet VID or ImageNet DET datasets, at
  2 : 1 ratio" (section 5.1 of the paper)
- ``flyingchairs://ROOT?split=train``, for flow
- ``videos://PATH``, a video file, or those of a folder or glob, without labels, for distillation

The split is that for training if the name has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from dff_edge.bundle.anchors import anchor_sizes
from dff_edge.bundle.tasks import FORMATS, TaskName
from dff_edge.data.clips import class_names, open_clips
from dff_edge.data.datasets import (
    FLYING_CHAIRS,
    VID_AND_DET,
    imagenet,
    parse_chairs_name,
    parse_data_name,
    vid_and_det,
)
from dff_edge.data.datasets.findings import Anchors, check_clips
from dff_edge.data.datasets.labelled_clip import LabelledClip
from dff_edge.data.hold_out import hold_out
from dff_edge.errors import ConfigError, SourceError
from dff_edge.trainer.config import DataConfig
from dff_edge.trainer.data.clip_pairs import ClipPairs
from dff_edge.trainer.data.flying_chairs import FlyingChairsPairs
from dff_edge.trainer.data.mixed_pairs import MixedPairs
from dff_edge.trainer.data.pairs import PairData
from dff_edge.trainer.data.still_pairs import StillPairs
from dff_edge.trainer.data.synthetic_pairs import SyntheticPairs
from dff_edge.trainer.data.unlabelled_pairs import VIDEOS, UnlabelledPairs, open_videos
from dff_edge.trainer.models import ModelConfig


def open_pairs(
    data: DataConfig,
    *,
    seed: int,
    frame_size: tuple[int, int],
    class_count: int,
    length: int,
    max_distance: int,
    for_flow: bool = False,
    task: TaskName = "segmentation",
    split: str = "train",
    crop: tuple[int, int] | None = None,
) -> PairData:
    """Open the training pairs that a configuration names.

    Args:
        data: ``train``, ``motion``, ``video_share``, ``augment`` and ``group`` are used.
        seed: selects the stream of pairs.
        frame_size: H and W.
        class_count: K.
        length: number of items.
        max_distance: largest i - k.
        for_flow: only the flow of the pairs is used: synthetic scenes also yield pairs with
            the key frame after the current one, and their classes need not be the model's.
        task: whether pairs come with labels or with boxes.
        split: the default split.
        crop: H and W of the part of each frame that the pairs show; None for whole frames.

    Raises:
        ConfigError: for an unknown name or option, another number of classes than the data's, or
            parts of frames of data that has whole ones only.
        SourceError: for a folder that is not labelled data.
    """
    if data.motion != "none" and moves_already(data.train):
        raise ConfigError(
            f"data.motion is '{data.motion}' with '{data.train}', expected none: its pairs move "
            "already."
        )
    if crop is not None and (data.motion != "none" or moves_already(data.train)):
        raise ConfigError(
            f"crop is {list(crop)}, expected none with '{data.train}' and data.motion "
            f"'{data.motion}': parts of frames are cut of pairs of video only."
        )
    if data.train.startswith("synthetic://"):
        return _synthetic_pairs(
            data,
            seed=seed,
            frame_size=frame_size,
            class_count=class_count,
            length=length,
            max_distance=max_distance,
            for_flow=for_flow,
            task=task,
            split=split,
        )
    if data.train.startswith(f"{FLYING_CHAIRS}://"):
        root, named = parse_chairs_name(data.train)
        return FlyingChairsPairs(
            root,
            split=named or split,
            seed=seed,
            frame_size=frame_size,
            length=length,
            group=data.group,
        )
    if has_no_labels(data.train) and (data.motion != "none" or data.hold_out):
        raise ConfigError(
            f"data.motion is '{data.motion}' and data.hold_out {data.hold_out} with "
            f"'{data.train}', expected none: it has no labels."
        )
    known = parse_data_name(data.train)
    if known is not None and known.kind.task != task:
        raise ConfigError(
            f"'{data.train}' is data for {known.kind.task}, the model's task is {task}."
        )

    def pairs_of(uri: str) -> PairData:
        settings: dict[str, Any] = {
            "seed": seed,
            "frame_size": frame_size,
            "class_count": class_count,
            "length": length,
            "group": data.group,
            "augment": data.augment,
            "task": task,
        }
        if has_no_labels(uri):
            videos = open_videos(uri)
            return UnlabelledPairs(videos, max_distance=max_distance, crop=crop, **settings)
        clips = open_clips(uri, split=split)
        if data.holds_out:
            clips = hold_out(clips, data.hold_out).train
        if data.motion == "none":
            return ClipPairs(clips, max_distance=max_distance, crop=crop, **settings)
        drives = data.motion == "driving"
        stills = StillPairs(clips, max_distance=max_distance, drives=drives, **settings)
        if not data.video_share or for_flow or max_distance == 0:
            return stills
        shares = [1 - data.video_share, data.video_share]
        return MixedPairs([stills, ClipPairs(clips, max_distance=1, **settings)], shares, seed=seed)

    if not data.train.startswith(f"{VID_AND_DET}://"):
        return pairs_of(data.train)
    if task != "detection" or class_count != len(imagenet.CLASSES):
        raise ConfigError(
            f"'{data.train}' is for detection of {len(imagenet.CLASSES)} classes, the model's task "
            f"is {task} of {class_count}."
        )
    return MixedPairs([pairs_of(uri) for uri in vid_and_det(data.train)], [2, 1], seed=seed)


def training_classes(uri: str, task: TaskName) -> tuple[str, ...] | None:
    """Return the classes of training pairs for a task if their name determines them, else None."""
    return imagenet.CLASSES if uri.startswith(f"{VID_AND_DET}://") else class_names(uri, task)


def moves_already(uri: str) -> bool:
    """Return whether pairs of this name have motion and flow of their own."""
    return uri.startswith(("synthetic://", f"{FLYING_CHAIRS}://"))


def has_no_labels(uri: str) -> bool:
    """Return whether pairs of this name come without labels, boxes and flow."""
    return uri.startswith(f"{VIDEOS}://")


def _synthetic_pairs(
    data: DataConfig,
    *,
    seed: int,
    frame_size: tuple[int, int],
    class_count: int,
    length: int,
    max_distance: int,
    for_flow: bool,
    task: TaskName,
    split: str,
) -> SyntheticPairs:
    uri = data.train
    query = dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))
    if set(query) - {"split"} or urlsplit(uri).netloc != "street":
        raise ConfigError(
            f"'{uri}' is not training data, expected synthetic://street with no option but "
            "'?split=': scenes are made without end, in the size of the model."
        )
    classes = class_names(uri, task) or ()
    if class_count != len(classes) and not for_flow:
        raise ConfigError(
            f"'{uri}' has {len(classes)} classes ({', '.join(classes)}), the model "
            f"{class_count}. Set model.task.classes to them."
        )
    return SyntheticPairs(
        seed=seed,
        split=query.get("split", split),
        frame_size=frame_size,
        length=length,
        group=data.group,
        max_distance=max_distance,
        both_ways=for_flow,
        task=task,
    )


def check_training_data(
    data: DataConfig, model: ModelConfig, *, trains_pairs: bool, batch_size: int = 1
) -> None:
    """Open a sample of the training data: raise for errors, warn of possible faults.

    Generated scenes are skipped, Flying Chairs, whose labels are flow, and video without labels.

    Args:
        data: ``train`` and ``motion`` are used.
        model: whose task, classes and anchors are checked against the data.
        trains_pairs: whether neighbouring frames are used.
        batch_size: largest one of the stages.

    Raises:
        ConfigError: there are fewer labelled frames than in a batch.
        SourceError: there is no box at all; and as ``open_clips`` and ``check_clips``.
    """
    if moves_already(data.train) or has_no_labels(data.train):
        return
    rfcn = model.rfcn
    anchors = None if rfcn is None else Anchors(anchor_sizes(rfcn), model.frame_size)
    is_both = data.train.startswith(f"{VID_AND_DET}://")
    for uri in vid_and_det(data.train) if is_both else (data.train,):
        clips = open_clips(uri, split="train")
        _check_amount(clips, uri, data, model, batch_size)
        check_clips(
            clips,
            uri,
            model.task.name,
            model.task.classes,
            anchors=anchors,
            pairs=trains_pairs and data.motion == "none",
        )


def _check_amount(
    clips: Sequence[LabelledClip], uri: str, data: DataConfig, model: ModelConfig, batch_size: int
) -> None:
    """Raise for fewer labelled frames than in a batch, and for frames of which none has a box."""
    used = hold_out(clips, data.hold_out).train if data.holds_out else clips
    frames = [(clip, i) for clip in used for i in range(len(clip)) if clip.is_labelled(i)]
    if len(frames) < batch_size:
        raise ConfigError(
            f"data.train ('{uri}') has {len(frames)} labelled frames to train on, fewer than the "
            f"{batch_size} of a batch. Label more, or set batch_size to {max(len(frames), 1)} or "
            "less."
        )
    if FORMATS.find(model.task.name).truth != "boxes":
        return
    if not any(len(boxes) for clip, i in frames if (boxes := clip.boxes(i)) is not None):
        raise SourceError(
            f"'{uri}' has no box in any of its {len(frames)} frames to train on, expected boxes of "
            f"{', '.join(model.task.classes)}. `dff-edge data check` reports its contents."
        )
