"""Conversion of weights for frames with another normalisation.

A convolution of normalised frames is a convolution of the frames themselves, so weights that were
trained with one mean and deviation can be rewritten for another. All triples are per channel in
BGR order, in units of 0..255.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dff_edge.errors import ConfigError

Triple = tuple[float, float, float]


class Normalisation(NamedTuple):
    """Normalisation of a frame: ``(frame - mean) / std``."""

    mean: Triple
    std: Triple


# torchvision's, and the default of a model's configuration.
IMAGENET = Normalisation((103.53, 116.28, 123.675), (57.375, 57.12, 58.395))


def renormalise(
    weight: Tensor, made_for: Normalisation, wanted: Normalisation
) -> tuple[Tensor, Tensor]:
    """Rewrite a first convolution for frames with another normalisation.

    Exact where both have the same mean. With another mean the frame's border differs: the
    convolution pads with zeros, which then stand for another colour.

    Args:
        weight: ``(kernels, 3 n, size, size)``, n frames one after the other, each BGR.
        made_for: normalisation that ``weight`` expects.
        wanted: normalisation that the new weight expects.

    Returns:
        The new weight, and an offset to be added to the convolution's result, ``(kernels,)``.

    Raises:
        ConfigError: a deviation that is not positive, NaN or infinity.
    """
    if not all(map(math.isfinite, (*wanted.mean, *wanted.std))) or min(wanted.std) <= 0:
        raise ConfigError(
            f"mean is {wanted.mean} and std {wanted.std}, expected three finite numbers each, "
            "those of std positive."
        )
    frames = weight.shape[1] // 3
    old_mean, old_std, mean, std = (
        torch.tensor(triple, dtype=torch.float64).repeat(frames).view(1, -1, 1, 1)
        for triple in (*made_for, *wanted)
    )
    shift = (weight * ((mean - old_mean) / old_std)).sum(dim=(1, 2, 3))
    return (weight * (std / old_std)).to(weight.dtype), shift.to(weight.dtype)


def swap_rgb(weight: Tensor) -> Tensor:
    """Reverse a first convolution from RGB to BGR or back, ``(kernels, 3 n, size, size)``."""
    return torch.cat([frame.flip(1) for frame in weight.split(3, dim=1)], dim=1)
