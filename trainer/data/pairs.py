"""Training pairs (k, i), 0 <= i - k <= 9: section 3 of the paper, "Deep Feature Flow Training".

Item n of a data set is a function of (seed, n) alone, so that it does not depend on workers, on
the number of devices, or on where a run was interrupted. One item is a small group of pairs; of
synthetic scenes all from one, because a new scene costs more than another of its frames.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715.
"""

from __future__ import annotations

from typing import NamedTuple, TypedDict
from urllib.parse import parse_qsl, urlsplit

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dff_edge.runtime.clips import LabelledClip, open_clips
from dff_edge.runtime.errors import ConfigError, SourceError
from dff_edge.runtime.frames import Image, LabelMap
from dff_edge.runtime.resize import resize_image
from dff_edge.runtime.synthetic import CLASSES, SPLITS, StreetScene

IGNORED = 255  # label of pixels that count in no loss
_FLOW_STRIDE = 8  # px; true flow is given at this stride, twice as fine as the feature map
_FEATURE_STRIDE = 16  # px, one feature cell
_SCENE_FRAMES = 120
_MAX_GROW = 1.5  # largest enlargement of a frame that is cut from a clip


class PairBatch(TypedDict):
    """A batch of pairs, stacked along N.

    Attributes:
        key: uint8 ``(N, 3, H, W)`` BGR.
        current: the same.
        labels: uint8 ``(N, H, W)`` of the current frame, 255 not scored.
        same: bool ``(N,)``, whether i == k.
        flow: float32 ``(N, 2, H/8, W/8)``, (dx, dy) in feature cells (16 px) from the current
            frame to the key frame, NaN where unknown.
    """

    key: Tensor
    current: Tensor
    labels: Tensor
    same: Tensor
    flow: Tensor


class _Pair(NamedTuple):
    key: Image
    current: Image
    labels: LabelMap
    same: bool
    flow: NDArray[np.float32]  # (H/8, W/8, 2) in feature cells


class SyntheticPairs(Dataset[PairBatch]):
    """Pairs of synthetic scenes, a new scene for every item.

    Args:
        seed: which stream of scenes.
        split: split of the scenes.
        frame_size: H and W.
        length: number of items.
        group: pairs in an item.
        max_distance: largest i - k.
        both_ways: also pairs with the key frame after the current one, for flow pre-training.
    """

    def __init__(
        self,
        *,
        seed: int,
        frame_size: tuple[int, int],
        length: int,
        group: int,
        max_distance: int,
        split: str = "train",
        both_ways: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"split is '{split}', expected one of {', '.join(SPLITS)}.")
        self.seed, self.split, self.frame_size, self.length = seed, split, frame_size, length
        self.group, self.max_distance, self.both_ways = group, max_distance, both_ways

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PairBatch:
        rng = np.random.default_rng([self.seed, index])
        frames = max(_SCENE_FRAMES, 2 * self.max_distance + 1)
        scene = StreetScene(int(rng.integers(2**62)), self.split, self.frame_size, frames)
        pairs = []
        for _ in range(self.group):
            distance = int(rng.integers(0, self.max_distance + 1))
            key = int(rng.integers(self.max_distance, frames - self.max_distance))
            forward = not self.both_ways or rng.random() < 0.5
            current = key + (distance if forward else -distance)
            image, labels = scene.render(current)
            key_image = image if distance == 0 else scene.render(key)[0]
            flow_px, _ = scene.flow(current, key, stride=_FLOW_STRIDE)
            flow = np.asarray(flow_px / _FEATURE_STRIDE, np.float32)
            pairs.append(_Pair(key_image, image, labels, distance == 0, flow))
        return _collate(pairs)


class ClipPairs(Dataset[PairBatch]):
    """Pairs from labelled clips: i is a labelled frame, k up to ``max_distance`` frames before it.

    Both frames and the labels of a pair are cut alike, resized to ``frame_size`` as the runtime
    does it, and mirrored half of the time.

    Args:
        clips: labelled video.
        seed: which stream of pairs.
        frame_size: H and W.
        class_count: K; labels of K and above are not scored.
        length: number of items.
        group: pairs in an item, each from any clip.
        max_distance: largest i - k; less at the start of a clip.

    Raises:
        ConfigError: when no frame is labelled.
    """

    def __init__(
        self,
        clips: list[LabelledClip],
        *,
        seed: int,
        frame_size: tuple[int, int],
        class_count: int,
        length: int,
        group: int,
        max_distance: int,
    ) -> None:
        self.clips, self.seed, self.frame_size = clips, seed, frame_size
        self.class_count, self.length = class_count, length
        self.group, self.max_distance = group, max_distance
        self.labelled = [
            (number, index)
            for number, clip in enumerate(clips)
            for index in range(len(clip))
            if clip.is_labelled(index)
        ]
        if not self.labelled:
            raise ConfigError(
                "the training data has no labelled frame: labels/ holds no PNG of a frame's stem."
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PairBatch:
        rng = np.random.default_rng([self.seed, index])
        pairs = []
        for _ in range(self.group):
            number, current = self.labelled[int(rng.integers(len(self.labelled)))]
            clip = self.clips[number]
            distance = min(int(rng.integers(0, self.max_distance + 1)), current)
            labels = clip.labels(current)
            assert labels is not None  # only labelled frames are listed
            image = clip.image(current)
            key_image = image if distance == 0 else clip.image(current - distance)
            if not image.shape[:2] == key_image.shape[:2] == labels.shape:
                raise SourceError(
                    f"clip '{clip.name}': frame {current} is {image.shape[:2]}, frame "
                    f"{current - distance} is {key_image.shape[:2]} and the labels are "
                    f"{labels.shape}, expected one size."
                )
            pairs.append(self._augmented(rng, key_image, image, labels, distance == 0))
        return _collate(pairs)

    def _augmented(
        self, rng: np.random.Generator, key: Image, current: Image, labels: LabelMap, same: bool
    ) -> _Pair:
        source_height, source_width = labels.shape
        grow = rng.uniform(1.0, _MAX_GROW)
        height, width = max(round(source_height / grow), 1), max(round(source_width / grow), 1)
        top = int(rng.integers(source_height - height + 1))
        left = int(rng.integers(source_width - width + 1))
        step = -1 if rng.random() < 0.5 else 1
        cut = np.s_[top : top + height, left : left + width]

        def moved(image: Image) -> Image:
            out = np.empty((*self.frame_size, 3), np.uint8)
            resize_image(image[cut], out)
            return out[:, ::step]

        scored = np.where(labels[cut] < self.class_count, labels[cut], IGNORED).astype(np.uint8)
        # The exact kind: plain INTER_NEAREST is not about pixel centres as the others are.
        truth = cv2.resize(scored, self.frame_size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        current_out = moved(current)
        unknown = np.full([side // _FLOW_STRIDE for side in self.frame_size] + [2], np.nan)
        return _Pair(
            current_out if same else moved(key),
            current_out,
            np.asarray(truth, np.uint8)[:, ::step],
            same,
            unknown.astype(np.float32),
        )


def open_pairs(
    uri: str,
    *,
    seed: int,
    frame_size: tuple[int, int],
    class_count: int,
    length: int,
    group: int,
    max_distance: int,
    both_ways: bool = False,
) -> Dataset[PairBatch]:
    """Open training pairs by name: ``synthetic://street?split=train`` or a labelled folder.

    Args:
        uri: the name.
        seed: which stream of pairs.
        frame_size: H and W.
        class_count: K.
        length: number of items.
        group: pairs in an item.
        max_distance: largest i - k.
        both_ways: of synthetic scenes, also pairs with the key frame after the current one.

    Raises:
        ConfigError: for an unknown name or option, or another number of classes than the data's.
        SourceError: for a folder that is not labelled data.
    """
    if uri.startswith("synthetic://"):
        query = dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))
        if set(query) - {"split"} or urlsplit(uri).netloc != "street":
            raise ConfigError(
                f"'{uri}' is not training data, expected synthetic://street with no option but "
                "'?split=': scenes are made without end, in the size of the model."
            )
        if class_count != len(CLASSES):
            raise ConfigError(
                f"'{uri}' has {len(CLASSES)} classes ({', '.join(CLASSES)}), the model "
                f"{class_count}. Set model.task.classes to them."
            )
        return SyntheticPairs(
            seed=seed,
            split=query.get("split", "train"),
            frame_size=frame_size,
            length=length,
            group=group,
            max_distance=max_distance,
            both_ways=both_ways,
        )
    return ClipPairs(
        open_clips(uri),
        seed=seed,
        frame_size=frame_size,
        class_count=class_count,
        length=length,
        group=group,
        max_distance=max_distance,
    )


def collate_groups(groups: list[PairBatch]) -> PairBatch:
    """Join groups of pairs to one batch, for ``DataLoader(collate_fn=...)``."""
    return PairBatch(
        key=torch.cat([group["key"] for group in groups]),
        current=torch.cat([group["current"] for group in groups]),
        labels=torch.cat([group["labels"] for group in groups]),
        same=torch.cat([group["same"] for group in groups]),
        flow=torch.cat([group["flow"] for group in groups]),
    )


def _collate(pairs: list[_Pair]) -> PairBatch:
    keys, currents, labels, same, flows = zip(*pairs, strict=True)
    return PairBatch(
        key=torch.from_numpy(np.stack(keys)).permute(0, 3, 1, 2),
        current=torch.from_numpy(np.stack(currents)).permute(0, 3, 1, 2),
        labels=torch.from_numpy(np.stack(labels)),
        same=torch.tensor(same),
        flow=torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2),
    )
