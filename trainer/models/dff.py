"""Deep Feature Flow: feature, flow and task network put together.

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

import torch
from torch import Tensor, nn

from dff_edge.runtime.errors import ShapeError
from dff_edge.trainer.models.flownet import FlowNetwork
from dff_edge.trainer.models.normalize import Normalize, half_frame
from dff_edge.trainer.models.warp import warp_features


class DeepFeatureFlow(nn.Module):
    """The three networks of Deep Feature Flow, trained end to end.

    All frames are float ``(N, 3, H, W)`` BGR 0..255, not normalised.

    Args:
        feature: normalised frame to features.
        flow: normalised half-size key and current frame to flow and scale.
        task: features to scores.
        mean: per channel, BGR, 0..255.
        std: per channel, BGR, 0..255.
    """

    def __init__(
        self,
        feature: nn.Module,
        flow: FlowNetwork,
        task: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.feature = feature
        self.flow = flow
        self.task = task

    def extract(self, frame: Tensor) -> Tensor:
        """Compute the features ``(N, C, h, w)`` of frames."""
        features: Tensor = self.feature(self.normalize(frame))
        return features

    def estimate_flow(self, key_half: Tensor, current_half: Tensor) -> tuple[Tensor, Tensor | None]:
        """Estimate flow and scale field from half-size frames.

        Args:
            key_half: float ``(N, 3, H / 2, W / 2)``, BGR 0..255, the key frame.
            current_half: the same of the current frame.

        Returns:
            Flow ``(N, 2, h, w)`` in feature cells from the current to the key frame, and
            scale ``(N, C, h, w)``, None for a flow network without scale head.
        """
        flow, scale = self.flow(self.normalize(key_half), self.normalize(current_half))
        return flow, scale

    def propagate(self, key_features: Tensor, key: Tensor, current: Tensor) -> Tensor:
        """Carry key-frame features to the current frame, Eq. (3).

        Args:
            key_features: ``(N, C, h, w)``, from ``extract(key)``.
            key: key frames.
            current: current frames.

        Returns:
            ``(N, C, h, w)``, features of the current frames.
        """
        flow, scale = self.estimate_flow(half_frame(key), half_frame(current))
        return warp_features(key_features, flow, scale)

    def recognize(self, frame: Tensor) -> Tensor:
        """Run the per-frame network: scores ``(N, K, h, w)`` of frames."""
        scores: Tensor = self.task(self.extract(frame))
        return scores

    def forward(self, key: Tensor, current: Tensor, same: Tensor | None = None) -> Tensor:
        """Compute the scores of current frames from their key frames.

        Args:
            key: key frames.
            current: current frames, of the same shape.
            same: bool ``(N,)``, True where the pair is one frame (i = k): its features are
                used as they are. None: no pair is.

        Returns:
            Scores before softmax, ``(N, K, h, w)``.

        Raises:
            ShapeError: if the frames are not alike, or ``same`` is not bool ``(N,)``.
        """
        _check_pair(key, current, same)
        key_features = self.extract(key)
        features = self.propagate(key_features, key, current)
        if same is not None:
            # The flow network runs for these too: its parameters must take part in every
            # step, or distributed training waits for gradients that never come.
            features = torch.where(same.view(-1, 1, 1, 1), key_features, features)
        scores: Tensor = self.task(features)
        return scores


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
