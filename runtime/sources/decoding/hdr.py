"""HDR and wide colours, converted to the range of ordinary cameras and training data.

The rule: reference white is white. It is 203 cd/m2 of PQ and 75% of HLG (ITU-R BT.2408); brighter
values are clipped, as by a camera without HDR. Light is computed from the signal (SMPTE
ST 2084; BT.2100 for HLG, on a display of 1000 cd/m2), converted from BT.2020's primaries to
BT.709's (BT.2407), and encoded for a display of BT.1886. Colours that BT.709 lacks are clipped.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dff_edge.frames import Image
from dff_edge.opencv import cv2

PQ, HLG = 16, 18  # transfer characteristics, ITU-T H.273
BT2020 = 9  # colour primaries, likewise

_REFERENCE_WHITE = 203.0  # cd/m2
_DISPLAY_GAMMA = 2.4  # BT.1886
_LUMINANCE = (0.2627, 0.6780, 0.0593)  # of BT.2020's red, green and blue
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)


def is_hdr(transfer: int, primaries: int) -> bool:
    """Return whether pictures of these numbers (ITU-T H.273) are to be converted."""
    return transfer in (PQ, HLG) or primaries == BT2020


def to_standard(signal: NDArray[np.uint16], transfer: int, primaries: int) -> Image:
    """Return a picture of BT.709 as uint8 BGR ``(H, W, 3)``.

    Args:
        signal: uint16 ``(H, W, 3)`` RGB, its full range.
        transfer: number of its transfer characteristics; PQ, HLG, or else treated as BT.1886's.
        primaries: number of its colour primaries; BT.2020, or else treated as BT.709's.
    """
    light: NDArray[Any] = _light_table(transfer)[signal]
    if transfer == HLG:  # the display's contrast grows with the brightness of the scene
        luminance = cv2.transform(light, np.array([_LUMINANCE], np.float32))
        light *= cv2.pow(luminance, 0.2)[:, :, None] * np.float32(1000 / _REFERENCE_WHITE)
    if primaries == BT2020:
        light = cv2.transform(light, _TO_BT709)
    np.clip(light, 0, 1, out=light)
    encoded = cv2.pow(light, 1 / _DISPLAY_GAMMA)
    return cast(Image, cv2.convertScaleAbs(encoded[:, :, ::-1], alpha=255))


@cache
def _light_table(transfer: int) -> NDArray[np.float32]:
    """Return light by signal: 1 is reference white, for HLG the largest light of the scene."""
    signal = np.arange(65536) / 65535
    if transfer == PQ:
        root = signal ** (1 / 78.84375)
        light = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
        return np.asarray(10000 / _REFERENCE_WHITE * light ** (1 / 0.1593017578125), np.float32)
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        return light.astype(np.float32)
    return np.asarray(signal**_DISPLAY_GAMMA, np.float32)
