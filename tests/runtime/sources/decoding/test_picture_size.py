"""Sizes that headers state, against the encoders; and what must not be decoded."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dff_edge.errors import FrameError
from dff_edge.runtime.sources.decoding.picture_size import (
    MAX_PICTURE_PX,
    check_size,
    check_stated_size,
    stated_size,
)
from tests.runtime.sources.jpegs import ENCODINGS, jpeg


def encoded(size, suffix):
    return cv2.imencode(suffix, np.zeros((*size, 3), np.uint8))[1].tobytes()


def saved(size, form, mode="RGB", **options):
    out = io.BytesIO()
    Image.new(mode, size[::-1]).save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize("size", [(70, 300), (301, 50)], ids=str)
@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".jp2", ".ppm", ".gif"]
)
def test_sizes_that_opencv_writes(size, suffix):
    assert check_stated_size(encoded(size, suffix)) == size


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"lossless": False}),
        ("WEBP", {"exif": b"Exif\0\0"}),  # the extended form
        ("TIFF", {}),
        ("TIFF", {"big_tiff": True}),
        ("GIF", {}),
        ("JPEG", {"exif": b"Exif\0\0"}),
        ("JPEG2000", {}),
        ("JPEG2000", {"no_jp2": True}),
        ("BMP", {}),
        ("PPM", {"mode": "L"}),
        ("PPM", {"mode": "1"}),
    ],
    ids=str,
)
def test_sizes_that_pillow_writes(form, options):
    assert check_stated_size(saved((21, 430), form, **options)) == (21, 430)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_sizes_of_jpegs(encoding):
    assert check_stated_size(jpeg(np.zeros((33, 270, 3), np.uint8), encoding)) == (33, 270)


def test_largest_page_counts():
    out = io.BytesIO()
    pages = [Image.new("L", size) for size in ((20, 10), (300, 40), (50, 60))]
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])

    assert check_stated_size(out.getvalue()) == (40, 300)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_pictures_that_ask_for_gigabytes_are_refused():
    header = struct.pack(">IIBBBBB", 16000, 16000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    small = jpeg(np.zeros((16, 16, 3), np.uint8), "opencv 4:2:0")
    big = small.replace(b"\x00\x11\x08\x00\x10\x00\x10", b"\x00\x11\x08\x3e\x80\x3e\x80")

    for data in (png, big):
        assert stated_size(data) == (16000, 16000)
        with pytest.raises(FrameError, match="16000 x 16000 pixels; at most 16384 a side and 67"):
            check_stated_size(data)


def test_limits():
    check_size(8192, 8192)
    check_size(4096, 16384)
    assert MAX_PICTURE_PX == 8192 * 8192
    for size in [(8192, 8193), (16385, 1), (1, 16385)]:
        with pytest.raises(FrameError, match="at most"):
            check_size(*size)
    for size in [(0, 5), (5, 0), (-3, 5)]:
        with pytest.raises(FrameError, match="it states a size of"):
            check_size(*size)


def test_pages_in_circles_end():
    one = b"II*\0" + struct.pack("<I", 8)
    page = struct.pack("<HHHII", 1, 256, 4, 1, 640)

    assert stated_size(one + page + struct.pack("<I", 8)) is None
    assert stated_size(one + page + struct.pack("<I", 0)) == (0, 640)


@pytest.mark.parametrize("data", [b"", b"\xff", b"not an image", b"<svg/>", b"P9 5 5 255 "])
def test_what_is_no_image_has_no_size(data):
    assert stated_size(data) is None
    with pytest.raises(FrameError, match="damaged or not an image of a supported format"):
        check_stated_size(data)


STARTS = [encoded((5, 9), suffix)[:64] for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp")]
STARTS += [saved((5, 9), form)[:96] for form in ("GIF", "JPEG2000", "TIFF")] + [b"P5 #x\n5 9 255 "]


@given(st.sampled_from(STARTS), st.integers(0, 96), st.binary(max_size=64))
def test_any_bytes_have_a_size_or_none(start, kept, rest):
    stated_size(start[:kept] + rest)
