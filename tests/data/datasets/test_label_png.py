"""Numbers of label PNGs, whatever they are shown as."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from dff_edge.data.datasets.label_png import read_label_png
from dff_edge.errors import SourceError
from tests.data.datasets.layouts import png

GREY, PALETTE = 0, 3


def read(tmp_path, data):
    path = tmp_path / "labels.png"
    path.write_bytes(data)
    return read_label_png(path)


def numbers(depth, size=(5, 13)):
    return np.random.default_rng(depth).integers(0, 2 ** min(depth, 8), size)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_of_every_depth(tmp_path, depth, interlaced):
    values = numbers(depth)

    labels = read(tmp_path, png(values, depth, interlaced=interlaced))

    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, values)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_indices_of_a_palette_and_not_its_colours(tmp_path, depth, interlaced):
    values = numbers(depth)
    colours = bytes(np.random.default_rng(9).integers(0, 256, 3 * 2**depth, np.uint8))

    labels = read(tmp_path, png(values, depth, PALETTE, colours, interlaced=interlaced))

    np.testing.assert_array_equal(labels, values)


def test_a_palette_as_pillow_writes_it(tmp_path):
    """As Pascal VOC's labels are: mode P, 255 for the border of objects."""
    values = np.array([[0, 15, 255], [1, 2, 20]], np.uint8)
    indexed = Image.frombytes("P", (3, 2), values.tobytes())
    indexed.putpalette([7 * n % 256 for n in range(768)])
    file = io.BytesIO()
    indexed.save(file, "PNG", transparency=3, optimize=False)

    np.testing.assert_array_equal(read(tmp_path, file.getvalue()), values)


def test_transparency_and_gamma_change_nothing(tmp_path):
    values = numbers(4)
    extra = [(b"gAMA", struct.pack(">I", 45455)), (b"tRNS", struct.pack(">H", 3))]

    np.testing.assert_array_equal(read(tmp_path, png(values, 4, extra=extra)), values)


def test_65535_is_what_16_bits_have_for_255(tmp_path):
    assert read(tmp_path, png([[0, 65535, 254, 255]], 16)).tolist() == [[0, 255, 254, 255]]


def test_numbers_of_instances_are_refused(tmp_path):
    with pytest.raises(SourceError, match="the number 26001, expected .* of at most 254, or 255"):
        read(tmp_path, png([[7, 26001]], 16))


def test_a_name_that_is_no_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"\xe4.png")
    path.write_bytes(png([[3]], 8))

    assert read_label_png(path).tolist() == [[3]]


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (3, r"holds colours \(RGB\), expected a PNG of class numbers"),
        (4, r"holds colours with transparency \(RGBA\)"),
    ],
)
def test_colours_are_refused(tmp_path, channels, message):
    data = cv2.imencode(".png", np.zeros((3, 4, channels), np.uint8))[1].tobytes()

    with pytest.raises(SourceError, match=message):
        read(tmp_path, data)


def test_another_format_under_the_name_of_a_png_is_refused(tmp_path):
    data = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes()

    with pytest.raises(SourceError, match="is no PNG, whatever its name"):
        read(tmp_path, data)


def damaged(where, by=1):
    flipped = bytearray(png(numbers(8, (40, 50)), 8))
    flipped[where] ^= by
    return bytes(flipped)


@pytest.mark.parametrize(
    "data",
    [
        damaged(18),  # of the width
        damaged(80),  # of the pixels
        damaged(23, by=32),  # of the height: 8 for 40, which decode to something
        png(numbers(8), 8)[:-12],  # no end
        png(numbers(8, (40, 50)), 8)[:300],
        png(numbers(8), 8)[:20],
        png([[1]], 8)[:33] + png([[1]], 8)[-12:],  # no pixels
        png([[1]], 3),
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=[
        "size",
        "pixels",
        "depth",
        "no end",
        "cut",
        "no header",
        "empty",
        "odd depth",
        "signature",
    ],
)
def test_damage_is_refused(tmp_path, data):
    with pytest.raises(SourceError, match="is damaged"):
        read(tmp_path, data)


@pytest.mark.parametrize("size", [(20000, 1), (1, 20000), (2**31, 2**31), (16000, 16000)])
def test_absurd_sizes_are_refused_before_anything_is_decoded(tmp_path, size, monkeypatch):
    data = bytearray(png([[1]], 8))
    data[16:24] = struct.pack(">II", *size)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    monkeypatch.setattr(cv2, "imdecode", None)

    with pytest.raises(SourceError, match=f"a size of {size[0]} x {size[1]} pixels; at most"):
        read(tmp_path, bytes(data))


def test_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "x.png")

    with pytest.raises(SourceError, match="is a pipe, expected a PNG of class numbers"):
        read_label_png(tmp_path / "x.png")
