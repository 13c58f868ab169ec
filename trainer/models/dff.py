"""Deep Feature Flow: feature, flow and task network combined.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 3 and Figure 2.
    Fig. 2 (a) per-frame network  -> DeepFeatureFlow.recognize
    Fig. 2 (b) training on a pair -> DeepFeatureFlow.forward
    Eq. (3)    propagation        -> DeepFeatureFlow.propagate
Differs from the paper: the half-size frame of the flow network is averaged here from
    the full one, where a device resizes the source frame once for each size.

Shapes: N batch, C channels, K classes, H x W image, h = H / 16, w = W / 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.errors import ShapeError
from dff_edge.trainer.models.correction import CorrectionNetwork
from dff_edge.trainer.models.feature import FeatureNetwork, Step
from dff_edge.trainer.models.flow_network import FlowNetwork
from dff_edge.trainer.models.normalize import Normalize, half_frame
from dff_edge.trainer.models.rfcn import RfcnMaps
from dff_edge.trainer.models.task_head import TaskHead
from dff_edge.trainer.models.warp import warp_features

HEAD, NONE = "head", "none"  # splits that are not steps of the feature network


class DeepFeatureFlow(nn.Module):
    """The three networks of Deep Feature Flow, trained end to end.

    All frames are float ``(N, 3, H, W)`` BGR 0..255, not normalised.

    Args:
        feature: normalised frame to features.
        flow: normalised half-size key and current frame to flow and scale.
        task: features to the maps that the task's loss and decoder read.
        correction: normalised half-size current frame to what is added to these maps where the
            features are propagated; None for nothing, as in the paper.
        task_name: name of the task.
        mean: per channel, BGR, 0..255.
        std: per channel, BGR, 0..255.
        rfcn: settings that turn the maps of detection into boxes; None for other tasks.
        split: where the task network begins: ``HEAD``, a step of ``feature.blocks()``, or
            ``NONE``. Steps from there on run on every frame, although their weights stay those of
            ``feature``; with ``NONE`` the learned maps run on key frames only.
    """

    def __init__(
        self,
        feature: FeatureNetwork,
        flow: FlowNetwork,
        task: TaskHead,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        task_name: str = "segmentation",
        rfcn: RfcnSettings | None = None,
        split: str = HEAD,
        correction: CorrectionNetwork | None = None,
    ) -> None:
        super().__init__()
        self.task_name = task_name
        self.rfcn = rfcn
        self.split = split
        self.normalize = Normalize(mean, std)
        self.feature = feature
        self.flow = flow
        self.task = task
        self.correction = correction

    def extract(self, frame: Tensor) -> Tensor:
        """Compute the features ``(N, C, h, w)`` of frames: all steps before the split."""
        before, _ = cut(self.feature, self.split)
        maps = _run(before, self.normalize(frame))
        return maps if self.split != NONE else join(self.task(maps))

    def answer(self, features: Tensor, correction: Tensor | None = None) -> Any:
        """Run the task network on features ``(N, C, h, w)``, as ``forward`` does at its end.

        Args:
            features: of a key frame or propagated.
            correction: ``(N, M, h, w)``, added to the maps; None adds nothing.
        """
        if self.split != NONE:
            _, after = cut(self.feature, self.split)
            maps = self.task(_run(after, features))
        else:
            maps = self.task.parts(features)
        return maps if correction is None else self.task.parts(join(maps) + correction)

    def estimate_flow(self, key_half: Tensor, current_half: Tensor) -> tuple[Tensor, Tensor | None]:
        """Estimate flow and scale field from half-size frames.

        Args:
            key_half: float ``(N, 3, H / 2, W / 2)``, BGR 0..255, the key frame.
            current_half: the same of the current frame.

        Returns:
            Flow ``(N, 2, h, w)`` in feature cells from the current to the key frame, and
            scale ``(N, C, h, w)``, None for a flow network without scale head.
        """
        flow, scale, _ = self.move(key_half, current_half)
        return flow, scale

    def move(
        self, key_half: Tensor, current_half: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Estimate flow and scale field, as ``estimate_flow``, and the correction.

        Returns:
            Flow, scale, and ``(N, M, h, w)``, what is added to the task network's maps of
            propagated features; None for a model without correction network.
        """
        key, current = self.normalize(key_half), self.normalize(current_half)
        maps, _ = self.flow.decode(self.flow.pair(key, current), False)
        correction = None if self.correction is None else self.correction(current, maps)
        return *self.flow.heads(maps), correction

    def propagate(self, key_features: Tensor, key: Tensor, current: Tensor) -> Tensor:
        """Propagate key-frame features to the current frame, Eq. (3).

        Args:
            key_features: ``(N, C, h, w)``, from ``extract(key)``.
            key: key frames.
            current: current frames.

        Returns:
            ``(N, C, h, w)``, features of the current frames.
        """
        flow, scale = self.estimate_flow(half_frame(key), half_frame(current))
        return warp_features(key_features, flow, scale)

    def recognize(self, frame: Tensor) -> Any:
        """Run the per-frame network, as ``forward`` does for pairs."""
        return self.answer(self.extract(frame))

    def forward(self, key: Tensor, current: Tensor, same: Tensor | None = None) -> Any:
        """Compute the task network's outputs for current frames, from their key frames.

        Args:
            key: key frames.
            current: current frames, of the same shape.
            same: bool ``(N,)``, True where the pair is one frame (i = k): its features are
                used as they are. None: no pair is.

        Returns:
            Of segmentation, scores before softmax, ``(N, K, h, w)``; of detection, ``RfcnMaps``.

        Raises:
            ShapeError: if the frames are not alike, or ``same`` is not bool ``(N,)``.
        """
        _check_pair(key, current, same)
        key_features = self.extract(key)
        flow, scale, correction = self.move(half_frame(key), half_frame(current))
        features = warp_features(key_features, flow, scale)
        if same is not None:
            # The flow network runs for these too: its parameters must take part in every
            # step, or distributed training waits for gradients that never come.
            is_key = same.view(-1, 1, 1, 1)
            features = torch.where(is_key, key_features, features)
            correction = None if correction is None else correction.masked_fill(is_key, 0)
        return self.answer(features, correction)


def cut(network: FeatureNetwork, split: str) -> tuple[list[Step], list[Step]]:
    """Return the steps of a feature network before and after a split point."""
    names = [name for name, _ in network.blocks()]
    steps = [step for _, step in network.blocks()]
    place = len(names) if split in (HEAD, NONE) else names.index(split)
    return steps[:place], steps[place:]


def join(maps: Tensor | RfcnMaps) -> Tensor:
    """Concatenate the learned maps along C to one tensor ``(N, C, h, w)``, for the warp."""
    return maps if isinstance(maps, Tensor) else torch.cat(tuple(maps), dim=1)


def _run(steps: list[Step], maps: Tensor) -> Tensor:
    for step in steps:
        maps = step(maps)
    return maps


def _check_pair(key: Tensor, current: Tensor, same: Tensor | None) -> None:
    if key.shape != current.shape or key.ndim != 4 or key.shape[1] != 3:
        raise ShapeError(
            f"key has shape {tuple(key.shape)} and current {tuple(current.shape)}, expected "
            "both (N, 3, H, W)."
        )
    if same is not None and (same.dtype != torch.bool or tuple(same.shape) != key.shape[:1]):
        raise ShapeError(
            f"same is {same.dtype} {tuple(same.shape)}, expected torch.bool ({key.shape[0]},): "
            "one flag for each pair."
        )
