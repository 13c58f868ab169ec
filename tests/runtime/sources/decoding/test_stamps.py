"""Times of files that know them, know others, or none."""

from fractions import Fraction

import av
import numpy as np
import pytest

from dff_edge.runtime.sources.decoding.stamps import Stamps
from tests.runtime.sources.videos import number_of, read_all, scene, shades, write_video

B_FRAMES = {"bf": "2", "g": "12", "qmin": "1", "qmax": "3"}


def assert_times(path, stamps, numbers=None):
    frames, source = read_all(path)
    assert [frame.stamp_s for frame in frames] == pytest.approx(stamps)
    assert [frame.index for frame in frames] == list(range(len(stamps)))
    if numbers is not None:
        assert [number_of(frame, step=10) for frame in frames] == numbers
    assert source.counts.failed == 0
    return source


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_with_b_frames_has_even_times_from_0(tmp_path, codec):
    path = write_video(
        tmp_path / "a.avi", shades(18, step=10), codec=codec, fps=25, options=B_FRAMES
    )
    with av.open(str(path)) as container:
        shown = [frame.pts for frame in container.decode(video=0)]
    assert shown[0] > 0  # FFmpeg takes the order of decoding for that of presentation

    assert_times(path, [i / 25 for i in range(18)], list(range(18)))


def test_avi_keeps_the_time_where_the_picture_stays(tmp_path):
    pts = [0, 1, 2, 5, 6, 9]  # its muxer writes empty packets between
    path = write_video(tmp_path / "a.avi", shades(6), codec="mpeg4", fps=25, pts=pts)

    source = assert_times(path, [p / 25 for p in pts])

    assert source.length == 10


@pytest.mark.parametrize(("codec", "name"), [("libx264", "a.h264"), ("libx265", "a.hevc")])
def test_raw_streams_go_by_their_frame_rate(tmp_path, codec, name):
    options = B_FRAMES if codec == "libx264" else {"x265-params": "bframes=2:log-level=none"}
    path = write_video(tmp_path / name, shades(18, step=10), codec=codec, fps=50, options=options)

    source = assert_times(path, [i / 50 for i in range(18)], list(range(18)))

    assert source.fps == 50


@pytest.mark.parametrize(
    ("codec", "container", "name"),
    [
        ("mpeg2video", "mpegvideo", "a.m2v"),
        ("mpeg4", "m4v", "a.m4v"),
        ("mpeg2video", "mpeg", "a.mpg"),
        ("libx264", "flv", "a.flv"),
        ("libvpx", "ivf", "a.ivf"),
        ("libx264", "matroska", "a.mkv"),
        ("libx264", "mpegts", "a.ts"),
    ],
)
def test_other_containers_begin_at_0(tmp_path, codec, container, name):
    options = {} if codec == "libvpx" else B_FRAMES
    container = "mpeg2video" if container == "mpegvideo" else container
    path = write_video(
        tmp_path / name,
        shades(18, step=10),
        codec=codec,
        container=container,
        options=options,
        fps=25,
    )

    assert_times(path, [i / 25 for i in range(18)], list(range(18)))


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_times_count_from_a_first_one_that_is_not_0(tmp_path, container):
    pts = [70, 71, 75, 76, 90, 91]
    path = write_video(
        tmp_path / "a.bin", shades(6), container=container, pts=pts, options=B_FRAMES, fps=25
    )

    assert_times(path, [(p - 70) / 25 for p in pts])


def test_what_an_edit_list_hides_is_neither_shown_nor_missing(tmp_path):
    # Times before 0: the muxer hides them by an edit list.
    pts = [i - 5 for i in range(18)]
    path = write_video(tmp_path / "a.mp4", shades(18, step=10), pts=pts, options=B_FRAMES)

    assert_times(path, [i / 30 for i in range(13)], list(range(5, 18)))


def test_clock_of_a_transport_stream_runs_over(tmp_path):
    path = tmp_path / "a.ts"
    offset_s = (1 << 33) / 90000 - 0.3  # it has 33 bits
    with av.open(str(path), "w", options={"output_ts_offset": f"{offset_s:.6f}"}) as out:
        stream = out.add_stream("libx264", rate=30, options=B_FRAMES)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for i, image in enumerate(scene(30)):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))

    assert_times(path, [i / 30 for i in range(30)])


class Picture:
    def __init__(self, pts):
        self.pts = pts


class Stream:
    start_time = 100
    time_base = Fraction(1, 10)


def test_times_that_stand_still_or_go_back_go_on_by_the_frame_period():
    stamps = Stamps("mp4", Stream, fps=5)

    times = [stamps.time_of(Picture(pts)) for pts in (100, 102, 102, 90, 105, 120)]
    got = [stamps.stamp(time, index) for index, time in enumerate(times)]

    assert got == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 2.0])


def test_without_times_what_failed_takes_its_time_too():
    stamps = Stamps("h264", Stream, fps=5)

    assert [stamps.stamp(None, index) for index in (0, 1, 4)] == pytest.approx([0, 0.2, 0.8])


@pytest.mark.parametrize(("codec", "pix_fmt"), [("mjpeg", "yuvj420p"), ("mpeg4", "yuv420p")])
def test_failed_packets_of_avi_give_no_time_away(tmp_path, codec, pix_fmt):
    path = write_video(
        tmp_path / "a.avi", scene(12), codec=codec, pix_fmt=pix_fmt, fps=25, options={"g": "3"}
    )
    with av.open(str(path)) as container:
        at = [packet.pos for packet in container.demux(video=0) if packet.size][4]
    data = bytearray(path.read_bytes())
    data[at : at + 12] = bytes(12)
    path.write_bytes(data)

    frames, source = read_all(path)

    lost = [4] if codec == "mjpeg" else [4, 5]  # up to the next key frame
    assert source.counts.failed == len(lost)
    assert [f.stamp_s for f in frames] == pytest.approx(
        [i / 25 for i in range(12) if i not in lost]
    )


def set_sizes_to_0(path, empty):
    """Make samples of an MP4 empty, by its table of sizes; the ones before take their bytes."""
    data = bytearray(path.read_bytes())
    at = data.index(b"stsz") + 8  # ISO 14496-12, 8.7.3.2
    assert int.from_bytes(data[at : at + 4], "big") == 0  # sizes differ
    sizes = np.frombuffer(data, ">u4", int.from_bytes(data[at + 4 : at + 8], "big"), at + 8).copy()
    for number in empty:
        sizes[number - 1] += sizes[number]
        sizes[number] = 0
    data[at + 8 : at + 8 + 4 * len(sizes)] = sizes.tobytes()
    path.write_bytes(data)


def test_empty_packets_are_no_end(tmp_path):
    path = write_video(
        tmp_path / "a.mov", shades(10, step=10), codec="mjpeg", pix_fmt="yuvj420p", fps=10
    )
    set_sizes_to_0(path, [3, 7])

    frames, source = read_all(path)

    kept = [i for i in range(10) if i not in (3, 7)]
    assert [number_of(frame, step=10) for frame in frames] == kept
    assert [frame.stamp_s for frame in frames] == pytest.approx([i / 10 for i in kept])
    assert [frame.index for frame in frames] == list(range(8))
    assert source.counts.failed == 0


def test_empty_packet_of_a_key_frame_is_no_end_either(tmp_path, caplog):
    path = write_video(tmp_path / "a.mp4", shades(16, step=10), options={"bf": "0", "g": "4"})
    assert len(read_all(path)[0]) == 16
    set_sizes_to_0(path, [8])  # its data now stand behind the picture before

    frames, source = read_all(path)

    assert frames[-1].stamp_s == pytest.approx(15 / 30)
    assert [round(30 * frame.stamp_s) for frame in frames] == [*range(8), *range(12, 16)]
    assert source.counts.failed == 3
    assert "cut off" not in caplog.text
