"""Input normalisation, and the half-size frame that the flow network reads.

Frames are passed as BGR 0..255. Normalisation is a module, so that it becomes part of
every exported graph and the device feeds plain uint8 frames.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 5.1: the flow network runs on frames
    of half the size.
Differs from the paper: means and deviations per channel are part of the model's
    configuration; the reference code subtracts a mean only.

Shapes: N batch, H x W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dff_edge.errors import ConfigError


class Normalize(nn.Module):
    """Subtract the mean and divide by the standard deviation of each channel.

    The numbers come from the configuration and are not in the state dict, so a
    checkpoint cannot contradict the configuration beside it.

    Args:
        mean: three values in BGR order, in units of 0..255.
        std: three positive values in BGR order, in units of 0..255.

    Raises:
        ConfigError: if there are not three of each, or a deviation is not positive.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ConfigError(
                f"mean is {list(mean)} and std is {list(std)}, expected three numbers each in "
                "BGR order, the deviations positive. Correct the model's mean and std."
            )
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "inverse_std", 1.0 / torch.tensor(std).view(1, 3, 1, 1), persistent=False
        )

    def forward(self, frame: Tensor) -> Tensor:
        """Normalise float ``(N, 3, H, W)`` BGR 0..255 frames."""
        return (frame - self.mean) * self.inverse_std


def half_frame(frame: Tensor) -> Tensor:
    """Make the half-size frame of the flow network by 2x2 averaging.

    Values are rounded to whole numbers, halves up, as uint8 area averaging on the
    device does (``cv2.INTER_AREA``), so both sides feed the same numbers. No
    gradient passes; frames need none.

    Args:
        frame: float ``(N, 3, H, W)``, 0..255, not normalised.

    Returns:
        float ``(N, 3, ceil(H / 2), ceil(W / 2))``, 0..255.
    """
    return torch.floor(average_pool_2x2(frame) + 0.5)


def average_pool_2x2(maps: Tensor) -> Tensor:
    """Average 2x2 cells; an odd last row or column is averaged on its own.

    Returns:
        ``(N, C, ceil(h / 2), ceil(w / 2))``.
    """
    # Even sizes, the only ones that are exported, get a plain AveragePool: its ceil
    # mode changed meaning between ONNX operator sets.
    has_odd_size = bool(maps.shape[-2] % 2 or maps.shape[-1] % 2)
    return functional.avg_pool2d(maps, kernel_size=2, stride=2, ceil_mode=has_odd_size)
