"""The official code's ``.params``: whole models, and the ResNet and FlowNet that they start from.

Source: github.com/msracver/Deep-Feature-Flow, ``dff_rfcn/symbols/resnet_v1_101_flownet_rfcn.py``
    (names and layouts), ``dff_rfcn/core/callback.py`` (the box layer for testing), and
    ``experiments/dff_rfcn/cfgs`` (mean and deviations).

Theirs and ours, by network:
    feature  Caffe's names, strides on the 1x1 convolutions; ``feat_conv_3x3`` is ``feat_conv``.
    flow     ``Convolution1`` .. ``5`` predict flows, the last one ours at stride 16. The frames
             are divided by 255 after the mean, and lie as current and key frame, each RGB.
    task     A background and a foreground score for each anchor, where ours is their difference
             (a softmax of two is a sigmoid of that). Score maps lie class by class, ours bin by
             bin. Of the boxes the first four are the background's, which are unused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import isqrt
from typing import Any

from torch import Tensor

from dff_edge.errors import CheckpointError
from dff_edge.trainer.importing.flownet import fill_flownet
from dff_edge.trainer.importing.network import Imported, Network, Tensors, as_float, rename
from dff_edge.trainer.importing.normalisation import Normalisation
from dff_edge.trainer.importing.resnet import resnet_settings

_MEAN = (103.06, 115.90, 123.15)

_BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}
_FLOW = {
    "flow_conv1": "conv1.0",
    **{f"conv{n}": f"conv{n}.0" for n in ("2", "3", "3_1", "4", "4_1", "5", "5_1", "6", "6_1")},
    **{f"Convolution{7 - level}": f"predict_flow.{level}" for level in (6, 5, 4, 3)},
    **{f"deconv{level}": f"deconv.{level}.0" for level in (5, 4, 3, 2)},
    **{f"upsample_flow{n + 1}to{n}": f"upsample_flow.{n}" for n in (5, 4, 3, 2)},
    "Convolution5": "flow",
    "Convolution5_scale": "scale",
}
_FEATURE = {"conv1": "conv1", "bn_conv1": "bn1", "feat_conv_3x3": "feat_conv"}
_TASK = ("rpn_cls_score", "rpn_bbox_pred", "rfcn_cls", "rfcn_bbox")
_NOTES = (
    "The official code pools whole cells, after rounding each box to pixels; dff-edge samples "
    "between cells. Scores of the same weights differ a little.",
)


def is_dff_params(tensors: Tensors) -> bool:
    """Return whether MXNet's arrays are a model of the official code, or a part of one."""
    names = {name.partition(":")[2] for name in tensors}
    return bool(names & {"res2a_branch1_weight", "flow_conv1_weight", "rfcn_cls_weight"})


def import_dff_params(tensors: Tensors) -> Imported:
    """Import the feature, flow and task networks that are there.

    Args:
        tensors: as in the file, names with ``arg:`` and ``aux:``.

    Raises:
        CheckpointError: another ResNet than those of dff-edge, or R-FCN's layers do not belong
            together.
    """
    parts: dict[str, Tensors] = {"feature": {}, "flow": {}, "task": {}}
    left_out: list[str] = []
    for full, value in tensors.items():
        name = full.partition(":")[2]
        layer, _ = _layer_and_part(name)
        part = "flow" if layer in _FLOW else "task" if layer in _TASK else "feature"
        if part == "feature" and _feature_name(name) is None:
            left_out.append(full)
        else:
            parts[part][name] = value
    makers = {"feature": _feature, "flow": _flow, "task": _task}
    networks = {part: makers[part](as_float(own)) for part, own in parts.items() if own}
    return Imported(
        "MXNet parameters of the official Deep Feature Flow", networks, tuple(left_out), _NOTES
    )


def _layer_and_part(name: str) -> tuple[str, str]:
    """Split ``bn2a_branch1_moving_var`` into ``bn2a_branch1`` and ``running_var``."""
    for theirs, ours in _BATCH_NORM.items():
        if name.endswith(f"_{theirs}"):
            return name.removesuffix(f"_{theirs}"), ours
    layer, _, part = name.rpartition("_")
    return layer, part


def _feature_name(name: str) -> str | None:
    """Map ``bn3b2_branch2c_gamma`` to ``layer2.2.bn3.weight``; None for another network's layer."""
    layer, part = _layer_and_part(name)
    if layer in _FEATURE:
        return f"{_FEATURE[layer]}.{part}"
    block = re.fullmatch(r"(res|bn)([2-5])([a-f]|b\d{1,2})_branch(1|2[abc])", layer)
    if block is None:
        return None
    kind, stage, place, branch = block.groups()
    index = int(place[1:]) if len(place) > 1 else ord(place) - ord("a")
    if branch == "1":
        own = f"downsample.{0 if kind == 'res' else 1}"
    else:
        own = f"{'conv' if kind == 'res' else 'bn'}{'abc'.index(branch[1]) + 1}"
    return f"layer{int(stage) - 1}.{index}.{own}.{part}"


def _feature(tensors: Tensors) -> Network:
    own = rename(tensors, lambda name: _feature_name(name) or name)
    settings = resnet_settings(own, stride_in_1x1=True)
    return Network(own, settings, Normalisation(_MEAN, (1.0, 1.0, 1.0)))


def _flow(tensors: Tensors) -> Network:
    def ours(name: str) -> str:
        layer, part = _layer_and_part(name)
        return f"{_FLOW[layer]}.{part}"

    filled = fill_flownet(rename(tensors, ours), is_rgb=True)
    return replace(filled, normalisation=Normalisation(_MEAN, (255.0, 255.0, 255.0)))


def _task(tensors: Tensors) -> Network:
    """Return R-FCN's four layers, in this project's layouts."""
    missing = [
        name
        for layer in _TASK
        for name in (f"{layer}_weight", f"{layer}_bias")
        if name not in tensors
    ]
    if missing:
        raise CheckpointError(
            f"R-FCN lacks {', '.join(missing)}, expected weight and bias of {', '.join(_TASK)}."
        )
    for layer in _TASK:
        weight, bias = tensors[f"{layer}_weight"], tensors[f"{layer}_bias"]
        if weight.ndim != 4 or bias.shape != weight.shape[:1]:
            raise CheckpointError(
                f"R-FCN's {layer} has shapes {tuple(weight.shape)} and {tuple(bias.shape)}, "
                "expected (kernels, channels, 1, 1) and (kernels,)."
            )
    anchors = len(tensors["rpn_cls_score_bias"]) // 2
    bins = isqrt(len(tensors["rfcn_bbox_bias"]) // 8)
    classes = len(tensors["rfcn_cls_bias"]) // max(bins**2, 1)
    own: Tensors = {}
    for part in ("weight", "bias"):
        scores, deltas, class_maps, box_maps = (tensors[f"{layer}_{part}"] for layer in _TASK)
        try:
            background, foreground = scores.reshape(2, anchors, *scores.shape[1:])
            own[f"objectness.{part}"] = foreground - background
            own[f"deltas.{part}"] = deltas
            own[f"class_maps.{part}"] = _bin_major(class_maps, classes, bins)
            boxes = box_maps.reshape(8, bins**2, *box_maps.shape[1:])[4:]
            own[f"box_maps.{part}"] = _bin_major(boxes.flatten(0, 1), 4, bins)
        except RuntimeError as error:
            shapes = {f"{layer}_{part}": tuple(tensors[f"{layer}_{part}"].shape) for layer in _TASK}
            raise CheckpointError(
                f"R-FCN has {shapes}, expected 2 A, 4 A, k k (K + 1) and 8 k k rows."
            ) from error
    settings: dict[str, Any] = {"classes": classes - 1, "anchors": anchors, "bins": bins}
    return Network(own, settings)


def _bin_major(maps: Tensor, values: int, bins: int) -> Tensor:
    """Reorder ``(values * k * k, ...)`` to ``(k * k * values, ...)``."""
    return maps.reshape(values, bins**2, *maps.shape[1:]).transpose(0, 1).flatten(0, 1)
