"""Frames of video files in any order are those of a pass from the start."""

import numpy as np
import pytest

from dff_edge.data.datasets import video_file
from dff_edge.data.datasets.video_file import VideoFile, read_video_frame, stated_frames
from dff_edge.errors import FrameError, SourceError
from tests.runtime.sources.videos import read_all, scene, write_video

COUNT = 40
GOP = {"g": "10", "bf": "3", "sc_threshold": "0"}
OPEN_GOP = {**GOP, "x264-params": "open-gop=1"}


def order(count, seed=0):
    return np.random.default_rng(seed).permutation(count).tolist()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.mp4", {"options": GOP}),
        ("a.mkv", {"options": GOP}),
        ("a.ts", {"options": GOP}),
        ("open.mp4", {"options": OPEN_GOP}),
        ("times.mkv", {"options": GOP, "pts": [n * n + 7 for n in range(COUNT)]}),
        ("a.avi", {"options": GOP}),
        ("mpeg4.mp4", {"codec": "mpeg4", "options": {"g": "10", "bf": "2"}}),
        ("vp8.webm", {"codec": "libvpx", "options": {"g": "10", "auto-alt-ref": "1"}}),
    ],
)
def test_frames_in_any_order_are_those_of_a_pass(tmp_path, monkeypatch, name, settings):
    monkeypatch.setattr(video_file, "_CACHE_BYTES", 1)  # two frames are kept
    path = write_video(tmp_path / name, scene(COUNT), **settings)
    frames, _ = read_all(path)
    assert [frame.index for frame in frames] == list(range(COUNT))
    video = VideoFile(path)

    for number in [*order(COUNT), *range(COUNT)]:
        assert np.array_equal(video.image(number), frames[number].image), number


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_frame_is_decoded_from_the_key_frame_before_it(tmp_path, monkeypatch, name):
    path = write_video(tmp_path / name, scene(COUNT), options=GOP)
    starts, decoded = [], []

    class Watched(video_file.VideoFileSource):
        def __init__(self, uri, *, start=None):
            starts.append(start)
            super().__init__(uri, start=start)

        def __next__(self):
            decoded.append(1)
            return super().__next__()

    monkeypatch.setattr(video_file, "_PartOfFile", Watched)
    video = VideoFile(path)

    video.image(33)
    assert len(decoded) == 4  # 30 to 33
    video.image(31)  # kept
    video.image(35)
    assert len(decoded) == 6
    video.image(5)
    assert len(decoded) == 12
    video.image(21)
    assert len(decoded) == 14
    assert len(starts) == 3
    assert starts[1] is None
    assert video._index is not None


def test_a_frame_beyond_the_end_is_refused_and_the_others_are_still_there(tmp_path):
    path = write_video(tmp_path / "a.mp4", scene(12), options=GOP)
    frames, _ = read_all(path)
    video = VideoFile(path)

    with pytest.raises(FrameError, match=r"a\.mp4' has no frame 12, or it is damaged"):
        video.image(12)

    assert np.array_equal(video.image(11), frames[11].image)
    assert stated_frames(path) == 12


def test_files_stay_open_four_at_a_time(tmp_path):
    paths = [write_video(tmp_path / f"{n}.mp4", scene(3, seed=n)) for n in range(6)]

    for path in paths + paths:
        assert np.array_equal(read_video_frame(path, 2), read_all(path)[0][2].image)

    assert len(video_file._open) <= 4


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")

    with pytest.raises(SourceError, match=r"a\.mp4'"):
        read_video_frame(tmp_path / "a.mp4", 0)
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        read_video_frame(tmp_path / "b.mp4", 0)
