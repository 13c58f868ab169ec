"""Interlaced video: half the lines of a picture are from a moment later."""

import logging
from fractions import Fraction

import av
import numpy as np
import pytest

from dff_edge.errors import ConfigError
from dff_edge.runtime.sources import open_source
from tests.runtime.sources.videos import read_all, write_video

SIZE = (64, 96)
STEP_PX = 4  # of the bar, from one field to the next


def bar(field):
    """A bright bar that moves, at the time of a field."""
    image = np.full((*SIZE, 3), 30, np.uint8)
    image[:, 10 + STEP_PX * field : 26 + STEP_PX * field] = 220
    return image


def woven(frame):
    """Two fields, the lower one first, as the stream says."""
    image = bar(2 * frame)
    image[::2] = bar(2 * frame + 1)[::2]
    return image


def write_interlaced(path, count=8):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"x264-params": "bff=1", "qp": "8"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv444p"
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(woven(i), format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def combing(image):
    """How much lines differ from the mean of the lines around them."""
    grey = image[:, :, 1].astype(int)
    return float(np.abs(2 * grey[1:-1] - grey[:-2] - grey[2:]).mean())


def test_marked_video_is_deinterlaced_and_told(tmp_path, caplog):
    path = write_interlaced(tmp_path / "a.mp4")

    with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
        frames, source = read_all(path)

    assert len(frames) == 8
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.stamp_s for frame in frames] == pytest.approx([i / 25 for i in range(8)])
    assert caplog.text.count("is interlaced, and is deinterlaced; ?deinterlace=off") == 1
    for i, frame in enumerate(frames[1:-1], 1):  # those with neighbours
        assert combing(frame.image) < 0.1 * combing(woven(i))
        # One picture a frame, at the time of its first field.
        errors = [
            np.abs(frame.image.astype(int) - bar(field)).mean() for field in (2 * i, 2 * i + 1)
        ]
        assert errors[0] < 4 < errors[1]
    assert source.counts.failed == 0


def test_fields_are_left_where_it_is_asked_for(tmp_path, caplog):
    frames, _ = read_all(f"{write_interlaced(tmp_path / 'a.mp4')}?deinterlace=off")

    for i, frame in enumerate(frames):
        assert combing(frame.image) > 0.8 * combing(woven(i))
    assert not caplog.text


def test_unmarked_video_is_deinterlaced_where_it_is_asked_for(tmp_path):
    path = write_video(
        tmp_path / "a.mp4",
        [woven(i) for i in range(6)],
        pix_fmt="yuv444p",
        options={"qp": "8"},
    )

    as_it_is, _ = read_all(path)
    deinterlaced, _ = read_all(f"{path}?deinterlace=on")

    assert len(deinterlaced) == 6
    for i in range(6):
        assert combing(as_it_is[i].image) > 0.8 * combing(woven(i))
        assert combing(deinterlaced[i].image) < 0.2 * combing(woven(i))


def test_progressive_video_is_left_to_the_bit(tmp_path):
    path = write_video(tmp_path / "a.mp4", [bar(i) for i in range(6)])

    plain, _ = read_all(f"{path}?deinterlace=off")
    auto, _ = read_all(path)

    for a, b in zip(plain, auto, strict=True):
        np.testing.assert_array_equal(a.image, b.image)


def test_size_may_change_while_fields_are_waited_for(tmp_path):
    parts = []
    for number, size in enumerate([(64, 96), (48, 64)]):
        images = [np.full((*size, 3), 100, np.uint8)] * 5
        path = write_video(tmp_path / f"{number}.ts", images, container="mpegts")
        parts.append(path.read_bytes())
    (tmp_path / "a.ts").write_bytes(b"".join(parts))

    frames, _ = read_all(f"{tmp_path}/a.ts?deinterlace=on")

    assert [frame.image.shape[:2] for frame in frames] == [(64, 96)] * 5 + [(48, 64)] * 5
    assert [frame.index for frame in frames] == list(range(10))


def test_other_words_are_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", [bar(0)])

    with pytest.raises(ConfigError, match="deinterlace is 'yes', expected auto .* on or off"):
        open_source(f"{path}?deinterlace=yes")
