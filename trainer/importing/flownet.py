"""FlowNet "Simple" of ClementPinard/FlowNetPytorch and open-mmlab/mmtracking.

Both compute the same as ``FlowNetSimple``, in the same unit (20 pixels of the frames that they
read), with the current frame first. They read RGB frames, divided by 255, less a mean. They differ
after the last concatenation: they predict a flow on it at stride 4 and enlarge that, whereas this
project, as the paper's reference code, averages it to stride 16 and predicts there with the same
weights. So there is no flow at full size.

Source: github.com/ClementPinard/FlowNetPytorch, ``models/FlowNetS.py`` (keys ``conv3_1.0.weight``,
    with BatchNorm ``conv3_1.1.weight``; ``upsampled_flow6_to_5.weight``); mmtracking,
    ``models/motion/flownet_simple.py`` (``conv3.1.conv.weight``, ``upsample_flow5.conv.weight``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from dff_edge.errors import CheckpointError
from dff_edge.trainer.importing.network import (
    Network,
    Tensors,
    as_float,
    convolution,
    rename,
)
from dff_edge.trainer.importing.normalisation import Normalisation, swap_rgb

# Subtracted from a frame's first, second and third channel, whatever these are: published weights
# were trained with a mean of B, G, R subtracted from R, G, B.
_MEAN = (0.411 * 255, 0.432 * 255, 0.450 * 255)
_STD = (255.0, 255.0, 255.0)
_EPSILON = 1e-5  # of their BatchNorm

_KERNELS = 64  # of the first convolution at width 1
_SHARED = {f"predict_flow{level}": f"predict_flow.{level}" for level in (6, 5, 4, 3)}
_PYTORCH = _SHARED | {
    "predict_flow2": "flow",
    **{f"deconv{level}.0": f"deconv.{level}.0" for level in (5, 4, 3, 2)},
    **{f"upsampled_flow{n + 1}_to_{n}": f"upsample_flow.{n}" for n in (5, 4, 3, 2)},
}
_MMTRACKING = {
    "predict_flow.conv": "flow",
    **{f"{theirs}.conv": ours for theirs, ours in _SHARED.items()},
    **{f"conv{level}.0.conv": f"conv{level}.0" for level in range(1, 7)},
    **{f"conv{level}.1.conv": f"conv{level}_1.0" for level in range(3, 7)},
    **{f"deconv{level}.conv": f"deconv.{level}.0" for level in (5, 4, 3, 2)},
    **{f"upsample_flow{level}.conv": f"upsample_flow.{level}" for level in (5, 4, 3, 2)},
}


def is_flownet_pytorch(tensors: Tensors) -> bool:
    """Return whether it is FlowNetPytorch's FlowNet "Simple", with BatchNorm or without."""
    return {"conv3_1.0.weight", "conv3.0.weight", "predict_flow6.weight"} <= tensors.keys()


def mmtracking_flow_prefix(tensors: Tensors) -> str | None:
    """Return the prefix of the names of mmtracking's FlowNet; None where there is none."""
    return next((p for p in ("", "motion.") if f"{p}conv3.1.conv.weight" in tensors), None)


def import_flownet_pytorch(tensors: Tensors, *, is_caffe: bool) -> Network:
    """Import FlowNetPytorch's network; its BatchNorm layers are folded into the convolutions.

    Args:
        tensors: the whole file.
        is_caffe: trained on BGR frames (``flownets_from_caffe``), else on RGB.
    """
    own = as_float(
        {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    )
    return _finished(rename(_fold_batch_norm(own), _renamer(_PYTORCH)), is_caffe)


def import_mmtracking_flow(tensors: Tensors, prefix: str, *, is_caffe: bool) -> Network:
    """Import mmtracking's flow network.

    Args:
        tensors: the whole file.
        prefix: of the network's names.
        is_caffe: trained on BGR frames, else on RGB.
    """
    own = as_float(
        {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
    )
    return _finished(rename(own, _renamer(_MMTRACKING)), is_caffe)


def fill_flownet(tensors: Tensors, *, is_rgb: bool) -> Network:
    """Add the biases that a FlowNet may lack, and convert its input to BGR.

    Args:
        tensors: with this project's names.
        is_rgb: whether its frames are RGB, else BGR.

    Returns:
        The network, its normalisation not set.
    """
    own = dict(tensors)
    for name, value in tensors.items():
        layer = name.removesuffix(".weight")
        # Only the decoder of the originals may lack biases; a convolution without one is damaged.
        if layer != name and layer.startswith(("deconv", "predict_flow", "upsample_flow", "flow")):
            is_transposed = layer.startswith(("deconv", "upsample_flow"))
            kernels = value.shape[1 if is_transposed else 0] if value.ndim == 4 else 0
            own.setdefault(f"{layer}.bias", torch.zeros(kernels))
    settings: dict[str, Any] = {"name": "simple"}
    first = convolution(own, "conv1.0.weight")
    if first is not None:
        if is_rgb:
            own["conv1.0.weight"] = swap_rgb(first)
        if len(first) != _KERNELS:
            settings["width"] = len(first) / _KERNELS
    return Network(own, settings)


def _finished(tensors: Tensors, is_caffe: bool) -> Network:
    filled = fill_flownet(tensors, is_rgb=not is_caffe)
    mean = _MEAN if is_caffe else (_MEAN[2], _MEAN[1], _MEAN[0])
    return replace(filled, normalisation=Normalisation(mean, _STD))


def _renamer(layers: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that renames by a table; other names stay, to be reported as left over."""

    def renamed(name: str) -> str:
        layer, _, part = name.rpartition(".")
        return f"{layers.get(layer, layer)}.{part}"

    return renamed


def _fold_batch_norm(tensors: Tensors) -> Tensors:
    """Fold ``conv.0``, without bias, and ``conv.1``, a BatchNorm, into a convolution ``conv.0``."""
    folded = dict(tensors)
    for name in tensors:
        layer = name.removesuffix(".1.running_var")
        names = [f"{layer}.{part}" for part in _NORMALISED]
        if layer == name or not all(part in tensors for part in names):
            continue  # parts of an incomplete BatchNorm are reported as left over
        convolution(folded, names[0])
        weight, *normed = (folded.pop(part) for part in names)
        wrong = [tuple(value.shape) for value in normed if value.shape != weight.shape[:1]]
        if wrong:  # a single number would be broadcast to all kernels
            raise CheckpointError(
                f"{layer} has a BatchNorm of another shape: {wrong[0]} for a weight "
                f"{tuple(weight.shape)}."
            )
        gamma, beta, mean, variance = normed
        factor = gamma / torch.sqrt(variance + _EPSILON)
        folded[f"{layer}.0.weight"] = weight * factor.view(-1, 1, 1, 1)
        folded[f"{layer}.0.bias"] = beta - mean * factor
    return folded


_NORMALISED = ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var")
