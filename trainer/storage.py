"""How a checkpoint stores weights: in full, in half precision, or kernels as bytes.

Bytes are symmetric: each slice of a kernel along its first dimension, which is the output channel
of a convolution, is a float32 scale times integers from -127 to 127, the largest of which is 127 in
size. Stored again, bytes stay what they are. Other weights are in half precision beside them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dff_edge.errors import CheckpointError

Storage = Literal["float32", "float16", "int8"]
_LARGEST = 127
_SCALE = ":scale"  # behind the name of what it scales; a colon is in no name of a weight


def stored(tensors: dict[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """Return weights in the form in which they are stored.

    Args:
        tensors: state dict.
        storage: how.

    Returns:
        Tensors by name; with "int8" more than there are weights.

    Raises:
        CheckpointError: a weight is too large for float16, or not finite where bytes are wanted.
    """
    out: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if storage == "float32" or not value.is_floating_point():
            out[name] = value
        elif storage == "int8" and value.ndim > 1:
            out[name], out[name + _SCALE] = _as_bytes(name, value)
        else:
            out[name] = _as_half(name, value)
    return out


def restored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of stored tensors, those of bytes as float32.

    Args:
        tensors: as ``stored`` gives them.

    Raises:
        CheckpointError: a scale belongs to no bytes, or does not fit them.
    """
    out = dict(tensors)
    for name in [name for name in tensors if name.endswith(_SCALE)]:
        scale, kernel = out.pop(name), out.get(name.removesuffix(_SCALE))
        if kernel is None or kernel.dtype != torch.int8 or scale.shape != kernel.shape[:1]:
            found = "nothing" if kernel is None else f"{kernel.dtype} {tuple(kernel.shape)}"
            raise CheckpointError(
                f"the weights hold a scale {name} of shape {tuple(scale.shape)} for {found}, "
                "expected one number for each output channel of int8 weights."
            )
        out[name.removesuffix(_SCALE)] = kernel.float() * _per_slice(scale, kernel)
    return out


def _as_bytes(name: str, value: Tensor) -> tuple[Tensor, Tensor]:
    full = value.float()
    largest = full.abs().amax(dim=tuple(range(1, full.ndim)))
    if not largest.isfinite().all():
        raise CheckpointError(f"{name} holds infinite numbers or NaN, which have no bytes.")
    scale = torch.where(largest > 0, largest / _LARGEST, torch.ones_like(largest))
    return (full / _per_slice(scale, full)).round().to(torch.int8), scale


def _per_slice(scale: Tensor, kernel: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (kernel.ndim - 1))


def _as_half(name: str, value: Tensor) -> Tensor:
    half = value.half()
    if half.isinf().any() and not value.isinf().any():
        raise CheckpointError(
            f"{name} holds {value.abs().max().item():.3g}, too large for float16. Store the "
            "weights in full (storage: float32)."
        )
    return half
