"""Video files that tests write, and how they read them."""

from fractions import Fraction

import av
import numpy as np

from dff_edge.runtime.sources import open_source


def write_video(
    path,
    images,
    *,
    codec="libx264",
    pix_fmt="yuv420p",
    container=None,
    fps=30,
    pts=None,
    time_base=None,
    options=None,
    movflags="",
):
    """Write images as a video; ``pts`` in ``time_base`` or one a period."""
    muxer_options = {"movflags": movflags} if movflags else {}
    with av.open(str(path), "w", format=container, options=muxer_options) as out:
        stream = out.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        time_base = time_base or Fraction(1, fps)
        stream.codec_context.time_base = time_base
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts = i if pts is None else pts[i]
            frame.time_base = time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def scene(count, size=(48, 64), seed=0):
    """A texture that moves by a pixel a frame, with a camera's noise.

    Pictures are predicted from each other, and take enough data for damage to be noticed.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (size[0] // 4 + count // 24 + 2, (size[1] + count) // 4 + 2, 3))
    canvas = np.kron(coarse.astype(np.uint8), np.ones((4, 4, 1), np.uint8))
    images = []
    for i in range(count):
        image = canvas[i // 6 : i // 6 + size[0], i : i + size[1]] + rng.normal(0, 12, (*size, 3))
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return images


def shades(count, size=(48, 64), first=40, step=20):
    """Flat grey frames that tell their number."""
    return [np.full((*size, 3), first + step * i, np.uint8) for i in range(count)]


def noise(rng, count, size=(48, 64)):
    """Frames that take about as many bytes each."""
    return [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


def read_all(path):
    with open_source(path) as source:
        frames = list(source)
        return frames, source


def number_of(frame, first=40, step=20):
    return round((float(frame.image.mean()) - first) / step)
