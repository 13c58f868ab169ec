"""The subnets in the form of a bundle: uint8 frames in, channels-last out.

Each module computes what the model's part computes, in the form that is cheapest on the
device: normalisation and BatchNorm are in the weights but for the subtraction of the mean,
and 1x1 convolutions on the non-key path are products of channels-last matrices, so that no
C-channel map is transposed there.

Shapes: C channels, K classes, H x W frame, h x w feature map.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dff_edge.errors import ExportError
from dff_edge.export.fold import fold_batch_norm, fold_input_scale
from dff_edge.export.linear import as_linear
from dff_edge.export.rfcn_graph import PartedMaps, RfcnGraph
from dff_edge.trainer.models import (
    CorrectionNetwork,
    DeepFeatureFlow,
    FeatureNetwork,
    Normalize,
    SegmentationHead,
)
from dff_edge.trainer.models.dff import HEAD, NONE, cut, join
from dff_edge.trainer.models.feature import Step
from dff_edge.trainer.models.flow_network import FlowNetwork
from dff_edge.trainer.models.rfcn import RfcnHead


class FeatureGraph(nn.Module):
    """``frame`` uint8 ``(1, H, W, 3)`` to ``features`` ``(1, h, w, C)``.

    Where the model is split at "none" it includes the learned maps, as one tensor.
    """

    def __init__(self, model: DeepFeatureFlow, frame_size: tuple[int, int]) -> None:
        super().__init__()
        self.network = _folded_feature_network(model)
        fold_input_scale(
            _first_conv(self.network, self.network.input_conv), model.normalize.inverse_std.cpu()
        )
        self.steps, _ = cut(self.network, model.split)
        self.head = copy.deepcopy(model.task).float().cpu().eval() if model.split == NONE else None
        self.centre = _Centre(model.normalize.mean, frame_size[1])

    def forward(self, frame: Tensor) -> Tensor:
        maps = self.centre(frame.float())
        for step in self.steps:
            maps = step(maps)
        if self.head is not None:
            maps = join(self.head(maps))
        return maps.permute(0, 2, 3, 1)


class FlowGraph(nn.Module):
    """``key_half``, ``frame_half`` uint8 to ``flow`` ``(1, h, w, 2)``, ``scale`` ``(1, h, w, C)``.

    A flow network without scale head returns a scale of ones: the contract of the bundle
    holds for every flow function. A model with a correction network returns ``correction``
    ``(1, h, w, M)``, too.
    """

    def __init__(self, model: DeepFeatureFlow, frame_size: tuple[int, int], channels: int) -> None:
        super().__init__()
        network = copy.deepcopy(model.flow).float().cpu().eval()
        half = torch.empty((1, 3, frame_size[0] // 2, frame_size[1] // 2), device="meta")
        fold_batch_norm(network, half, half)
        fold_input_scale(_first_conv(network, "conv1"), model.normalize.inverse_std.cpu())
        assert isinstance(network, FlowNetwork)
        with torch.no_grad():
            network.flow.weight *= network.cells_per_unit
            assert network.flow.bias is not None
            network.flow.bias *= network.cells_per_unit
        self.network = network
        self.channels = channels
        self.centre = _Centre(model.normalize.mean.repeat(1, 2, 1, 1), frame_size[1] // 2)
        if network.scale is not None:
            self.scale = as_linear(network.scale)
            network.scale = None
        self.correction = None
        if model.correction is not None:
            self.correction = CorrectionPart(model.correction, model.normalize, frame_size)

    def forward(self, key_half: Tensor, frame_half: Tensor) -> tuple[Tensor, ...]:
        # Current first, as in FlowNetwork.forward.
        pair = self.centre(torch.cat((frame_half.float(), key_half.float()), dim=3))
        maps, _ = self.network.decode(pair, False)
        ratio = self.network.cells_per_head_cell
        flow = spread_last(self.network.flow(maps).permute(0, 2, 3, 1), ratio)
        if hasattr(self, "scale"):
            scale = spread_last(self.scale(maps.permute(0, 2, 3, 1)), ratio)
        else:
            scale = torch.ones((*flow.shape[:3], self.channels))
        if self.correction is None:
            return flow, scale
        return flow, scale, self.correction(frame_half, maps)


class CorrectionPart(nn.Module):
    """``frame_half`` uint8 and the flow network's maps to ``correction`` ``(1, h, w, M)``."""

    def __init__(
        self, correction: CorrectionNetwork, normalize: Normalize, frame_size: tuple[int, int]
    ) -> None:
        super().__init__()
        correction = copy.deepcopy(correction).float().cpu().eval()
        network = correction.network
        fold_batch_norm(network, torch.empty((1, 3, 64, 64), device="meta"))  # of any size
        stem = _first_conv(network, network.input_conv)
        fold_input_scale(stem, normalize.inverse_std.cpu())
        setattr(network, network.input_conv, StemOfHalves(stem))
        # The frame has a chain of its own up to this convolution, which INT8 rewrites.
        self.centre = _Centre(normalize.mean, frame_size[1] // 2)
        self.network = network
        self.score, self.gate = as_linear(correction.score), as_linear(correction.gate)
        self.ratio = correction.ratio

    def forward(self, frame_half: Tensor, flow_maps: Tensor) -> Tensor:
        maps = self.network(self.centre(frame_half.float()))
        scores = self.score(maps.permute(0, 2, 3, 1))
        gate = self.gate(flow_maps.permute(0, 2, 3, 1))
        _, height, width, cells = gate.shape
        # Before the cells are moved: one number for all channels of each.
        gated = scores.reshape(height, width, cells, -1) * gate.reshape(height, width, cells, 1)
        return spread_last(gated.reshape(scores.shape), self.ratio)


class StemOfHalves(nn.Conv2d):
    """A 3x3 convolution of stride 2 on quarter-size frames, as one of 6x6 on half-size ones.

    The mean of 2x2 pixels is in its weights, so that no pool reads the frame.

    Args:
        stem: with TensorFlow's "same" padding, which is a row below and a column to the right:
            the sides of quarter-size frames are even.
    """

    def __init__(self, stem: nn.Conv2d) -> None:
        assert stem.kernel_size == (3, 3)
        assert stem.stride == (2, 2)
        super().__init__(stem.in_channels, stem.out_channels, 6, stride=4)
        assert self.bias is not None
        assert stem.bias is not None  # of the folded BatchNorm
        with torch.no_grad():
            self.weight.copy_(stem.weight.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4)
            self.bias.copy_(stem.bias)

    def forward(self, halves: Tensor) -> Tensor:
        return super().forward(functional.pad(halves, (0, 2, 0, 2)))


def spread_last(cells: Tensor, ratio: int) -> Tensor:
    """Apply ``spread`` of ``trainer.models.flow_network`` to channels-last maps."""
    if ratio == 1:
        return cells
    _, height, width, _ = cells.shape
    parts = cells.reshape(height, width, ratio, -1).permute(0, 2, 1, 3)
    return parts.reshape(1, ratio * height, ratio * width, -1)


class TaskGraph(nn.Module):
    """``features`` ``(1, h, w, C)`` to ``scores`` ``(1, h, w, K)``, or to the maps of R-FCN.

    Steps of the feature network behind the split point come first. ``correction`` ``(1, h, w, M)``
    is added at the end, for a model that has one.
    """

    def __init__(self, model: DeepFeatureFlow) -> None:
        super().__init__()
        self.steps: list[Step] = []
        if model.split not in (HEAD, NONE):
            self.network = _folded_feature_network(model)
            _, self.steps = cut(self.network, model.split)
        if model.split == NONE:
            self.head = _parted(model.task)
        else:
            self.head = _channels_last_head(model.task)
        self.parts = _parted(model.task)

    def forward(self, features: Tensor, correction: Tensor | None = None) -> Any:
        if self.steps:
            maps = features.permute(0, 3, 1, 2)
            for step in self.steps:
                maps = step(maps)
            features = maps.permute(0, 2, 3, 1)
        found = self.head(features)
        if correction is None:
            return found
        added = self.parts(correction)
        if isinstance(found, Tensor):
            return found + added
        return tuple(own + more for own, more in zip(found, added, strict=True))


def _folded_feature_network(model: DeepFeatureFlow) -> FeatureNetwork:
    network = copy.deepcopy(model.feature).float().cpu().eval()
    fold_batch_norm(network, torch.empty((1, 3, 64, 64), device="meta"))  # of any size
    return network


def _channels_last_head(head: nn.Module) -> nn.Module:
    if isinstance(head, SegmentationHead):
        return as_linear(head.score)
    if isinstance(head, RfcnHead):
        return RfcnGraph(head)
    raise ExportError(
        f"The task network is a {type(head).__name__}, expected a SegmentationHead or an RfcnHead: "
        "this version exports no other."
    )


def _parted(head: nn.Module) -> nn.Module:
    """Return the part of a head whose learned maps were propagated."""
    return PartedMaps(head) if isinstance(head, RfcnHead) else nn.Identity()


class _Centre(nn.Module):
    """Subtract the mean of each channel: channels-last frames to planes.

    The frames are floats: TensorRT accepts bytes only where they are cast at once.

    A row of the frame is one vector, and so is the mean: over three channels in the last
    place ONNX Runtime subtracts number by number, which took a third of the INT8 flow network.

    Args:
        mean: one value for each channel.
        width: of the frames, in pixels.
    """

    mean: Tensor

    def __init__(self, mean: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean.detach().float().cpu().flatten().repeat(width))

    def forward(self, frame: Tensor) -> Tensor:
        rows = frame.flatten(2) - self.mean  # (1, H, W * channels)
        return rows.reshape(frame.shape).permute(0, 3, 1, 2)


def _first_conv(network: nn.Module, name: str) -> nn.Conv2d:
    """Return the convolution that reads the frames."""
    first = network.get_submodule(name)
    conv = first[0] if isinstance(first, nn.Sequential) else first
    assert isinstance(conv, nn.Conv2d)
    assert conv.in_channels % 3 == 0
    return conv
