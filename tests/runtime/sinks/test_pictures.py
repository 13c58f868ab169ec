"""Annotated frames as files, read back."""

import os

import cv2
import numpy as np
import pytest

from dff_edge.errors import SinkError
from dff_edge.frames import Frame, Result
from dff_edge.runtime.drawing.overlay import draw_overlay
from dff_edge.runtime.sinks import Style, open_sink

CLASSES = ("road", "sky", "pole")
COLOURS = ((128, 64, 128), (70, 130, 180), (250, 170, 30))
JPEG_ATOL = 3  # of 255, mean: lossy coding


def result(index):
    image = np.full((120, 160, 3), 100, np.uint8)
    labels = np.zeros((120, 160), np.uint8)
    labels[:, 80:] = 1
    return Result(Frame(image, index, index / 30), labels, index, 0.01, {})


def expected(index, **options):
    item = result(index)
    options = {"legend": CLASSES, **options}
    caption = f"frame {index}, key frame"
    return draw_overlay(item.frame.image, item.labels, COLOURS, caption=caption, **options)


def sink_to(uri, **options):
    return open_sink(str(uri), classes=CLASSES, colours=COLOURS, fps=30, **options)


@pytest.mark.parametrize(("suffix", "atol"), [(".png", 0), (".jpg", JPEG_ATOL)])
def test_each_frame_is_a_picture(tmp_path, suffix, atol):
    with sink_to(tmp_path / "frames" / f"%06d{suffix}") as sink:
        for index in (0, 3):
            sink.write(result(index))
        assert sink.place == tmp_path / "frames"

    assert sorted(os.listdir(tmp_path / "frames")) == [f"000000{suffix}", f"000003{suffix}"]
    got = cv2.imread(str(tmp_path / "frames" / f"000003{suffix}"))
    assert np.abs(got.astype(int) - expected(3)).mean() <= atol


def test_style_is_kept(tmp_path):
    style = Style(legend=False, opacity=0.9, shown=frozenset([1]))
    with sink_to(tmp_path / "out.png", style=style) as sink:
        sink.write(result(0))
    got = cv2.imread(str(tmp_path / "out.png"))
    np.testing.assert_array_equal(got, expected(0, legend=None, alpha=0.9, shown=[1]))
    np.testing.assert_array_equal(got[60, 20], [100, 100, 100])  # a class that is not drawn


def test_one_picture_replaces_an_old_one_when_it_is_there(tmp_path):
    (tmp_path / "out.png").write_bytes(b"old")
    sink = sink_to(tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == b"old"
    sink.write(result(0))
    sink.close()
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out.png")), expected(0))
    assert os.listdir(tmp_path) == ["out.png"]


def test_second_frame_is_refused_with_what_to_say(tmp_path):
    sink = sink_to(tmp_path / "out.png")
    sink.write(result(0))
    with pytest.raises(SinkError, match=r"is one picture.*Write a picture of each: out-%06d\.png"):
        sink.write(result(1))
    sink.close()
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out.png")), expected(0))


def test_source_is_not_written_over(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(SinkError, match="is the source itself"):
        sink_to(tmp_path / "a.png", source=str(tmp_path / "a.png"))
