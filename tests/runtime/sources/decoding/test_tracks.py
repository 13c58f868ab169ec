"""Choice of the video track, and the shape of its pixels."""

import logging
from fractions import Fraction
from types import SimpleNamespace
from typing import NamedTuple

import av
import numpy as np
import pytest
from av.stream import Disposition

from dff_edge.errors import SourceError
from dff_edge.runtime.sources import open_source
from dff_edge.runtime.sources.decoding.pictures import square_size
from dff_edge.runtime.sources.decoding.tracks import pick_track
from tests.runtime.sources.videos import number_of, read_all, shades


def write_tracks(path, tracks, container=None):
    """Write video tracks ``(codec, pix_fmt, images)`` side by side."""
    with av.open(str(path), "w", format=container) as out:
        streams = []
        for codec, pix_fmt, images in tracks:
            stream = out.add_stream(codec, rate=30)
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = pix_fmt
            streams.append(stream)
        for stream, (_, _, images) in zip(streams, tracks, strict=True):
            for i, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                frame.pts, frame.time_base = i, Fraction(1, 30)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path


PREVIEW = ("mjpeg", "yuvj420p", shades(1, (16, 24), first=200))
MAIN = ("libx264", "yuv420p", shades(6, (48, 64)))


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska"])
def test_largest_track_is_taken_and_told(tmp_path, container, caplog):
    path = write_tracks(tmp_path / "a.bin", [PREVIEW, MAIN], container)

    with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
        frames, source = read_all(path)

    assert (source.size, [number_of(frame) for frame in frames]) == ((48, 64), list(range(6)))
    assert "has 2 video tracks, 0: 24x16 mjpeg" in caplog.text
    assert "1: 64x48 h264" in caplog.text
    assert "using 1, the largest. ?track=N selects another" in caplog.text


def test_track_is_chosen(tmp_path, caplog):
    path = write_tracks(tmp_path / "a.mp4", [PREVIEW, MAIN])

    with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
        preview, source = read_all(f"{path}?track=0")
        main, _ = read_all(f"{path}?track=1")

    assert (len(preview), source.size, len(main)) == (1, (16, 24), 6)
    assert not caplog.text


def test_of_tracks_alike_the_first_is_taken(tmp_path):
    path = write_tracks(tmp_path / "a.mp4", [MAIN, ("libx264", "yuv420p", shades(3))])

    assert len(read_all(path)[0]) == 6


def test_track_that_is_not_there_is_refused(tmp_path):
    path = write_tracks(tmp_path / "a.mp4", [PREVIEW, MAIN])

    with pytest.raises(SourceError, match=r"no video track 2, it has 2: 0: 24x16 .*1: 64x48 h264"):
        open_source(f"{path}?track=2")


class Stream(NamedTuple):
    """A stream of a container, as far as it is asked for."""

    name: str
    size: tuple[int, int] | None
    disposition: int = 0
    frames: int = 0
    type: str = "video"

    @property
    def codec_context(self):
        if self.size is None:
            return None
        return SimpleNamespace(height=self.size[0], width=self.size[1], name="h264")


def container_of(*streams):
    return SimpleNamespace(streams=Streams(streams))


class Streams(tuple):
    @property
    def video(self):
        return [stream for stream in self if stream.type == "video"]


@pytest.mark.parametrize("kind", ["attached_pic", "timed_thumbnails", "still_image"])
@pytest.mark.parametrize("others", [0, Disposition.default, Disposition.default | 1 << 1])
def test_covers_and_thumbnails_are_no_tracks(kind, others, caplog):
    cover = Stream("cover", (480, 640), int(Disposition[kind] | others))
    video = Stream("video", (48, 64))

    assert pick_track(container_of(cover, video), "a", None) is video
    assert pick_track(container_of(cover, video), "a", 0) is video
    assert not caplog.text
    sound = Stream("sound", None, type="audio")
    with pytest.raises(SourceError, match=r"has no video stream \(it holds: audio, video\)"):
        pick_track(container_of(cover, sound), "a", None)


def test_track_without_a_decoder_is_taken_last():
    unknown, video = Stream("unknown", None), Stream("video", (48, 64))

    assert pick_track(container_of(unknown, video), "a", None) is video
    with pytest.raises(SourceError, match="no decoder for its video stream"):
        pick_track(container_of(unknown, video), "a", 0)


def write_shaped(path, aspect, images, **options):
    """Write a video whose pixels have a shape; ``container`` writes it into its header."""
    with av.open(str(path), "w", **options) as out:
        stream = out.add_stream("libx264", rate=30)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def disc(height, width, aspect):
    """A disc that is round where pixels are as wide over high as ``aspect``."""
    y, x = np.mgrid[:height, :width]
    far = np.hypot((x - width / 2) * float(aspect), y - height / 2)
    return np.where(far < 16, 220, 30).astype(np.uint8)[:, :, None].repeat(3, axis=2)


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (Fraction(64, 45), (64, 114)),
        (Fraction(8, 9), (72, 80)),
        (Fraction(2), (64, 160)),
        (Fraction(1), (64, 80)),
    ],
    ids=str,
)
@pytest.mark.parametrize("container", ["mp4", "mpegts"])
def test_pixels_become_square(tmp_path, aspect, size, container):
    images = [disc(64, 80, aspect)] * 6
    path = write_shaped(tmp_path / "a.bin", aspect, images, format=container)

    frames, source = read_all(path)

    assert source.size == frames[0].image.shape[:2] == size
    is_disc = frames[0].image[:, :, 1] > 125
    height, width = is_disc.any(axis=1).sum(), is_disc.any(axis=0).sum()
    assert abs(int(height) - int(width)) <= 2


def test_shape_may_change_in_the_stream(tmp_path):
    images = [disc(64, 80, 1)] * 5
    narrow = write_shaped(tmp_path / "a.ts", Fraction(1), images, format="mpegts")
    wide = write_shaped(tmp_path / "b.ts", Fraction(4, 3), images, format="mpegts")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(narrow.read_bytes() + wide.read_bytes())

    frames, _ = read_all(joined)

    assert {frame.image.shape[:2] for frame in frames} == {(64, 80), (64, 107)}
    assert frames[0].image.shape[:2] == (64, 80)
    assert frames[-1].image.shape[:2] == (64, 107)


def test_square_sizes():
    assert square_size(288, 360, Fraction(64, 45)) == (288, 512)
    assert square_size(576, 720, Fraction(16, 15)) == (576, 768)
    assert square_size(480, 720, Fraction(8, 9)) == (540, 720)  # no side becomes smaller
    assert square_size(480, 640, None) == (480, 640)
    assert square_size(480, 640, Fraction(1, 100)) == (480, 640)  # no video: a damaged header
