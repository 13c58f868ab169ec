"""JPEGs of three encoders in all the ways they have, and damage to them."""

import io
from fractions import Fraction

import av
import cv2
import numpy as np
from PIL import Image

ENCODINGS = (
    "opencv 4:2:0",
    "opencv 4:2:2",
    "opencv 4:4:4",
    "opencv 4:4:0",
    "opencv grey",
    "opencv restarts",
    "opencv progressive",
    "opencv optimised restarts",
    "pillow progressive 4:2:0",
    "pillow progressive grey",
    "pillow optimised 4:4:4",
    "pillow progressive CMYK",
    "ffmpeg 4:2:0",
    "ffmpeg 4:2:2",
    "ffmpeg 4:4:4",
    "ffmpeg slices",
)
_SAMPLING = {"4:2:0": 0x221111, "4:2:2": 0x211111, "4:4:4": 0x111111, "4:4:0": 0x121111}


def picture(seed=0, size=(90, 130)):
    """Smooth shapes, flat parts and a noisy strip, as pictures have them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    image[: size[0] // 3, : size[1] // 3] = 255 * (seed % 2)
    strip = image[size[0] // 2 : size[0] // 2 + 16]
    strip += rng.integers(0, 64, strip.shape, np.uint8)
    return image


def jpeg(image, encoding, quality=85):
    """Encode an image in one of ``ENCODINGS``."""
    encoder, _, way = encoding.partition(" ")
    return {"opencv": _opencv, "pillow": _pillow, "ffmpeg": _ffmpeg}[encoder](image, way, quality)


def scan_of(data):
    """First and last byte of the entropy-coded data of the first scan."""
    at = 2
    while True:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        at += 2 + length
        if marker == 0xDA:
            return at, data.rindex(b"\xff\xd9")


def without_tables(data):
    """The same without its Huffman tables, as MJPEG cameras send it."""
    at = 2
    while data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xC4:
            data = data[:at] + data[at + 2 + length :]
        else:
            at += 2 + length
    return data


def _opencv(image, way, quality):
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if way in _SAMPLING:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _SAMPLING[way]]
    if "restarts" in way:
        options += [cv2.IMWRITE_JPEG_RST_INTERVAL, 3]
    if "progressive" in way:
        options += [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    if "optimised" in way:
        options += [cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    if way == "grey":
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return cv2.imencode(".jpg", image, options)[1].tobytes()


def _pillow(image, way, quality):
    out = io.BytesIO()
    mode = {"grey": "L", "CMYK": "CMYK"}.get(way.split()[-1], "RGB")
    Image.fromarray(image[:, :, ::-1]).convert(mode).save(
        out,
        "JPEG",
        quality=quality,
        progressive="progressive" in way,
        optimize="optimised" in way,
        subsampling={"4:2:0": 2, "4:4:4": 0}.get(way.split()[-1], -1),
    )
    return out.getvalue()


def _ffmpeg(image, way, quality):
    codec = av.CodecContext.create("mjpeg", "w")
    codec.height, codec.width = image.shape[:2]
    codec.pix_fmt = {"4:2:2": "yuvj422p", "4:4:4": "yuvj444p"}.get(way, "yuvj420p")
    codec.time_base = Fraction(1, 25)
    codec.options = {"global_quality": str(118 * (100 - quality) // 5)}
    if way == "slices":  # each begins with a restart marker
        codec.thread_count, codec.thread_type = 3, "SLICE"
    frame = av.VideoFrame.from_ndarray(image, format="bgr24")
    frame.pts, frame.time_base = 0, codec.time_base
    packets = codec.encode(frame.reformat(format=codec.pix_fmt)) + codec.encode(None)
    return b"".join(bytes(packet) for packet in packets)
