"""Feature networks with torchvision's ResNet names: torchvision's own files, and mmtracking's.

Source: torchvision ``models/resnet.py``; open-mmlab/mmtracking, whose detectors have a backbone
    with the same names.
"""

from __future__ import annotations

from typing import Any

from dff_edge.errors import CheckpointError
from dff_edge.trainer.importing.network import Network, Tensors, as_float, convolution
from dff_edge.trainer.importing.normalisation import IMAGENET, Normalisation, swap_rgb

_PREFIXES = ("", "backbone.", "detector.backbone.", "detector.detector.backbone.")
_LAYERS = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
_KERNELS = 64  # of the first convolution at width 1
_BLOCKS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
}


def resnet_prefix(tensors: Tensors) -> str | None:
    """Return the prefix of a ResNet's names; None where there is no ResNet."""
    return next((p for p in _PREFIXES if f"{p}layer1.0.conv1.weight" in tensors), None)


def import_resnet(tensors: Tensors, prefix: str, *, is_caffe: bool) -> Network:
    """Import a ResNet, without classifier.

    Args:
        tensors: the whole file.
        prefix: of the network's names.
        is_caffe: strides on the 1x1 convolutions, BGR frames less a mean; else torchvision's
            strides on the 3x3 convolutions and its normalisation.

    Raises:
        CheckpointError: a ResNet of another depth.
    """
    own = as_float(
        {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            # The counters of BatchNorm are not needed, and files from before torch 0.4.1 have none.
            if name.startswith(tuple(f"{prefix}{layer}" for layer in _LAYERS))
            and not name.endswith("num_batches_tracked")
        }
    )
    settings = resnet_settings(own, stride_in_1x1=is_caffe)
    if not is_caffe:
        return Network(own, settings, IMAGENET)
    if (first := convolution(own, "conv1.weight")) is not None:
        own["conv1.weight"] = swap_rgb(first)
    return Network(own, settings, Normalisation(IMAGENET.mean, (1.0, 1.0, 1.0)))


def resnet_settings(tensors: Tensors, *, stride_in_1x1: bool) -> dict[str, Any]:
    """Return the settings of a feature network's configuration for these tensors.

    Args:
        tensors: with torchvision's names, and perhaps ``feat_conv``.
        stride_in_1x1: cannot be inferred from weights.

    Raises:
        CheckpointError: a ResNet of another depth.
    """
    blocks = tuple(
        len({name.split(".")[1] for name in tensors if name.startswith(f"layer{stage}.")})
        for stage in range(1, 5)
    )
    kind = "bottleneck" if "layer1.0.conv3.weight" in tensors else "basic"
    if (kind, blocks) not in _BLOCKS:
        known = ", ".join(f"{list(b)} {k} ones ({name})" for (k, b), name in _BLOCKS.items())
        raise CheckpointError(
            f"the feature network has {list(blocks)} {kind} blocks, expected {known}."
        )
    settings: dict[str, Any] = {"name": _BLOCKS[kind, blocks]}
    if stride_in_1x1:
        settings["stride_in_1x1"] = True
    first = convolution(tensors, "conv1.weight")
    if first is not None and len(first) != _KERNELS:
        settings["width"] = len(first) / _KERNELS
    last = convolution(tensors, "feat_conv.weight")
    if last is not None:
        settings["channels"] = len(last)
    return settings
