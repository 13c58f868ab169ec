"""Annotated video, read back with PyAV: pictures, times, codec, and what trouble leaves."""

import errno
import logging
import os
import subprocess
import sys
import textwrap
import threading

import av
import numpy as np
import pytest

from dff_edge.errors import SinkError
from dff_edge.frames import Frame, Result
from dff_edge.runtime.drawing.overlay import draw_overlay
from dff_edge.runtime.sinks import open_sink
from dff_edge.runtime.sinks.video import VideoSink
from dff_edge.runtime.tasks.drawing import caption_of

CLASSES = ("road", "sky", "pole")
COLOURS = ((128, 64, 128), (70, 130, 180), (250, 170, 30))
MEAN_ATOL = 6  # of 255: lossy coding with half the colour resolution


def result(index, size=(48, 64), *, stamp_s=None, key_index=None, shade=100):
    image = np.full((*size, 3), shade, np.uint8)
    labels = np.zeros(size, np.uint8)
    labels[: size[0] // 2] = 1
    stamp_s = index / 30 if stamp_s is None else stamp_s
    key_index = index if key_index is None else key_index
    return Result(Frame(image, index, stamp_s), labels, key_index, 0.01, {"feature": 5.0})


def sink_to(path, fps=30.0, **options):
    return open_sink(str(path), classes=CLASSES, colours=COLOURS, fps=fps, **options)


def read_back(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        times = [float(frame.pts * frame.time_base) for frame in frames]
        images = [frame.to_ndarray(format="bgr24") for frame in frames]
        return stream, times, images


def write(path, results, **options):
    with sink_to(path, **options) as sink:
        for item in results:
            sink.write(item)
    return sink


def test_pictures_are_the_annotated_frames(tmp_path):
    results = [result(i, (240, 320), key_index=0, shade=60 + 20 * i) for i in range(5)]
    sink = write(tmp_path / "out.mp4", results)

    _, times, images = read_back(tmp_path / "out.mp4")

    assert sink.written == len(images) == 5
    assert times == pytest.approx([i / 30 for i in range(5)], abs=1e-4)
    for item, image in zip(results, images, strict=True):
        caption = caption_of(item)
        expected = draw_overlay(
            item.frame.image, item.labels, COLOURS, caption=caption, legend=CLASSES
        )
        assert np.abs(image.astype(int) - expected).mean() < MEAN_ATOL


def test_saturated_colours_survive(tmp_path):
    picture = np.full((64, 64, 3), (30, 220, 40), np.uint8)
    labels = np.full((64, 64), 255, np.uint8)  # leaves the picture as it is
    write(tmp_path / "out.mp4", [Result(Frame(picture, 0, 0.0), labels, 0, 0.0, {})])

    _, _, images = read_back(tmp_path / "out.mp4")

    np.testing.assert_allclose(images[0].astype(int), picture, atol=10)


def test_browsers_can_play_it(tmp_path):
    write(tmp_path / "out.mp4", [result(i) for i in range(70)])

    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert context.name == "h264"
        assert context.pix_fmt == "yuv420p"
        assert (context.colorspace, context.color_range) == (1, 1)  # BT.709, limited
        keys = [
            float(packet.pts * packet.time_base)
            for packet in container.demux(video=0)
            if packet.size and packet.is_keyframe
        ]
    assert keys == pytest.approx([0, 1, 2], abs=1e-4)  # a key frame a second
    boxes = (tmp_path / "out.mp4").read_bytes()
    assert boxes.index(b"moov") < boxes.index(b"moof") < boxes.index(b"mdat")  # fragmented


def test_times_are_those_of_the_frames(tmp_path):
    stamps = [7.0, 7.04, 7.2, 7.21, 9.5]  # uneven, and not from zero
    write(tmp_path / "out.mp4", [result(i, stamp_s=s) for i, s in enumerate(stamps)], fps=25)

    _, times, _ = read_back(tmp_path / "out.mp4")

    assert times == pytest.approx([s - 7.0 for s in stamps], abs=1e-4)


def test_stamps_that_do_not_grow_go_on_by_a_period(tmp_path):
    stamps = [1.0, 1.0, 0.2, float("nan"), 2.0]
    write(tmp_path / "out.mp4", [result(i, stamp_s=s) for i, s in enumerate(stamps)], fps=20)

    _, times, _ = read_back(tmp_path / "out.mp4")

    assert times == pytest.approx([0, 0.05, 0.1, 0.15, 1.0], abs=1e-4)


@pytest.mark.parametrize("fps", [None, 0.0, float("nan"), 90000.0])
def test_unknown_rate_is_taken_as_30(tmp_path, fps):
    write(tmp_path / "out.mp4", [result(i, stamp_s=0.0) for i in range(3)], fps=fps)

    _, times, _ = read_back(tmp_path / "out.mp4")

    assert times == pytest.approx([0, 1 / 30, 2 / 30], abs=1e-4)


@pytest.mark.parametrize(
    ("size", "written"),
    [
        ((48, 64), (48, 64)),
        ((47, 65), (48, 66)),
        ((16, 16), (16, 16)),
        ((1, 1), (16, 16)),
        ((3, 500), (16, 500)),
    ],
    ids=str,
)
def test_sides_become_even_by_repeating_the_border(tmp_path, size, written):
    write(tmp_path / "out.mp4", [result(0, size)])

    stream, _, images = read_back(tmp_path / "out.mp4")

    assert images[0].shape[:2] == (stream.height, stream.width) == written
    expected = draw_overlay(result(0, size).frame.image, result(0, size).labels, COLOURS)
    padding = ((0, written[0] - size[0]), (0, written[1] - size[1]), (0, 0))
    assert np.abs(images[0].astype(int) - np.pad(expected, padding, "edge")).mean() < MEAN_ATOL


def test_later_frames_are_fitted_into_the_first_size(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
        write(
            tmp_path / "out.mp4",
            [
                result(0, (120, 160)),
                result(1, (60, 40)),
                result(2, (30, 90)),
                result(3, (120, 160)),
            ],
        )

    _, _, images = read_back(tmp_path / "out.mp4")

    assert [image.shape[:2] for image in images] == [(120, 160)] * 4
    # 60 x 40 grows to 120 x 80, in the middle between black bars; its own shape is kept.
    assert images[1][:, :36].max() < 20
    assert images[1][:, 124:].max() < 20
    assert images[1][:, 44:116].min() > 60
    assert images[2][:30].max() < 20
    assert images[2][40:80].min() > 60
    assert len([r for r in caplog.records if "scaled to the first size" in r.message]) == 1


@pytest.mark.parametrize("encoder", ["libvpx-vp9"])
def test_vp9_takes_over_where_there_is_no_h264(tmp_path, caplog, encoder):
    with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
        sink = VideoSink(
            "out.mp4", tmp_path / "out.mp4", CLASSES, COLOURS, 30, encoders=("absent", encoder)
        )
    with sink:
        for i in range(5):
            sink.write(result(i))

    stream, times, images = read_back(tmp_path / "out.mp4")

    assert stream.codec_context.name.endswith("vp9")
    assert len(images) == 5
    assert times == pytest.approx([i / 30 for i in range(5)], abs=1e-4)
    assert f"PyAV has no absent, writing with {encoder}" in caplog.text


def test_missing_codecs_are_named_and_leave_no_file(tmp_path):
    with pytest.raises(SinkError, match="none of the encoders absent, gone.*pip install"):
        VideoSink(
            "out.mp4", tmp_path / "out.mp4", CLASSES, COLOURS, 30, encoders=("absent", "gone")
        )

    assert not (tmp_path / "out.mp4").exists()


def test_size_that_the_encoder_refuses_is_an_error(tmp_path):
    sink = VideoSink("o.mp4", tmp_path / "o.mp4", CLASSES, COLOURS, 30, encoders=("mpeg4",))

    with pytest.raises(SinkError, match="encoder mpeg4 refused a 16000 x 16 frame"):
        sink.write(result(0, (16, 16000)))

    sink.close()


def test_nothing_written_leaves_no_file(tmp_path):
    write(tmp_path / "out.mp4", [])

    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full of Linux")
def test_full_disk_is_a_clear_error_and_close_is_quiet(tmp_path):
    (tmp_path / "out.mp4").symlink_to("/dev/full")
    sink = sink_to(tmp_path / "out.mp4")
    rng = np.random.default_rng(0)

    def write_until_full():
        for i in range(300):
            noise = rng.integers(0, 256, (240, 320, 3), np.uint8)
            sink.write(Result(Frame(noise, i, i / 30), noise[:, :, 0] % 3, 0, 0.0, {}))

    with pytest.raises(SinkError, match=r"out\.mp4' failed, no room is left: No space left"):
        write_until_full()
    with pytest.raises(SinkError, match="earlier write"):
        sink.write(result(0))

    sink.close()
    sink.close()


def test_disk_that_is_full_at_the_last_moment_is_an_error_of_close(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full of Linux")
    (tmp_path / "out.mp4").symlink_to("/dev/full")
    sink = sink_to(tmp_path / "out.mp4")
    sink.write(result(0))  # stays in the encoder

    with pytest.raises(SinkError, match="no room is left"):
        sink.close()

    sink.close()


def run_python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


WRITE_NOISE = """
    import os, resource, sys
    import numpy as np
    from dff_edge.errors import SinkError
    from dff_edge.frames import Frame, Result
    from dff_edge.runtime.sinks import open_sink

    path, limit, kill_at = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    rng = np.random.default_rng(0)
    sink = open_sink(path, classes=["a"], colours=[(0, 0, 0)], fps=30)
    labels = np.full((240, 320), 255, np.uint8)
    for i in range(300):
        image = rng.integers(0, 256, (240, 320, 3), np.uint8)
        if i == kill_at:
            os._exit(9)
        try:
            sink.write(Result(Frame(image, i, i / 30), labels, i, 0.0, {}))
        except SinkError as error:
            print(error)
            sink.close()
            sys.exit(3)
"""


def test_what_was_written_before_the_disk_was_full_plays_to_its_end(tmp_path):
    limit = 4_000_000  # bytes; ends a file as a full disk does, but with EFBIG
    done = run_python(WRITE_NOISE, tmp_path / "out.mp4", limit, -1)

    assert done.returncode == 3, done.stderr
    assert "no room is left" in done.stdout
    assert os.strerror(errno.EFBIG) in done.stdout
    _, times, images = read_back(tmp_path / "out.mp4")  # raises for half a frame
    assert len(images) >= 60
    assert times == pytest.approx([i / 30 for i in range(len(images))], abs=1e-4)
    assert (tmp_path / "out.mp4").stat().st_size > limit / 3


def test_what_was_written_before_a_crash_is_readable(tmp_path):
    done = run_python(WRITE_NOISE, tmp_path / "out.mp4", 0, 150)

    assert done.returncode == 9, done.stderr
    with av.open(str(tmp_path / "out.mp4")) as container:
        count = 0
        for _ in container.decode(video=0):
            count += 1
            if count == 60:
                break
    assert count == 60


def test_killed_run_leaves_the_recording_before_it_and_its_own(tmp_path):
    write(tmp_path / "out.mp4", [result(i) for i in range(5)])
    done = run_python(WRITE_NOISE, tmp_path / "out.mp4", 0, 150)

    assert done.returncode == 9, done.stderr
    assert len(read_back(tmp_path / "out.mp4")[2]) == 5
    with av.open(str(tmp_path / "out.new.mp4")) as container:
        decoded = container.decode(video=0)
        assert sum(1 for _, _ in zip(range(60), decoded, strict=False)) == 60


def test_full_disk_leaves_the_recording_before_it_and_names_its_own(tmp_path):
    write(tmp_path / "out.mp4", [result(i) for i in range(5)])
    done = run_python(WRITE_NOISE, tmp_path / "out.mp4", 4_000_000, -1)

    assert done.returncode == 3, done.stderr
    assert (
        f"up to about the last second, stays readable in '{tmp_path}/out.new.mp4', and "
        f"'{tmp_path}/out.mp4' is as it was."
    ) in done.stdout
    assert len(read_back(tmp_path / "out.mp4")[2]) == 5
    assert len(read_back(tmp_path / "out.new.mp4")[2]) >= 60


def test_source_is_not_written_over(tmp_path):
    write(tmp_path / "clip.mp4", [result(0)])
    before = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "clip.mp4")

    for name in ("clip.mp4", "link.mp4", "../" + tmp_path.name + "/clip.mp4"):
        with pytest.raises(SinkError, match="is the source itself and would be overwritten"):
            sink_to(tmp_path / name, source=str(tmp_path / "clip.mp4"))

    assert (tmp_path / "clip.mp4").read_bytes() == before


def test_missing_folder_is_refused_with_advice(tmp_path):
    with pytest.raises(SinkError, match=r"no folder '.*/deep/er'.*mkdir -p"):
        sink_to(tmp_path / "deep" / "er" / "out.mp4")


def test_folder_named_like_a_video_is_refused(tmp_path):
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(SinkError, match="is a folder, expected a file"):
        sink_to(tmp_path / "out.mp4")


def test_write_after_close_is_refused(tmp_path):
    sink = write(tmp_path / "out.mp4", [result(0)])

    with pytest.raises(SinkError, match="was closed"):
        sink.write(result(1))


def test_no_thread_is_left_after_close(tmp_path):
    before = threading.enumerate()
    count = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
    write(tmp_path / "warm.mp4", [result(i) for i in range(3)])  # OpenCV's own pool starts here
    count = max(count, len(os.listdir("/proc/self/task"))) if count else 0

    for _ in range(3):
        write(tmp_path / "out.mp4", [result(i) for i in range(3)])

    assert threading.enumerate() == before
    if count:
        assert len(os.listdir("/proc/self/task")) <= count


def test_error_in_the_block_is_not_hidden_by_close(tmp_path):
    def fail_inside():
        with sink_to(tmp_path / "out.mp4") as sink:
            sink.write(result(0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()

    assert len(read_back(tmp_path / "out.mp4")[2]) == 1
