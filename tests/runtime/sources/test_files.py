"""Video files as people have them: whole, turned, odd, joined, cut off and damaged."""

import gc
import logging
import os
import struct
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from dff_edge.runtime.errors import SourceError
from dff_edge.runtime.sources import files, open_source

COLOUR_ATOL = 8  # lossy YCbCr and back, flat areas


@pytest.fixture
def rng():
    return np.random.default_rng(0)


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
        with open_source(path) as source:
            count = len(list(source))
        kept = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
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


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "gray16le"])
def test_grey_video_becomes_bgr(tmp_path, pix_fmt):
    path = write_video(tmp_path / "a.mkv", shades(3, size=(31, 17)), codec="ffv1", pix_fmt=pix_fmt)

    frames, _ = read_all(path)

    assert [number_of(frame) for frame in frames] == [0, 1, 2]
    assert all((f.image == f.image[:, :, :1]).all() for f in frames)


def test_colours_follow_the_tag_of_the_file(tmp_path):
    image = np.full((64, 64, 3), (30, 220, 40), np.uint8)
    for name, number in (("bt709", 1), ("bt601", 5)):
        path = tmp_path / f"{name}.mp4"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("libx264", rate=30, options={"crf": "5"})
            stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
            stream.codec_context.colorspace = number
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            out.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=number)))
            out.mux(stream.encode(None))

        frames, _ = read_all(path)

        np.testing.assert_allclose(frames[0].image, image, atol=COLOUR_ATOL, err_msg=name)


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
    open_container = files._open_container
    monkeypatch.setattr(files, "_open_container", lambda path: StreamsAppear(open_container(path)))

    frames, _ = read_all(path)

    assert len(frames) == 5


@pytest.mark.parametrize("size", [(16, 16), (2160, 3840)], ids=["tiny", "4K"])
def test_extreme_sizes_are_read(tmp_path, size):
    path = write_video(tmp_path / "a.mp4", shades(1, size=size), options={"preset": "ultrafast"})

    frames, source = read_all(path)

    assert frames[0].image.shape == (*size, 3)
    assert source.counts.read == 1


def test_cut_off_file_gives_what_it_holds_and_counts_the_rest(tmp_path, rng, caplog):
    whole = write_video(
        tmp_path / "a.mp4", noise(rng, 40), movflags="faststart", options={"bf": "0", "g": "1"}
    )
    data = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) // 2])
    intact = [frame.image for frame in read_all(whole)[0]]

    with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
        frames, source = read_all(cut)

    assert 15 <= len(frames) <= 20
    for frame, image in zip(frames, intact, strict=False):
        np.testing.assert_array_equal(frame.image, image)
    assert source.counts.read == len(frames)
    assert source.counts.read + source.counts.failed == 40
    assert any("cut off" in reason for reason in source.counts.reasons)
    assert "of 40 frames are missing: the file is cut off" in caplog.text


@pytest.mark.parametrize(("container", "codec"), [("avi", "mjpeg"), ("matroska", "libx264")])
def test_cut_off_files_of_other_containers_end_normally(tmp_path, rng, container, codec):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    whole = write_video(
        tmp_path / "a.bin", noise(rng, 20), codec=codec, pix_fmt=pix_fmt, container=container
    )
    data = whole.read_bytes()
    cut = tmp_path / "cut.bin"
    cut.write_bytes(data[: len(data) * 6 // 10])

    frames, source = read_all(cut)

    assert 5 <= len(frames) < 20
    assert source.counts.read == len(frames)


def test_damage_in_the_middle_is_counted_and_reading_goes_on(tmp_path, rng, caplog):
    path = write_video(tmp_path / "a.mp4", noise(rng, 30), options={"bf": "0", "g": "1"})
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for number in (10, 11, 17):
        at, size = packets[number]
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)

    with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
        frames, source = read_all(path)

    assert [f.index for f in frames] == [i for i in range(30) if i not in (10, 11, 17)]
    # A failed frame keeps its number, so numbers and times stay together.
    assert [f.stamp_s for f in frames] == pytest.approx([f.index / 30 for f in frames])
    assert (source.counts.read, source.counts.failed) == (27, 3)
    assert len(source.counts.reasons) == 3
    assert "frame 10: " in source.counts.reasons[0]
    assert f"{path}: skipped a frame: frame 10" in caplog.text


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("container", ["mp4", "mpegts", "avi", "matroska"])
def test_flipped_bytes_never_break_reading(tmp_path, rng, container, seed):
    path = write_video(tmp_path / "a.bin", noise(rng, 30), container=container)
    data = bytearray(path.read_bytes())
    flips = np.random.default_rng(seed).integers(len(data) // 4, 3 * len(data) // 4, 200)
    for at in flips:
        data[at] ^= 0xFF
    path.write_bytes(data)

    frames, source = read_all(path)

    assert frames
    assert source.counts.read == len(frames) <= 30
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    stamps = [frame.stamp_s for frame in frames]
    assert stamps == sorted(set(stamps))


def test_many_damaged_frames_do_not_flood_the_log(tmp_path, rng, caplog):
    path = write_video(tmp_path / "a.mp4", noise(rng, 30), options={"bf": "0", "g": "1"})
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for at, size in packets[5:]:
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)

    with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
        _, source = read_all(path)

    assert source.counts.failed == 25
    assert len(source.counts.reasons) == 10
    assert len(caplog.records) == 11
    assert "further skipped frames are only counted" in caplog.text


def test_file_without_one_good_frame_is_refused(tmp_path, rng):
    path = write_video(tmp_path / "a.mp4", noise(rng, 3))
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for at, size in packets:
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)

    with pytest.raises(SourceError, match=r"a\.mp4': not one frame could be decoded \(frame 0: "):
        open_source(path)


def test_file_cut_before_its_index_is_refused(tmp_path, rng):
    path = write_video(tmp_path / "a.mp4", noise(rng, 10))
    path.write_bytes(path.read_bytes()[:5000])

    with pytest.raises(SourceError, match=r"a\.mp4' cannot be opened as a video: invalid data"):
        open_source(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"no video\n" * 200, "text.mp4' cannot be opened as a video"),
        (
            "notes.txt",
            b"no video\n" * 200,
            "notes.txt' is not of a video format .*text are not read",
        ),
        ("list.mp4", b"ffconcat version 1.0\nfile 'a.mp4'\n", "list.mp4' is not of a video format"),
        ("zero.mp4", b"", r"zero.mp4' is empty \(0 bytes\)"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, name, content, message):
    write_video(tmp_path / "a.mp4", shades(2))
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SourceError, match=message):
        open_source(tmp_path / name)


def test_live_playlist_is_refused_and_does_not_block(tmp_path):
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n")

    with pytest.raises(SourceError, match=r"list\.m3u8' is not of a video format"):
        open_source(path)


def test_sound_alone_is_refused(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))

    with pytest.raises(SourceError, match=r"has no video stream \(it holds: audio\)"):
        open_source(path)


def test_absent_file_is_refused():
    with pytest.raises(SourceError, match=r"There is no file 'absent\.mp4'"):
        open_source("absent.mp4")


def test_pipe_is_refused_and_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")

    with pytest.raises(SourceError, match="not a regular file"):
        open_source(tmp_path / "pipe.mp4")


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
