"""Camera effects on a synthetic scene: changing light, vignetting, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dff_edge.opencv import cv2
from dff_edge.synthetic.motion import Oscillation, oscillation

_EXPOSURE = 0.35  # share of the frame time that the shutter is open


@dataclass(frozen=True)
class Effects:
    """The photometric side of a scene, one draw for all its frames."""

    gain: Oscillation  # relative brightness
    casts: tuple[Oscillation, Oscillation, Oscillation]  # relative, B, G, R
    vignette: NDArray[np.uint8]  # (H, W, 3), 255 = unchanged
    defocus_px: float
    is_motion_blurred: bool
    noise_level: float
    noise_seed: int

    def apply(self, clean: NDArray[np.uint8], index: int, pan_px: float) -> NDArray[np.uint8]:
        """Return the frame as the camera records it, a new array.

        Args:
            clean: uint8 ``(H, W, 3)``, as drawn.
            index: frame number.
            pan_px: speed of the pan in px per frame, for motion blur.
        """
        image: cv2.typing.MatLike = clean
        if self.defocus_px > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), self.defocus_px)
        streak = round(abs(pan_px) * _EXPOSURE)
        if self.is_motion_blurred and streak > 1:
            image = cv2.blur(image, (streak, 1))
        image = cv2.multiply(image, self.vignette, scale=1 / 255)
        gain = 1.0 + self.gain.at(index)
        factors = [gain * (1.0 + cast.at(index)) for cast in self.casts]
        ramps = [np.clip(np.arange(256) * factor, 0, 255) for factor in factors]
        image = cv2.LUT(image, np.stack(ramps, axis=-1).astype(np.uint8)[None])
        rng = np.random.default_rng([self.noise_seed, index])
        height, width = image.shape[:2]
        tile = _noise_tile(height + 64, width + 64)
        y, x = rng.integers(0, 64, 2)
        grain = tile[y : y + height, x : x + width]
        noisy = cv2.addWeighted(
            image, 1.0, grain, self.noise_level, -128.0 * self.noise_level, dtype=cv2.CV_8U
        )
        return np.asarray(noisy, np.uint8)


def draw_effects(rng: np.random.Generator, size: tuple[int, int]) -> Effects:
    """Draw the light, lens and sensor of a scene."""
    height, width = size
    ys, xs = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    falloff = 255 * (1 - rng.uniform(0.0, 0.25) * (xs**2 + ys**2) / 2)
    return Effects(
        gain=oscillation(rng, amplitude=rng.uniform(0.0, 0.3), speed=0.02),
        casts=(
            oscillation(rng, amplitude=0.06, speed=0.004),
            oscillation(rng, amplitude=0.06, speed=0.004),
            oscillation(rng, amplitude=0.06, speed=0.004),
        ),
        vignette=np.repeat(falloff[..., None], 3, axis=-1).astype(np.uint8),
        defocus_px=float(rng.uniform(0.0, 0.9)) * height / 256,
        is_motion_blurred=bool(rng.random() < 0.5),
        noise_level=float(rng.uniform(0.1, 0.5)),
        noise_seed=int(rng.integers(2**31)),
    )


@lru_cache(maxsize=4)
def _noise_tile(height: int, width: int) -> NDArray[np.uint8]:
    """Return grain about 128 with a deviation of 16, the same in every process."""
    grain = np.random.default_rng(0).normal(128, 16, (height, width, 3))
    return np.clip(grain, 0, 255).astype(np.uint8)
