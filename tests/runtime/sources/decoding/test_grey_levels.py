"""Grey of more than 8 bits, as thermal cameras have it: in images and in videos."""

import logging
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from dff_edge.errors import ConfigError, FrameError, SourceError
from dff_edge.runtime.sources import open_source
from dff_edge.runtime.sources.decoding.grey_levels import GreyLevels
from dff_edge.uri import parse_source
from tests.runtime.sources.videos import read_all

# Hundredths of a kelvin: a room from 20 to 35 degrees.
ROOM = np.linspace(29315, 30815, 24 * 32).reshape(24, 32).astype(np.uint16)


def stretched(grey, low, high):
    """The definition: low is black, high is white, rounded and clipped."""
    levels = [[round(255 * (float(v) - low) / (high - low)) for v in row] for row in grey.tolist()]
    return np.clip(levels, 0, 255)


def save(path, grey):
    cv2.imwrite(str(path), grey)
    return path


def write_grey(path, pictures, name):
    """A lossless video of grey pictures."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=30)
        stream.height, stream.width = pictures[0].shape
        stream.pix_fmt = name
        for i, grey in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(grey, format=name)
            frame.pts, frame.time_base = i, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(params=["png", "tif", "pgm", "mkv"])
def thermal(request, tmp_path):
    path = tmp_path / f"a.{request.param}"
    return write_grey(path, [ROOM], "gray16le") if path.suffix == ".mkv" else save(path, ROOM)


@pytest.mark.parametrize(("low", "high"), [(29315, 30815), (29500, 30000), (0, 65535)], ids=str)
def test_range_is_applied(thermal, low, high):
    frames, _ = read_all(f"{thermal}?range={low}..{high}")

    image = frames[0].image
    assert (image == image[:, :, :1]).all()
    np.testing.assert_allclose(image[:, :, 0], stretched(ROOM, low, high), atol=1)  # ties


def test_without_a_range_16_bits_are_refused_with_the_ways_out(thermal):
    if thermal.suffix == ".pgm":  # it states its range: what the largest value is
        assert len(read_all(thermal)[0]) == 1
        return
    with pytest.raises(SourceError) as caught:
        open_source(thermal)

    for part in ("grey of 16 bits", "from 29315 to 30815", "?range=29315..30815", "?range=auto"):
        assert part in str(caught.value)
    assert "?range=full" in str(caught.value)


def test_full_range_is_that_of_16_bits(thermal):
    frames, _ = read_all(f"{thermal}?range=full")

    np.testing.assert_allclose(frames[0].image[:, :, 0], stretched(ROOM, 0, 65535), atol=1)


def test_automatic_range_is_that_of_the_first_picture_for_all(tmp_path, caplog):
    hot = ROOM.copy()
    hot[:5] = 40000
    save(tmp_path / "1.png", ROOM)
    save(tmp_path / "2.png", hot)
    video = write_grey(tmp_path / "a.mkv", [ROOM, hot], "gray16le")

    for uri in (f"{tmp_path}/*.png?range=auto", f"{video}?range=auto"):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
            frames, _ = read_all(uri)

        first, second = (frame.image[:, :, 0] for frame in frames)
        np.testing.assert_allclose(first, stretched(ROOM, 29315, 30815), atol=1)
        np.testing.assert_array_equal(second[5:], first[5:])  # it does not flicker
        assert (second[:5] == 255).all()
        assert caplog.text.count("range=29315..30815, of the first picture") == 1


def test_automatic_range_passes_dead_pixels_over(tmp_path):
    dead = np.full((100, 100), 30000, np.uint16)
    dead[50:] = 31000
    dead[0, :5], dead[1, :5] = 0, 65535
    save(tmp_path / "a.png", dead)

    frames, _ = read_all(f"{tmp_path}/a.png?range=auto")

    assert set(np.unique(frames[0].image[2:])) == {0, 255}


@pytest.mark.parametrize(("name", "bits"), [("gray10le", 10), ("gray12le", 12), ("gray14le", 14)])
def test_depths_that_a_format_states_have_their_full_range(tmp_path, name, bits):
    ramp = np.linspace(0, 2**bits - 1, 24 * 32).reshape(24, 32).astype(np.uint16)
    path = write_grey(tmp_path / "a.mkv", [ramp], name)

    frames, _ = read_all(path)

    expected = stretched(ramp, 0, 2**bits - 1)
    np.testing.assert_allclose(frames[0].image[:, :, 0], expected, atol=1)


def test_pgm_states_its_white(tmp_path):
    header = b"P5 # a comment\n2 1\n4095\n"
    (tmp_path / "a.pgm").write_bytes(header + np.array([4095, 2048], ">u2").tobytes())

    frames, _ = read_all(tmp_path / "a.pgm")

    assert frames[0].image[0, :, 0].tolist() == [255, 128]


def test_picture_of_nearly_one_grey_is_told(tmp_path, caplog):
    path = write_grey(tmp_path / "a.mkv", [(ROOM - 29315) // 8 + 900] * 3, "gray12le")

    with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
        read_all(path)

    assert caplog.text.count("uses 900..1087 of 0..4095, nearly one grey; ?range=auto") == 1


def test_floating_point_takes_a_range(tmp_path):
    celsius = np.linspace(-20, 40, 64, dtype=np.float32).reshape(8, 8)
    celsius[0, 0] = np.nan
    path = save(tmp_path / "a.tif", celsius)

    frames, _ = read_all(f"{path}?range=-20..40")

    expected = stretched(np.nan_to_num(celsius, nan=-20), -20, 40)
    np.testing.assert_allclose(frames[0].image[:, :, 0], expected, atol=1)
    with pytest.raises(SourceError, match=r"grey of 32 bits.*lie from -19\.\d+ to 40"):
        open_source(path)
    with pytest.raises(SourceError, match="whose full range has no meaning"):
        open_source(f"{path}?range=full")


def test_8_bits_are_stretched_only_where_it_is_asked_for(tmp_path):
    grey = np.array([[50, 60, 70]], np.uint8)
    path = save(tmp_path / "a.png", grey)

    assert read_all(path)[0][0].image[0, :, 0].tolist() == [50, 60, 70]
    assert read_all(f"{path}?range=50..70")[0][0].image[0, :, 0].tolist() == [0, 128, 255]


def test_colour_is_left_alone(tmp_path):
    colour = np.full((4, 5, 3), (10, 20, 30), np.uint8)
    path = save(tmp_path / "a.png", colour)

    np.testing.assert_array_equal(read_all(f"{path}?range=0..30")[0][0].image, colour)


@pytest.mark.parametrize(
    "text", ["", "5", "5..", "7..7", "9..3", "a..b", "0-9", "nan..3", "min..max"]
)
def test_other_ranges_are_refused(text):
    with pytest.raises(ConfigError, match="range is '.*', expected MIN..MAX with MIN below MAX"):
        GreyLevels(parse_source(f"a.png?range={text}"))


def test_even_pictures_have_an_automatic_range():
    levels = GreyLevels(parse_source("a.png?range=auto"))

    assert not levels.to_image(np.full((3, 4), 30000, np.uint16)).any()
    assert levels.to_image(np.full((3, 4), 30001, np.uint16)).all()
    with pytest.raises(FrameError):
        GreyLevels().to_image(np.full((3, 4), np.nan, np.float32))
