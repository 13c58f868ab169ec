"""The base of all feature networks: a body of named steps, and a neck that makes the features.

Runs on key frames only, so it may be heavy.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 4, "Feature Network" -> neck "dilated";
    Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017,
    https://arxiv.org/abs/1612.03144, Figure 3 -> neck "pyramid".
Differs from the second: finer maps are joined to coarser ones that a transposed convolution has
    doubled, not copies; only the finest level is used.

Shapes: N batch, C channels, H x W image, h = ceil(H / S), w = ceil(W / S), S the feature stride.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dff_edge.errors import ConfigError

NeckName = Literal["dilated", "pyramid"]
NETWORK_STRIDES = (4, 8, 16)  # px
NECK = ("lateral.", "doubling.", "feat_conv.")  # prefixes of its weights
_FEAT_CONV_DILATION = 6
_CLASSIFIER_STRIDE = 32
_PYRAMID_KERNELS = 96

Step = Callable[[Tensor], Tensor]


class DilatedStage(NamedTuple):
    """Stride and dilation of a stage, and the stride that it reaches."""

    stride: int
    dilation: int
    reached: int


def dilate(strides: Sequence[int], reached: int, limit: int) -> list[DilatedStage]:
    """Replace the strides of stages by dilation, from a stride of the frame on.

    Args:
        strides: of the stages of a classification network, in order.
        reached: stride of the maps that the first stage reads.
        limit: the largest stride of the maps.

    Returns:
        A stage each.
    """
    stages = []
    dilation = 1
    for stride in strides:
        if reached * stride > limit:
            dilation, stride = dilation * stride, 1
        reached *= stride
        stages.append(DilatedStage(stride, dilation, reached))
    return stages


class FeatureNetwork(nn.Module):
    """A classification network with a neck on top that ends in ``feat_conv``, the paper's N_feat.

    The neck "dilated", the paper's, is ``feat_conv`` with dilation 6 on the last maps, which
    dilated convolutions keep at the feature stride. The neck "pyramid" leaves the classification
    network at stride 32 as it was trained, and joins to its last maps, step by step, the last ones
    at each finer stride.

    A subclass builds its layers under the published names, lists them in ``body``, and calls
    ``_finish`` at the end.

    Args:
        stride: S, 8 or 16; 4 for correction networks.
        neck: how the last maps become features.

    Attributes:
        input_conv: name of the convolution that reads the frames.
        left_out: prefixes of tensors in published files that this network lacks.
        channels: C.

    Raises:
        ConfigError: another stride.
    """

    input_conv: ClassVar[str]
    left_out: tuple[str, ...]
    channels: int

    def __init__(self, stride: int, neck: NeckName) -> None:
        super().__init__()
        if stride not in NETWORK_STRIDES:
            raise ConfigError(f"the feature stride is {stride}, expected 4, 8 or 16 pixels.")
        self.stride = stride
        self.neck = neck

    @property
    def body_stride(self) -> int:
        """The stride of the last maps of the body."""
        return self.stride if self.neck == "dilated" else _CLASSIFIER_STRIDE

    def body(self) -> list[tuple[str, Step]]:
        """List the steps below the neck, in order."""
        raise NotImplementedError

    def blocks(self) -> list[tuple[str, Step]]:
        """List the network as named steps, in order.

        ``forward`` is these steps one after the other, so a cut between any two of them
        is a split point of the task network. A pyramid reads maps of several steps, so the body
        and the joining layers are one step.

        Returns:
            Those of ``body`` or ``("pyramid", ...)``, and ``("feat_conv", ...)``.
        """
        steps = self.body() if self.neck == "dilated" else [("pyramid", self._pyramid)]
        return [*steps, ("feat_conv", self._features)]

    def body_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters below the neck."""
        return (p for name, p in self.named_parameters() if not name.startswith(NECK))

    def forward(self, frame: Tensor) -> Tensor:
        """Compute the features of normalised frames.

        Args:
            frame: float ``(N, 3, H, W)``, BGR, normalised.

        Returns:
            float ``(N, C, h, w)``, never negative.
        """
        maps = frame
        for _, step in self.blocks():
            maps = step(maps)
        return maps

    def _features(self, maps: Tensor) -> Tensor:
        return torch.relu(self.feat_conv(maps))

    def _pyramid(self, frame: Tensor) -> Tensor:
        """Run the body and join its last maps at each stride, ``(N, 96, h, w)``."""
        levels = [frame]
        for _, step in self.body():
            maps = step(levels[-1])
            if maps.shape[-2:] == levels[-1].shape[-2:]:
                levels[-1] = maps
            else:
                levels.append(maps)
        top: Tensor = self.lateral[-1](levels[-1])
        for lateral, doubling, maps in zip(
            reversed(self.lateral[:-1]),
            reversed(self.doubling),
            reversed(levels[-len(self.lateral) : -1]),
            strict=True,
        ):
            finer = doubling(torch.relu(top))[..., : maps.shape[-2], : maps.shape[-1]]
            top = lateral(maps) + finer
        return torch.relu(top)

    def _finish(self, kernels: dict[int, int], channels: int) -> None:
        """Add the neck to the body, and initialise all layers.

        Args:
            kernels: of the body's last maps at each stride.
            channels: C.
        """
        self.channels = channels
        inputs, dilation = kernels[max(kernels)], _FEAT_CONV_DILATION
        if self.neck == "pyramid":
            strides = [stride for stride in sorted(kernels) if stride >= self.stride]
            self.lateral = nn.ModuleList(_lateral(kernels[stride]) for stride in strides)
            self.doubling = nn.ModuleList(_doubling() for _ in strides[1:])
            inputs, dilation = _PYRAMID_KERNELS, 1
        self.feat_conv = nn.Conv2d(inputs, channels, 3, padding=dilation, dilation=dilation)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        # By its inputs: for the paper's 2048 this is its normal(0, 0.01), and it keeps the
        # features of narrow networks at the same size.
        nn.init.kaiming_normal_(self.feat_conv.weight, mode="fan_in", nonlinearity="relu")
        assert self.feat_conv.bias is not None
        nn.init.zeros_(self.feat_conv.bias)


def _lateral(kernels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(kernels, _PYRAMID_KERNELS, 1, bias=False), nn.BatchNorm2d(_PYRAMID_KERNELS)
    )


def _doubling() -> nn.Sequential:
    """Return a layer that doubles rows and columns: each cell becomes four, without overlap."""
    return nn.Sequential(
        nn.ConvTranspose2d(_PYRAMID_KERNELS, _PYRAMID_KERNELS, 2, stride=2, bias=False),
        nn.BatchNorm2d(_PYRAMID_KERNELS),
    )
