"""Counted costs of the networks, and the savings of Deep Feature Flow.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 3, "Inference Complexity Analysis".
    Eq. (5) cost ratio r         -> cost_ratio
    Eq. (6) r from two networks  -> approximate_cost_ratio
    Eq. (7) speed-up s           -> speedup
Differs from the paper: nothing. Only convolutions are counted, as multiply-adds; for
    the warp, which has none, its five multiply-adds per feature are.

Shapes: C channels, H x W image, h x w feature map.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dff_edge.errors import ConfigError
from dff_edge.trainer.models.dff import NONE, DeepFeatureFlow
from dff_edge.trainer.models.flow_network import FlowNetwork
from dff_edge.trainer.models.normalize import half_frame

# Four corners and the scale; the weights of the corners are shared by all channels.
_WARP_MACS_PER_FEATURE = 5


def macs(module: nn.Module, *shapes: tuple[int, ...]) -> int:
    """Count the multiply-adds of a module on inputs of the given shapes.

    Runs on the meta device: no numbers are computed, and ``module`` is not changed.

    Args:
        module: called with one tensor for each shape.
        shapes: for example ``(1, 3, 512, 1024)``.

    Returns:
        Multiply-adds of all convolutions and matrix products; one is two FLOPs.

    Example:
        >>> macs(nn.Conv2d(3, 8, 1), (1, 3, 10, 10))
        2400
    """
    shadow = copy.deepcopy(module).to("meta").eval()
    return _count(shadow, *(torch.empty(shape, device="meta") for shape in shapes))


def feature_macs(feature: nn.Module, frame_size: tuple[int, int]) -> int:
    """Count O(N_feat) for one frame of ``(H, W)``."""
    return macs(feature, (1, 3, *frame_size))


def flow_macs(flow: FlowNetwork, frame_size: tuple[int, int]) -> int:
    """Count O(F) + O(S) for one frame of ``(H, W)``, which it reads at half size."""
    half = (1, 3, -(-frame_size[0] // 2), -(-frame_size[1] // 2))
    return macs(flow, half, half)


def cost_ratio(model: DeepFeatureFlow, frame_size: tuple[int, int]) -> float:
    """Compute r of Eq. (5): cost of a propagated frame over that of a per-frame run.

    Args:
        model: with all three networks.
        frame_size: ``(H, W)`` in pixels.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    frame = torch.empty((1, 3, *frame_size), device="meta")
    features = _features_of(shadow, frame)
    warp = _WARP_MACS_PER_FEATURE * features.numel()
    propagated = flow_macs(model.flow, frame_size) + warp + _count(shadow.answer, features)
    if shadow.correction is not None:
        maps = torch.empty((1, model.flow.head_kernels, *(-(-side // 16) for side in frame_size)))
        propagated += _count(shadow.correction, half_frame(frame), maps.to("meta"))
    return propagated / _count(shadow.recognize, frame)


def task_layers(model: DeepFeatureFlow) -> int:
    """Count the layers with weights of the task network, as Table 5 of the paper does.

    The sibling 1x1 convolutions of the learned maps are one layer.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    features = _features_of(shadow, torch.empty((1, 3, 64, 64), device="meta"))
    ran: list[nn.Module] = []
    for layer in shadow.feature.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda conv, _inputs, _output: ran.append(conv))
    with torch.no_grad():
        shadow.answer(features)
    return len(ran) + (model.split != NONE)


def approximate_cost_ratio(
    feature: nn.Module, flow: FlowNetwork, frame_size: tuple[int, int]
) -> float:
    """Compute r of Eq. (6), flow network with scale head over feature network.

    Table 2 of the paper lists 1 / r.
    """
    return flow_macs(flow, frame_size) / feature_macs(feature, frame_size)


def speedup(interval: int, ratio: float) -> float:
    """Compute s of Eq. (7) for key interval l and cost ratio r.

    Raises:
        ConfigError: if the interval is below 1 or the ratio below 0.

    Example:
        >>> speedup(10, 0.0), speedup(1, 0.5)
        (10.0, 1.0)
    """
    if interval < 1 or not ratio >= 0:
        raise ConfigError(
            f"interval is {interval} and ratio {ratio}, expected at least 1 and at least 0."
        )
    return interval / (1 + (interval - 1) * ratio)


def _count(module: Callable[..., object], *inputs: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    flops: int = counter.get_total_flops()
    return flops // 2


def _features_of(model: DeepFeatureFlow, frame: Tensor) -> Tensor:
    with torch.no_grad():
        return model.extract(frame)
