"""The feature warp with autograd: used in training, and the reference for the device.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 3.
    Eq. (1)-(2) bilinear warp        -> warp_features
    Eq. (3)     warp times scale     -> warp_features with scale
    Eq. (4)     gradient of the flow -> by autograd
Differs from the paper: a flow that is not finite gives zero, and no gradient.

Shapes: N batch, C channels, h x w feature map.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dff_edge.errors import ShapeError

# In grid coordinates the map ends at 1, and its last cell, at most as wide as the map,
# stops contributing at 2: everything from here on reads zero. Clamping keeps huge
# flows out of the integer casts of grid_sample.
_OUTSIDE = 3.0


def warp_features(key_features: Tensor, flow: Tensor, scale: Tensor | None = None) -> Tensor:
    """Propagate key-frame features to the current frame.

    Implements Eq. (1)-(2) of Zhu et al., CVPR 2017 (arXiv:1611.07715), and Eq. (3) when
    ``scale`` is given. Integer coordinates are cell centres. Cells outside the map
    count as zero; a NaN or infinite flow gives zero, and its gradient is zero.
    Coordinates are computed in float32 at least, also under autocast.

    Args:
        key_features: float ``(N, C, h, w)``, features of the key frame.
        flow: float ``(N, 2, h, w)``, ``(dx, dy)`` from the current frame to the key
            frame, in feature cells (not image pixels).
        scale: float ``(N, C, h, w)``, multiplies the warped features. None: no scaling.

    Returns:
        ``(N, C, h, w)`` of the type of ``key_features``, features of the current frame.

    Raises:
        ShapeError: if the maps do not share N, h and w, the flow does not have exactly
            two channels, or the scale is not shaped like the features.

    Example:
        >>> features = torch.arange(6.0).view(1, 1, 2, 3)
        >>> right = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 3)
        >>> warp_features(features, right).view(2, 3)
        tensor([[1., 2., 0.],
                [4., 5., 0.]])
    """
    _check_shapes(key_features, flow, scale)
    dtype = torch.promote_types(key_features.dtype, torch.float32)
    warped = functional.grid_sample(
        key_features.to(dtype),
        _sampling_grid(flow.to(dtype)),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    if scale is not None:
        warped = warped * scale.to(dtype)
    return warped.to(key_features.dtype)


def _sampling_grid(flow: Tensor) -> Tensor:
    """Turn flow ``(N, 2, h, w)`` in cells into grid_sample coordinates ``(N, h, w, 2)``."""
    height, width = flow.shape[-2:]
    rows = torch.arange(height, dtype=flow.dtype, device=flow.device).view(1, height, 1)
    columns = torch.arange(width, dtype=flow.dtype, device=flow.device).view(1, 1, width)
    # (2 (p + M) + 1) / W - 1 has no division by W - 1, so maps of one row or column work.
    grid_x = (2 * (columns + flow[:, 0]) + 1) / width - 1
    grid_y = (2 * (rows + flow[:, 1]) + 1) / height - 1
    grid = torch.stack((grid_x, grid_y), dim=-1)
    is_finite = torch.isfinite(flow).all(dim=1).unsqueeze(-1)  # (N, h, w, 1)
    grid = torch.where(is_finite, grid, torch.full_like(grid, _OUTSIDE))
    return grid.clamp(-_OUTSIDE, _OUTSIDE)


def _check_shapes(key_features: Tensor, flow: Tensor, scale: Tensor | None) -> None:
    if key_features.ndim != 4:
        raise ShapeError(
            f"key_features has shape {tuple(key_features.shape)}, expected (N, C, h, w)."
        )
    batch, _, height, width = key_features.shape
    if tuple(flow.shape) != (batch, 2, height, width):
        raise ShapeError(
            f"flow has shape {tuple(flow.shape)}, expected {(batch, 2, height, width)} to match "
            f"key_features {tuple(key_features.shape)}. If the flow was predicted at image size, "
            "resize it to the feature map and divide its values by the stride."
        )
    if scale is not None and scale.shape != key_features.shape:
        raise ShapeError(
            f"scale has shape {tuple(scale.shape)}, expected {tuple(key_features.shape)}: one "
            "factor for every feature. Build the flow network with the same number of channels."
        )
