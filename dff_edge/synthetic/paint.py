"""Textures of the synthetic scenes: background strips and objects, as premultiplied BGRA.

Colours overlap between classes on purpose; classes differ in texture, shape and place.
All sizes are in pixels of a 256 px high frame, times ``unit``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dff_edge.opencv import cv2

Bgra = NDArray[np.uint8]  # (h, w, 4), colour already multiplied by alpha
Colour = NDArray[np.float64]  # (3,) BGR 0..255


def noise(
    rng: np.random.Generator, height: int, width: int, cells: tuple[tuple[int, int, float], ...]
) -> NDArray[np.float32]:
    """Draw smooth noise, float32 ``(height, width)``, about zero.

    Args:
        rng: source of the noise.
        height: of the image, px.
        width: of the image, px.
        cells: for each octave its cell height and width in px and its amplitude.
    """
    total = np.zeros((height, width), np.float32)
    for cell_h, cell_w, amplitude in cells:
        grid = rng.uniform(-amplitude, amplitude, (height // cell_h + 2, width // cell_w + 2))
        total += cv2.resize(
            grid.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR
        )
    return total


def tinted(base: Colour, pattern: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a float image ``(h, w, 3)``: the colour, lightened and darkened by the pattern."""
    return np.asarray(base, np.float32) + pattern[..., None]


def with_alpha(image: NDArray[np.float32], alpha: NDArray[np.uint8] | None = None) -> Bgra:
    """Return premultiplied BGRA of BGR ``(h, w, 3)``, 0..255; opaque without ``alpha (h, w)``."""
    bgr = np.clip(image, 0, 255).astype(np.uint8)
    if alpha is None:
        alpha = np.full(bgr.shape[:2], 255, np.uint8)
    else:
        bgr = np.asarray(cv2.multiply(bgr, cv2.merge([alpha] * 3), scale=1 / 255), np.uint8)
    return np.dstack([bgr, alpha])


def grey_colour(rng: np.random.Generator, low: float, high: float, spread: float) -> Colour:
    """Return a random colour of some brightness and little saturation."""
    return rng.uniform(low, high) + rng.uniform(-spread, spread, 3)


def vivid_colour(rng: np.random.Generator) -> Colour:
    """Return a random colour of any saturation."""
    hsv = np.array([[[rng.integers(180), rng.integers(40, 256), rng.integers(60, 240)]]], np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0], np.float64)


def sky(rng: np.random.Generator, height: int, width: int) -> Bgra:
    """Paint a gradient with soft clouds."""
    top = np.array([rng.uniform(150, 240), rng.uniform(110, 190), rng.uniform(70, 170)])
    bottom = top + rng.uniform(0, 60)
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    image = top.astype(np.float32) * (1 - ramp) + bottom.astype(np.float32) * ramp
    clouds = noise(rng, height, width, ((24, 60, 22.0), (9, 20, 9.0)))
    return with_alpha(image + clouds[..., None])


def skyline(rng: np.random.Generator, height: int, width: int, base: int, unit: float) -> Bgra:
    """Paint buildings with windows, standing on row ``base``; transparent above them."""
    image = np.zeros((height, width, 3), np.float32)
    alpha = np.zeros((height, width), np.uint8)
    x = -int(rng.integers(0, 60) * unit)
    while x < width:
        w = int(rng.uniform(50, 130) * unit)
        top = int(base - rng.uniform(45, 125) * unit)
        colour = rng.uniform(60, 200) + rng.uniform(-35, 35, 3)
        image[max(top, 0) : base, max(x, 0) : x + w] = colour
        alpha[max(top, 0) : base, max(x, 0) : x + w] = 255
        glass = colour * rng.uniform(0.35, 0.7) if rng.random() < 0.8 else colour * 1.3
        step_x, step_y = int(rng.uniform(11, 20) * unit), int(rng.uniform(13, 24) * unit)
        win_w, win_h = int(step_x * rng.uniform(0.4, 0.7)), int(step_y * rng.uniform(0.4, 0.7))
        for wy in range(top + step_y // 3, base - win_h, step_y):
            for wx in range(x + step_x // 3, x + w - win_w, step_x):
                if wx >= 0 and wy >= 0:
                    image[wy : wy + win_h, wx : wx + win_w] = glass
        x += w + (int(rng.uniform(0, 30) * unit) if rng.random() < 0.35 else 0)
    image += noise(rng, height, width, ((40, 40, 10.0), (3, 3, 7.0)))[..., None]
    return with_alpha(image, alpha)


def pavement(rng: np.random.Generator, height: int, width: int, unit: float) -> Bgra:
    """Paint slabs with joints."""
    image = tinted(
        grey_colour(rng, 120, 190, 12), noise(rng, height, width, ((6, 14, 10.0), (2, 2, 9.0)))
    )
    step = max(int(rng.uniform(16, 30) * unit), 4)
    image[:, rng.integers(step) :: step] -= 35
    image[:: max(step // 2, 3)] -= 25
    return with_alpha(image)


def road(rng: np.random.Generator, height: int, width: int, unit: float) -> Bgra:
    """Paint asphalt with dashes, patches and cracks."""
    base = grey_colour(rng, 60, 125, 8)
    image = tinted(base, noise(rng, height, width, ((14, 60, 9.0), (4, 9, 6.0), (2, 2, 8.0))))
    dash, gap = int(rng.uniform(40, 70) * unit), int(rng.uniform(40, 80) * unit)
    thick = max(int(4 * unit), 1)
    for lane in (0.3, 0.66):
        y = int(height * (lane + rng.uniform(-0.08, 0.08)))
        for x in range(int(rng.integers(dash)), width, dash + gap):
            image[y : y + thick, x : x + dash] = rng.uniform(180, 235)
    for _ in range(int(width / (70 * unit))):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.uniform(6, 30) * unit), int(rng.uniform(2, 7) * unit))
        shade = np.clip(base + rng.uniform(-30, 25), 0, 255)
        cv2.ellipse(image, centre, axes, 0, 0, 360, shade.tolist(), -1, cv2.LINE_AA)
    return with_alpha(image)


def vehicle(rng: np.random.Generator, unit: float) -> Bgra:
    """Paint a car, van or bus from the side, wheels on the last row."""
    kind = rng.choice(["car", "van", "bus"], p=[0.6, 0.25, 0.15])
    long = {"car": 104, "van": 112, "bus": 180}[kind] * rng.uniform(0.9, 1.15) * unit
    high = {"car": 43, "van": 60, "bus": 72}[kind] * rng.uniform(0.9, 1.1) * unit
    w, h = int(long), int(high)
    colour = vivid_colour(rng) if rng.random() < 0.7 else grey_colour(rng, 30, 235, 10)
    alpha = np.zeros((h, w), np.uint8)
    waist, sill = int(h * 0.45), int(h * 0.86)
    if kind == "car":
        front, back = rng.uniform(0.14, 0.24), rng.uniform(0.74, 0.9)
        cabin = [(front, waist), (front + 0.14, 1), (back - 0.12, 1), (back, waist)]
    else:
        cabin = [(0.02, waist), (0.05, 1), (0.97, 1), (0.99, waist)]
    cabin_px = np.array([(int(x * w), y) for x, y in cabin], np.int32)
    cv2.fillPoly(alpha, [cabin_px], 255, cv2.LINE_AA)
    cv2.rectangle(alpha, (1, waist - 1), (w - 2, sill), 255, -1)
    image = tinted(colour, noise(rng, h, w, ((h, w, 6.0), (3, 3, 5.0))))
    image[int(h * 0.68) : int(h * 0.72)] -= 30
    window = np.array([45, 40, 35]) + rng.uniform(0, 60)
    inner = cabin_px.copy()
    inner[:, 1] = np.clip(inner[:, 1], int(h * 0.1), int(h * 0.42))
    cv2.fillPoly(image, [inner], window.tolist(), cv2.LINE_AA)
    for post in np.linspace(0.3, 0.75, 2 if kind == "car" else 5):
        image[: int(h * 0.42), int(post * w) : int(post * w) + max(int(3 * unit), 1)] = colour
    radius = max(int(h * (0.2 if kind == "car" else 0.16)), 2)
    for x in (0.2, 0.8):
        hub = (int(x * w), h - radius - 1)
        cv2.circle(alpha, hub, radius, 255, -1, cv2.LINE_AA)
        cv2.circle(image, hub, radius, (25, 25, 25), -1, cv2.LINE_AA)
        cv2.circle(image, hub, max(radius // 2, 1), (150, 150, 150), -1, cv2.LINE_AA)
    return with_alpha(image, alpha)


def pedestrian(rng: np.random.Generator, unit: float) -> Bgra:
    """Paint a person, feet on the last row."""
    h = int(rng.uniform(68, 92) * unit)
    w = int(h * rng.uniform(0.40, 0.50))
    alpha = np.zeros((h, w), np.uint8)
    coat, legs = vivid_colour(rng), grey_colour(rng, 20, 130, 20)
    skin = np.array([110, 140, 190]) + rng.uniform(-70, 40)
    image = np.empty((h, w, 3), np.float32)
    image[: int(h * 0.17)], image[int(h * 0.17) : int(h * 0.55)] = skin, coat
    image[int(h * 0.55) :] = legs
    image += noise(rng, h, w, ((3, 3, 12.0),))[..., None]
    middle = w // 2
    cv2.circle(alpha, (middle, int(h * 0.09)), max(int(h * 0.08), 1), 255, -1, cv2.LINE_AA)
    belly, axes = (middle, int(h * 0.37)), (int(w * 0.38), int(h * 0.23))
    cv2.ellipse(alpha, belly, axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
    thick = max(int(w * 0.22), 2)
    for foot in (0.24, 0.76):
        hip, toe = (middle, int(h * 0.52)), (int(w * foot), h - 2)
        cv2.line(alpha, hip, toe, 255, thick, cv2.LINE_AA)
    return with_alpha(image, alpha)


def pole(rng: np.random.Generator, unit: float) -> Bgra:
    """Paint a thin post with a lamp or a plate, foot on the last row."""
    h = int(rng.uniform(110, 165) * unit)
    thick = max(int(round(rng.uniform(8.0, 12.0) * unit)), 2)
    w = int(46 * unit)
    alpha = np.zeros((h, w), np.uint8)
    left = w // 2 - thick // 2
    alpha[:, left : left + thick] = 255
    image = tinted(grey_colour(rng, 60, 170, 10), noise(rng, h, w, ((4, 2, 12.0),)))
    if rng.random() < 0.5:
        arm = max(int(9 * unit), 2)
        alpha[1 : 1 + arm, 2 : w - 2] = 255
    else:
        side, top = int(rng.uniform(28, 40) * unit), int(rng.uniform(2, 8) * unit)
        x = (w - side) // 2
        alpha[top : top + side, x : x + side] = 255
        image[top : top + side, x : x + side] = vivid_colour(rng)
        rim = max(int(3 * unit), 1)
        image[top + rim : top + side - rim, x + rim : x + side - rim] = rng.uniform(60, 240, 3)
    return with_alpha(image, alpha)


def tree(rng: np.random.Generator, unit: float) -> Bgra:
    """Paint a trunk under a crown of blobs, foot on the last row."""
    h = int(rng.uniform(100, 150) * unit)
    w = int(h * rng.uniform(0.6, 0.85))
    alpha = np.zeros((h, w), np.uint8)
    leaf = np.array([rng.uniform(25, 75), rng.uniform(75, 140), rng.uniform(40, 110)])
    image = tinted(leaf, noise(rng, h, w, ((7, 7, 26.0), (2, 2, 26.0))))
    trunk = max(int(w * 0.09), 2)
    left = w // 2 - trunk // 2
    alpha[h // 2 :, left : left + trunk] = 255
    bark = np.array([50, 70, 95]) * rng.uniform(0.6, 1.2)
    image[int(h * 0.66) :, left : left + trunk] = bark
    for _ in range(14):
        centre = (int(w * rng.uniform(0.25, 0.75)), int(h * rng.uniform(0.2, 0.55)))
        cv2.circle(alpha, centre, int(w * rng.uniform(0.14, 0.24)), 255, -1, cv2.LINE_AA)
    return with_alpha(image, alpha)
