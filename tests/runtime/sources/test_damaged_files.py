"""Video files that are cut off, damaged or none."""

import logging
import os

import av
import numpy as np
import pytest

from dff_edge.runtime.errors import SourceError
from dff_edge.runtime.sources import open_source
from tests.runtime.sources.videos import noise, read_all, shades, write_video


@pytest.fixture
def rng():
    return np.random.default_rng(0)


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
