"""The subnets as the bundle wants them: uint8 frames in, channels-last out.

Each module computes what the model's part computes, in the form that is cheapest on the
device: normalisation and BatchNorm are in the weights but for the subtraction of the mean,
and 1x1 convolutions on the non-key path are products of channels-last matrices, so that no
C-channel map is transposed there.

Shapes: C channels, K classes, H x W frame, h x w feature map.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from dff_edge.export.fold import fold_batch_norm, fold_input_scale
from dff_edge.runtime.errors import ExportError
from dff_edge.trainer.models import DeepFeatureFlow, SegmentationHead
from dff_edge.trainer.models.flownet import CELLS_PER_UNIT, FlowNetwork


class FeatureGraph(nn.Module):
    """``frame`` uint8 ``(1, H, W, 3)`` to ``features`` ``(1, h, w, C)``."""

    def __init__(self, model: DeepFeatureFlow, frame_size: tuple[int, int]) -> None:
        super().__init__()
        network = copy.deepcopy(model.feature).float().cpu().eval()
        fold_batch_norm(network, torch.empty((1, 3, *frame_size), device="meta"))
        fold_input_scale(_first_conv(network), model.normalize.inverse_std.cpu())
        self.network = network
        self.centre = _Centre(model.normalize.mean, frame_size[1])

    def forward(self, frame: Tensor) -> Tensor:
        maps: Tensor = self.network(self.centre(frame.float()))
        return maps.permute(0, 2, 3, 1)


class FlowGraph(nn.Module):
    """``key_half``, ``frame_half`` uint8 to ``flow`` ``(1, h, w, 2)``, ``scale`` ``(1, h, w, C)``.

    A flow network without scale head gives a scale of ones: the contract of the bundle
    holds for every flow function.
    """

    def __init__(self, model: DeepFeatureFlow, frame_size: tuple[int, int], channels: int) -> None:
        super().__init__()
        network = copy.deepcopy(model.flow).float().cpu().eval()
        half = torch.empty((1, 3, frame_size[0] // 2, frame_size[1] // 2), device="meta")
        fold_batch_norm(network, half, half)
        fold_input_scale(_first_conv(network), model.normalize.inverse_std.cpu())
        assert isinstance(network, FlowNetwork)
        with torch.no_grad():
            network.flow.weight *= CELLS_PER_UNIT
            assert network.flow.bias is not None
            network.flow.bias *= CELLS_PER_UNIT
        self.network = network
        self.channels = channels
        self.centre = _Centre(model.normalize.mean.repeat(1, 2, 1, 1), frame_size[1] // 2)
        if network.scale is not None:
            self.scale = _as_linear(network.scale)
            network.scale = None

    def forward(self, key_half: Tensor, frame_half: Tensor) -> tuple[Tensor, Tensor]:
        # Current first, as in FlowNetwork.forward.
        pair = self.centre(torch.cat((frame_half.float(), key_half.float()), dim=3))
        maps, _ = self.network.decode(pair, False)
        flow = self.network.flow(maps).permute(0, 2, 3, 1)
        if hasattr(self, "scale"):
            return flow, self.scale(maps.permute(0, 2, 3, 1))
        return flow, torch.ones((*flow.shape[:3], self.channels))


class TaskGraph(nn.Module):
    """``features`` ``(1, h, w, C)`` to ``scores`` ``(1, h, w, K)``."""

    def __init__(self, model: DeepFeatureFlow) -> None:
        super().__init__()
        if not isinstance(model.task, SegmentationHead):
            raise ExportError(
                f"The task network is a {type(model.task).__name__}, expected a SegmentationHead: "
                "only segmentation can be exported by this version."
            )
        self.score = _as_linear(model.task.score)

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.score(features)
        return scores


class _Centre(nn.Module):
    """Subtract the mean of each channel: channels-last frames to planes.

    The frames come as floats: TensorRT takes bytes only where they are cast at once.

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


class _ChannelsLastLinear(nn.Module):
    """A 1x1 convolution of channels-last maps: one MatMul and one Add in ONNX."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.matmul(maps, self.weight) + self.bias


def _as_linear(conv: nn.Conv2d) -> _ChannelsLastLinear:
    assert conv.kernel_size == (1, 1)
    assert conv.groups == 1
    assert conv.bias is not None
    weight = conv.weight.detach().float().cpu()[:, :, 0, 0].T.contiguous()  # (C_in, C_out)
    return _ChannelsLastLinear(weight, conv.bias.detach().float().cpu().clone())


def _first_conv(network: nn.Module) -> nn.Conv2d:
    """The convolution that reads the frames; the networks all call it ``conv1``."""
    first = network.get_submodule("conv1")
    conv = first[0] if isinstance(first, nn.Sequential) else first
    assert isinstance(conv, nn.Conv2d)
    assert conv.in_channels % 3 == 0
    return conv
