"""Conversion of grey pictures of more than 8 bits, typically thermal ones, to 8 bits.

A file states how many bits a value is stored in, not which values are black and white: a room seen
by a thermal camera uses a few hundred of 65,536. Reduced to their high byte such pictures are one
grey, and scaled one by one they flicker. So the limits hold for a whole source:

- ``?range=MIN..MAX``: these values are black and white; values beyond are clipped.
- ``?range=auto``: the limits of the first picture, but for a thousandth at each end.
- ``?range=full``: all values that the format can hold.

Without it, grey of 9 to 14 bits has its full range: there the format states the sensor's own depth.
Grey of 16 bits, and of floating point, is refused with a message on the three choices. 8-bit grey
is scaled only where a range is given. Colour always has its full range.
"""

from __future__ import annotations

import logging
import re
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import ConfigError, FrameError
from dff_edge.frames import Image
from dff_edge.opencv import cv2
from dff_edge.uri import SourceUri

_LOG = logging.getLogger("dff_edge.runtime")
_NUMBER = r"([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_OUTSIDE = 0.001  # share of the pixels at each end that "auto" clips: dead pixels among them
_NARROW = 0.125  # of the range: a first picture that uses less is logged


class GreyRangeError(FrameError):
    """Grey values whose range has to be given."""


class GreyLevels:
    """The range of a source's grey pictures.

    Args:
        uri: its ``range`` is used; None for the default rules.

    Raises:
        ConfigError: ``range`` is invalid.
    """

    def __init__(self, uri: SourceUri | None = None) -> None:
        self._uri = uri
        self._rule = (uri.options.get("range") or "") if uri is not None else ""
        self._limits: tuple[float, float] | None = None
        self._is_told = False
        if uri is not None and "range" in uri.options:
            self._limits = _parse(uri, self._rule)

    @property
    def is_given(self) -> bool:
        """Whether the source has a ``range``."""
        return bool(self._rule)

    def to_image(self, grey: NDArray[Any], *, white: int | None = None) -> Image:
        """Return a grey picture ``(H, W)`` of any type as uint8 BGR ``(H, W, 3)``.

        Args:
            grey: 8 bits, 16 bits, or more, integer or floating point.
            white: the largest value that its format can hold, where it states that.

        Raises:
            GreyRangeError: the meaning of its values is unknown without a ``?range=``.
        """
        if grey.dtype == np.uint8 and not self._rule:
            return _as_bgr(grey)
        limits = self._limits_of(grey, white)
        if not self._is_told:
            self._is_told = True
            self._tell(grey, limits)
        return _as_bgr(_stretch(grey, *limits))

    def _limits_of(self, grey: NDArray[Any], white: int | None) -> tuple[float, float]:
        if self._limits is not None:
            return self._limits
        is_integer = np.issubdtype(grey.dtype, np.integer)
        if self._rule == "auto":
            self._limits = _limits_in(grey)
            return self._limits
        if self._rule == "full":
            if is_integer and grey.dtype.itemsize <= 2:
                info = np.iinfo(grey.dtype)
                return float(info.min), float(white or info.max)
            raise GreyRangeError(
                f"its values are {grey.dtype}, whose full range has no meaning; use "
                "?range=MIN..MAX or ?range=auto"
            )
        if white is not None:
            return 0.0, float(white)
        low, high = _limits_in(grey)
        full = ", or ?range=full for all that 16 bits hold" if is_integer else ""
        raise GreyRangeError(
            f"it is grey of {8 * grey.dtype.itemsize} bits, which do not define black and "
            f"white: most of its values lie from {low:g} to {high:g}. Use ?range={low:g}..{high:g} "
            f"or other limits, ?range=auto for those of the first picture{full}"
        )

    def _tell(self, grey: NDArray[Any], limits: tuple[float, float]) -> None:
        name = self._uri.text if self._uri is not None else "a grey picture"
        low, high = _limits_in(grey)
        if self._rule == "auto":
            _LOG.warning("%s: range=%g..%g, of the first picture, for all of them", name, *limits)
        elif self._rule in ("", "full") and high - low < _NARROW * (limits[1] - limits[0]):
            _LOG.warning(
                "%s: the first picture uses %g..%g of 0..%g, nearly one grey; ?range=auto or "
                "?range=MIN..MAX scales it",
                *(name, low, high, limits[1]),
            )


def _parse(uri: SourceUri, text: str) -> tuple[float, float] | None:
    if text in ("auto", "full"):
        return None
    limits = re.fullmatch(rf"{_NUMBER}\.\.{_NUMBER}", text, re.ASCII | re.IGNORECASE)
    if limits and float(limits[1]) < float(limits[2]):
        return float(limits[1]), float(limits[2])
    raise ConfigError(
        f"'{uri.text}': range is '{text}', expected MIN..MAX with MIN below MAX, for example "
        "range=29000..31000, or auto, or full."
    )


def _limits_in(grey: NDArray[Any]) -> tuple[float, float]:
    values = grey[np.isfinite(grey)] if np.issubdtype(grey.dtype, np.floating) else grey.ravel()
    if not values.size:
        return 0.0, 1.0
    count = values.size
    ends = (int(_OUTSIDE * count), count - 1 - int(_OUTSIDE * count))
    low, high = (float(value) for value in np.partition(values, ends)[list(ends)])
    return (low, high) if low < high else (low, low + 1.0)


def _stretch(grey: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Return values scaled to bytes, rounded; NaN is black."""
    if grey.dtype in (np.uint8, np.uint16):
        table = np.arange(np.iinfo(grey.dtype).max + 1, dtype=np.float64)
        stretched: NDArray[np.uint8] = _stretch(table, low, high)[grey]
        return stretched
    levels = np.nan_to_num((grey.astype(np.float64) - low) * (255.0 / (high - low)), nan=0.0)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _as_bgr(grey: NDArray[Any]) -> Image:
    return cast(Image, cv2.cvtColor(np.ascontiguousarray(grey), cv2.COLOR_GRAY2BGR))
