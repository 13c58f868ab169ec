"""Position-sensitive pooling: each part of a box is scored by the maps of that part.

Source: Dai et al., "R-FCN", NIPS 2016, section 2, Eq. (1), with average voting.
Differs from it: a bin averages four bilinear samples, as RoIAlign does (He et al., "Mask R-CNN",
    ICCV 2017), where R-FCN averages the cells of a bin after rounding its borders.

The definition, shared with the graph and the native code: a box (x1, y1, x2, y2) in pixels lies
``bw = (x2 - x1) / S / k`` and ``bh = (y2 - y1) / S / k``, sample (t, s), each 0 or 1, of bin (row
i, column j) is at

    u = x1 / S - 0.5 + (j + (s + 0.5) / 2) * bw,    clamped to [0, w - 1]
    v = y1 / S - 0.5 + (i + (t + 0.5) / 2) * bh,    clamped to [0, h - 1]

in map ``(i * k + j) * D + d`` for output d, interpolated bilinearly. The vote of output d is the
mean over the k * k bins and their four samples. This equals ONNX's RoiAlign with half_pixel
coordinates, sampling_ratio 2 and mode avg.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dff_edge.errors import ShapeError

_SAMPLES = 2  # in each direction of a bin


def position_sensitive_vote(maps: Tensor, boxes: Tensor, bins: int, stride: int) -> Tensor:
    """Pool the maps of one frame over boxes and let the bins vote, by the definition above.

    Every bin is one item of a batch that reads its own D maps only; pooling all maps in every bin
    would cost ``bins * bins`` times as much. Differentiable in ``maps``; coordinates are computed
    in float32 at least, also under autocast.

    Args:
        maps: float ``(bins * bins * D, h, w)``, bin-major: bin row, bin column, output.
        boxes: float ``(R, 4)`` xyxy in pixels of the frame, inside it.
        bins: k, bins in each direction.
        stride: S, pixels of the frame per cell.

    Returns:
        ``(R, D)``.

    Raises:
        ShapeError: if the maps are not a multiple of the bins, or boxes are not ``(R, 4)``.
    """
    if maps.ndim != 3 or maps.shape[0] % bins**2:
        raise ShapeError(
            f"maps has shape {tuple(maps.shape)}, expected (n * {bins**2}, h, w) for {bins} x "
            f"{bins} bins. Give the maps of one frame."
        )
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError(f"boxes has shape {tuple(boxes.shape)}, expected (R, 4).")
    dtype = torch.promote_types(maps.dtype, torch.float32)
    by_bin = maps.to(dtype).unflatten(0, (bins**2, -1))  # (k * k, D, h, w)
    grid = _sampling_grid(boxes.to(dtype) / stride, bins, maps.shape[-2:])
    samples = functional.grid_sample(
        by_bin, grid, mode="bilinear", padding_mode="border", align_corners=False
    )  # (k * k, D, R, 4)
    return samples.mean(dim=(0, 3)).T


def _sampling_grid(boxes: Tensor, bins: int, size: torch.Size) -> Tensor:
    """Return grid_sample coordinates ``(k * k, R, 4, 2)`` of the samples of boxes in cells."""
    height, width = size
    steps = torch.arange(bins * _SAMPLES, dtype=boxes.dtype, device=boxes.device)
    shares = (steps + 0.5) / (bins * _SAMPLES)
    low, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    cells = low[:, None] + shares[:, None] * sides[:, None]  # (R, 2k, 2)
    # grid_sample's -1 and 1 are the borders of the map, so the half cell cancels out.
    places = 2 * cells / cells.new_tensor([width, height]) - 1
    places = places.unflatten(1, (bins, _SAMPLES))  # (R, k, 2, 2)
    shape = (len(boxes), bins, bins, _SAMPLES, _SAMPLES)
    x = places[:, None, :, None, :, 0].expand(shape)
    y = places[:, :, None, :, None, 1].expand(shape)
    grid = torch.stack([x, y], dim=-1).flatten(3, 4).flatten(1, 2)  # (R, k * k, 4, 2)
    return grid.transpose(0, 1)
