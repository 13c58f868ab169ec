"""The width multiplier: fewer kernels per layer for small devices."""

from __future__ import annotations

from dff_edge.errors import ConfigError

# Convolution kernels of CPUs and tensor cores work on groups of eight channels.
_GROUP = 8


def scale_kernels(kernels: int, width: float) -> int:
    """Multiply a layer's number of kernels by a width.

    Args:
        kernels: the number at width 1.
        width: positive multiplier.

    Returns:
        ``kernels`` itself at width 1, else the nearest multiple of 8, at least 8.

    Raises:
        ConfigError: if ``width`` is not positive.

    Example:
        >>> scale_kernels(64, 0.5), scale_kernels(64, 0.05)
        (32, 8)
    """
    if not width > 0:
        raise ConfigError(
            f"width is {width}, expected a positive number. Use 1.0 for the published "
            "network, 0.5 for half of its kernels."
        )
    if width == 1:
        return kernels
    return max(_GROUP, int(kernels * width / _GROUP + 0.5) * _GROUP)
