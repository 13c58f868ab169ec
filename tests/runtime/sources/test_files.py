"""Video files as people have them: whole, turned, odd and joined."""

import gc
import struct
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from dff_edge.runtime.sources import files, open_source
from tests.runtime.sources.videos import number_of, read_all, shades, write_video

COLOUR_ATOL = 8  # lossy YCbCr and back, flat areas


def test_frames_and_stamps_are_those_of_the_file(tmp_path):
    pts = [0, 10, 25, 33, 100, 101]  # uneven, in milliseconds; B-frames reorder the packets
    path = write_video(
        tmp_path / "a.mp4", shades(6), pts=pts, time_base=Fraction(1, 1000), options={"bf": "2"}
    )

    with open_source(str(path)) as source:
        assert (source.live, source.length, source.size) == (False, 6, (48, 64))
        assert source.uri == str(path)
        frames = list(source)

    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.stamp_s for frame in frames] == pytest.approx([p / 1000 for p in pts], abs=1e-9)
    assert [number_of(frame) for frame in frames] == list(range(6))
    assert (source.counts.read, source.counts.failed, source.counts.dropped) == (6, 0, 0)


def test_nominal_rate_is_known(tmp_path):
    path = write_video(tmp_path / "a.mp4", shades(6), fps=25)

    with open_source(path) as source:
        assert source.fps == pytest.approx(25)


def test_stamps_count_from_the_start_of_the_stream(tmp_path):
    path = write_video(tmp_path / "a.ts", shades(6), container="mpegts")  # starts at 1.4 s

    frames, _ = read_all(path)

    assert [frame.stamp_s for frame in frames] == pytest.approx([i / 30 for i in range(6)])


def test_received_images_stay_as_they_are(tmp_path):
    path = write_video(tmp_path / "a.mp4", shades(6))

    frames, _ = read_all(path)

    assert [number_of(frame) for frame in frames] == list(range(6))
    assert not any(
        np.shares_memory(a.image, b.image) for a, b in zip(frames, frames[1:], strict=False)
    )


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # a phone held upright
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),  # a front camera
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    ],
    ids=["none", "90", "180", "270", "mirrored", "transposed"],
)
def test_rotation_of_the_container_is_applied(tmp_path, matrix, turn):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = (255, 0, 0)
    image[:24, 32:] = (0, 255, 0)
    image[24:, :32] = (0, 0, 255)
    path = write_video(tmp_path / "a.mp4", [image] * 2)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2: the matrix of a track header, version 0
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)

    frames, source = read_all(path)

    expected = turn(image)
    assert source.size == expected.shape[:2]
    # Squares of one colour: compare their middles, chroma bleeds at the edges.
    corners = np.ix_([10, -10], [10, -10])
    np.testing.assert_allclose(frames[0].image[corners], expected[corners], atol=COLOUR_ATOL)
    assert frames[0].image.flags.c_contiguous


def test_memory_of_pictures_is_given_back_without_the_garbage_collector(tmp_path):
    path = write_video(tmp_path / "a.mp4", shades(10))
    gc.collect()
    gc.disable()
    try:
        before = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
        with open_source(path) as source:
            count = len(list(source))
        kept = sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) - before
    finally:
        gc.enable()

    assert count == 10
    assert kept <= 2  # the first, which was asked for its side data, and the last


ODD, EVEN = (31, 17), (34, 22)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "container", "size"),
    [
        ("ffv1", "yuv420p", "matroska", ODD),
        ("ffv1", "yuv420p10le", "matroska", ODD),
        ("libx264", "yuv420p", "mp4", EVEN),
        ("libx264", "yuv420p10le", "mp4", EVEN),
        ("libx264", "yuv444p", "mp4", ODD),
        ("mjpeg", "yuvj420p", "avi", ODD),
        ("libvpx-vp9", "yuv420p", "webm", ODD),
    ],
    ids=str,
)
def test_pixel_formats_become_bgr(tmp_path, codec, pix_fmt, container, size):
    image = np.full((*size, 3), (200, 50, 100), np.uint8)
    image[: size[0] // 2] = (10, 240, 60)
    path = write_video(
        tmp_path / "a.bin", [image] * 2, codec=codec, pix_fmt=pix_fmt, container=container
    )

    frames, source = read_all(path)

    got = frames[0].image
    assert (got.shape, got.dtype, source.size) == ((*size, 3), np.uint8, size)
    rows = [2, -3]  # away from the edge between the colours
    np.testing.assert_allclose(got[rows, 1:-1].astype(int), image[rows, 1:-1], atol=12)


def test_size_may_change_in_the_stream(tmp_path):
    first = write_video(tmp_path / "a.ts", shades(5, size=(48, 64)), container="mpegts")
    second = write_video(tmp_path / "b.ts", shades(4, size=(32, 80)), container="mpegts")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())

    frames, source = read_all(joined)

    sizes = [frame.image.shape[:2] for frame in frames]
    assert sizes == [(48, 64)] * 5 + [(32, 80)] * 4
    assert [number_of(frame) for frame in frames] == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert [frame.index for frame in frames] == list(range(9))
    # The second part's clock starts anew; stamps go on.
    assert [frame.stamp_s for frame in frames] == pytest.approx([i / 30 for i in range(9)])


class StreamsAppear:
    """A container as PyAV has it after streams appeared: it fails behind the last packet."""

    def __init__(self, container):
        self._container = container

    def __getattr__(self, name):
        return getattr(self._container, name)

    def demux(self, stream):
        yield from self._container.demux(stream)
        raise IndexError("list index out of range")


def test_streams_that_appear_later_are_left_out(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", shades(5))
    open_container = files.open_container
    monkeypatch.setattr(files, "open_container", lambda path: StreamsAppear(open_container(path)))

    frames, _ = read_all(path)

    assert len(frames) == 5


@pytest.mark.parametrize("size", [(16, 16), (2160, 3840)], ids=["tiny", "4K"])
def test_extreme_sizes_are_read(tmp_path, size):
    path = write_video(tmp_path / "a.mp4", shades(1, size=size), options={"preset": "ultrafast"})

    frames, source = read_all(path)

    assert frames[0].image.shape == (*size, 3)
    assert source.counts.read == 1


def test_name_that_looks_like_a_protocol_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", shades(2)).rename(tmp_path / "concat:x|y.mp4")

    frames, _ = read_all("concat:x|y.mp4")

    assert len(frames) == 2


def test_closed_source_gives_nothing_and_leaves_no_thread(tmp_path):
    path = write_video(tmp_path / "a.mp4", shades(6))
    before = threading.enumerate()

    source = open_source(path)
    next(source)
    source.close()
    source.close()

    assert list(source) == []
    assert source.counts.read == 1
    assert threading.enumerate() == before
