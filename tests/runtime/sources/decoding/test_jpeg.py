"""Damage in JPEGs is seen, and nothing is seen in good ones; against three encoders."""

import numpy as np
import pytest

from dff_edge.runtime.sources.decoding.jpeg import damage_in_jpeg
from tests.runtime.sources.jpegs import ENCODINGS, jpeg, picture, scan_of, without_tables


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_good_pictures_are_whole(encoding):
    for seed in range(6):
        for quality in (40, 75, 95, 100):
            size = [(90, 130), (64, 64), (7, 301), (1, 1)][seed % 4]
            data = jpeg(picture(seed, size), encoding, quality)
            assert damage_in_jpeg(data) is None, (seed, quality, size)
            assert damage_in_jpeg(data + b"\0\0trailing bytes of some camera") is None


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_cut_is_seen(encoding):
    data = jpeg(picture(1), encoding)
    start, end = scan_of(data)
    for at in {*range(start, end, 37), end - 1}:
        assert damage_in_jpeg(data[:at]), at
        assert damage_in_jpeg(data[:at] + b"\xff\xd9"), at  # an end mark proves nothing
    assert damage_in_jpeg(data[: start // 2])


@pytest.mark.parametrize("filler", [0x00, 0x80, 0x55], ids=hex)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_filler_in_place_of_half_a_picture_is_seen(encoding, filler):
    for seed in range(6):
        data = jpeg(picture(seed), encoding)
        start, end = scan_of(data)
        middle = (start + end) // 2
        assert damage_in_jpeg(data[:middle] + bytes([filler]) * (end - middle) + data[end:])
        assert damage_in_jpeg(data[:start] + bytes([filler]) * (middle - start) + data[middle:])


@pytest.mark.parametrize("encoding", ["opencv 4:2:0", "ffmpeg 4:2:2"])
def test_lost_bytes_are_seen_where_they_shift_the_picture(encoding, rng):
    found = tried = 0
    for seed in range(40):
        data = jpeg(picture(seed, (180, 260)), encoding)
        start, end = scan_of(data)
        at = int(rng.integers(start, end - 400))
        found += damage_in_jpeg(data[:at] + data[at + 400 :]) is not None
        tried += 1

    assert found >= 0.95 * tried


def test_tables_that_cameras_leave_out_are_known():
    data = jpeg(picture(), "opencv 4:2:0")
    bare = without_tables(data)

    assert len(bare) < len(data) - 400
    assert damage_in_jpeg(bare) is None
    start, end = scan_of(bare)
    assert damage_in_jpeg(bare[: (start + end) // 2] + bare[end:])


def test_what_is_wrong_is_said():
    data = jpeg(picture(), "opencv restarts")
    start, end = scan_of(data)
    first = data.index(b"\xff\xd0", start)

    assert "begin with JPEG's start mark" in damage_in_jpeg(bytes(64) + data[64:])
    assert "ends before the picture is complete" in damage_in_jpeg(data[: end - 5])
    assert "restart marks out of order" in damage_in_jpeg(
        data[: first + 1] + b"\xd5" + data[first + 2 :]
    )
    assert "more than the picture needs" in damage_in_jpeg(data[:end] + b"\x11" * 40 + data[end:])
    assert "lacks a table" in damage_in_jpeg(data.replace(b"\xff\xdb", b"\xff\xe5"))
    no_such_table = data.replace(b"\xff\xdb\x00C\x00", b"\xff\xdb\x00C\x09")
    assert "header is damaged" in damage_in_jpeg(no_such_table)


def test_buffers_of_all_kinds_are_taken():
    data = jpeg(picture(), "opencv 4:2:0")

    assert damage_in_jpeg(bytearray(data)) is None
    assert damage_in_jpeg(memoryview(data)) is None
    assert damage_in_jpeg(b"") == "it does not begin with JPEG's start mark"
