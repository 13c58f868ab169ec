"""Video files that are cut off, damaged or none."""

import logging
import os
import struct
import zlib

import av
import numpy as np
import pytest

from dff_edge.errors import SourceError
from dff_edge.runtime.sources import open_source
from tests.runtime.sources.videos import noise, read_all, scene, shades, write_video


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


# Without CABAC, which makes something of nearly any bits: in pictures as small as these the decoder
# notices 9 of 10 damages with it (benchmarks/damaged_video.py).
X264 = {"g": "12", "bf": "2", "sc_threshold": "0", "qp": "20", "coder": "vlc"}
X265 = {"x265-params": "keyint=12:bframes=2:scenecut=0:log-level=none"}
HASHED = {"x265-params": X265["x265-params"] + ":hash=1"}
REFRESHED = {**X264, "bf": "0", "x264-params": "intra-refresh=1:keyint=9"}
STREAMS = {
    "h264 mp4": ("libx264", "mp4", X264),
    "h264 without B mkv": ("libx264", "matroska", {**X264, "bf": "0"}),
    "h264 slices mp4": ("libx264", "mp4", {**X264, "x264-params": "slices=3"}),
    "h264 open gop ts": ("libx264", "mpegts", {**X264, "x264-params": "open-gop=1"}),
    "h264 refresh mkv": ("libx264", "matroska", REFRESHED),
    "h264 avi": ("libx264", "avi", {**X264, "bf": "0"}),
    "mpeg4 avi": ("mpeg4", "avi", {"g": "12", "sc_threshold": "1000000000", "qmax": "4"}),
    "mpeg2 ts": ("mpeg2video", "mpegts", {"g": "12", "bf": "2"}),
    "hevc ts": ("libx265", "mpegts", X265),
    "hevc with checksums mkv": ("libx265", "matroska", HASHED),
    "hevc mp4": ("libx265", "mp4", X265),
    "vp9 webm": (
        "libvpx-vp9",
        "webm",
        {"g": "12", "deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
    ),
    "mjpeg avi": ("mjpeg", "avi", {}),
}


def by_time(path):
    """The frames of a file by their numbers, as their stamps give them."""
    frames, source = read_all(path)
    return {round(30 * frame.stamp_s): frame.image for frame in frames}, source.counts


def packets_of(path):
    """Places and sizes, in the order of decoding."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]


def overwritten(data, packets, number, rng):
    """Other bytes in all of a packet but its start."""
    at, size = packets[number]
    noise = rng.integers(0, 256, size - size // 8, np.uint8).tobytes()
    return data[: at + size // 8] + noise + data[at + size :]


def with_hole(data, packets, number, rng):
    """Zeros in the second half of a packet."""
    at, size = packets[number]
    return data[: at + size // 2] + bytes(size - size // 2) + data[at + size :]


def without_transport_packet(data, packets, number, rng):
    """A packet of 188 bytes is lost, as on the air."""
    places = range(188 * (len(data) // 188 // 4), len(data) // 2, 188)
    video = [at for at in places if data[at + 1 : at + 3] == b"\1\0"]  # goes on in a picture
    at = int(rng.choice(video))
    return data[:at] + data[at + 188 :]


def damages_of(stream):
    """Some decoders take whatever is in a slice; of these holes in the file are seen."""
    if stream.endswith(" ts"):
        return [without_transport_packet]
    return [with_hole] if stream in ("hevc mp4", "vp9 webm") else [overwritten, with_hole]


@pytest.mark.parametrize(
    ("stream", "damage"), [(name, damage) for name in STREAMS for damage in damages_of(name)]
)
def test_no_picture_is_shown_that_never_was(tmp_path, rng, stream, damage):
    codec, container, options = STREAMS[stream]
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(
        tmp_path / "a.bin",
        scene(36, (144, 192)),
        codec=codec,
        pix_fmt=pix_fmt,
        container=container,
        options=options,
    )
    intact, counts = by_time(path)
    assert (sorted(intact), counts.failed) == (list(range(36)), 0)
    data, packets = path.read_bytes(), packets_of(path)

    unnoticed = 0
    for number in (9, 13):
        path.write_bytes(damage(data, packets, number, rng))
        frames, counts = by_time(path)
        if not counts.failed:
            unnoticed += 1
            continue
        for time, image in frames.items():
            # After an error FFmpeg adds coefficients that were left over to a block of the next
            # picture, be it a key frame: some pixels are off.
            off = np.abs(image.astype(int) - intact[time]) > 16
            assert off.mean() < 0.01, (number, time)
        assert 1 <= counts.failed <= 36 - len(frames)
        assert 35 in frames  # it goes on
    # FFmpeg's decoders of H.264 and MPEG-4 notice most damage in a slice, not all of it; what
    # we look at ourselves, and checksums, leave none.
    is_left_to_ffmpeg = codec in ("libx264", "mpeg4") and "mp4 mkv".find(stream[-3:]) < 0
    assert unnoticed <= (is_left_to_ffmpeg or (codec == "libx264" and damage is overwritten))


def test_damage_that_is_seen_late_takes_those_before_it(tmp_path, rng):
    path = write_video(tmp_path / "a.mp4", scene(36, (192, 256)), options=X264)
    intact, _ = by_time(path)
    data, packets = path.read_bytes(), packets_of(path)
    with av.open(str(path)) as container:
        times = [p.pts * p.time_base for p in container.demux(video=0) if p.size]
    number = next(i for i in range(14, 20) if times[i] > times[i + 1])  # B-pictures follow it
    path.write_bytes(overwritten(data, packets, number, rng))

    frames, counts = by_time(path)

    damaged, first_b = round(30 * times[number]), round(30 * times[number + 1])
    assert first_b < damaged
    missing = sorted(set(intact) - set(frames))
    assert missing == list(range(first_b, 24))  # up to the next key frame
    assert counts.failed == len(missing)
    assert any("is predicted from a damaged or missing picture" in r for r in counts.reasons)


def test_stamps_and_numbers_stay_together_behind_damage(tmp_path, rng):
    path = write_video(tmp_path / "a.mp4", scene(45), options=X264)
    data, packets = path.read_bytes(), packets_of(path)
    path.write_bytes(with_hole(data, packets, 12, rng))  # of a key frame

    frames, _ = read_all(path)

    assert frames[-1].index == 44
    assert [f.stamp_s for f in frames] == pytest.approx([f.index / 30 for f in frames])


def test_jpegs_without_their_head_are_failed(tmp_path, rng):
    path = write_video(tmp_path / "a.avi", noise(rng, 9), codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    at, _ = packets_of(path)[4]
    data[at : at + 64] = bytes(64)  # FFmpeg takes the tables of the picture before
    path.write_bytes(data)

    frames, source = read_all(path)

    assert [frame.index for frame in frames] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert source.counts.failed == 1


def test_pictures_of_absurd_size_are_refused_before_they_are_decoded(tmp_path, rng):
    path = write_video(tmp_path / "a.avi", noise(rng, 9), codec="mjpeg", pix_fmt="yuvj420p")
    at, size = packets_of(path)[4]
    data = path.read_bytes()
    frame = data[at : at + size]
    size_at = frame.index(b"\xff\xc0") + 5
    huge = frame[:size_at] + struct.pack(">HH", 16000, 16000) + frame[size_at + 4 :]
    path.write_bytes(data[:at] + huge + data[at + size :])

    frames, source = read_all(path)

    assert (len(frames), source.counts.failed) == (8, 1)
    assert "states a size of 16000 x 16000 pixels" in source.counts.reasons[0]


def test_video_of_absurd_size_is_refused(tmp_path):
    path = write_video(tmp_path / "a.avi", shades(2), codec="png", pix_fmt="rgb24")
    data = path.read_bytes()
    for at, _ in packets_of(path):
        head = b"IHDR" + struct.pack(">II", 16000, 16000) + data[at + 24 : at + 29]
        data = data[: at + 12] + head + struct.pack(">I", zlib.crc32(head)) + data[at + 33 :]
    path.write_bytes(data)

    # FFmpeg's words for a size above its limit; without one it would take 768 MB and then fail.
    with pytest.raises(SourceError, match=r"not one frame could be decoded \(.* Invalid argument"):
        open_source(path)


def test_video_that_states_an_absurd_size_is_refused(tmp_path):
    path = write_video(tmp_path / "a.y4m", shades(2), codec="rawvideo", container="yuv4mpegpipe")
    data = path.read_bytes()
    assert data.startswith(b"YUV4MPEG2 W64 H48 ")
    path.write_bytes(data.replace(b"W64 H48", b"W9000 H9000", 1))

    with pytest.raises(SourceError, match="9000 x 9000 pixels; at most 16384 a side"):
        open_source(path)


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
