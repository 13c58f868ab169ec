"""Pairs of video without labels: which frames, of which files."""

import av
import numpy as np
import pytest

from dff_edge.errors import ConfigError, SourceError
from dff_edge.trainer.config import AugmentConfig, DataConfig
from dff_edge.trainer.data import open_pairs
from dff_edge.trainer.data.unlabelled_pairs import UnlabelledPairs, open_videos


def write_video(path, greys, size=(64, 96)):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for grey in greys:
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), grey, np.uint8), "bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def folder(tmp_path):
    """Two videos whose frames tell which they are by their grey, and one of a single frame."""
    write_video(tmp_path / "low.mp4", range(10, 70, 10))
    write_video(tmp_path / "high.mp4", range(130, 210, 10))
    write_video(tmp_path / "one.mp4", [250])
    return tmp_path


def pairs_of(folder, **changes):
    arguments = {
        "seed": 5,
        "frame_size": (32, 48),
        "class_count": 2,
        "length": 20,
        "group": 8,
        "max_distance": 3,
        "augment": AugmentConfig(colour=0),
    }
    return UnlabelledPairs(open_videos(f"videos://{folder}"), **(arguments | changes))


def test_pairs_are_of_one_video_and_up_to_max_distance_apart(folder):
    pairs = pairs_of(folder)
    seen = set()

    for n in range(len(pairs)):
        batch = pairs[n]
        assert set(batch) == {"key", "current", "same", "flow_px"}
        for key, current, same in zip(batch["key"], batch["current"], batch["same"], strict=True):
            k, i = (round(frame.float().mean().item() / 10) for frame in (key, current))
            assert (k >= 13) == (i >= 13)  # one video
            assert same.item() == (k == i)
            seen.add(i - k)

    assert seen == {0, 1, 2, 3}
    assert not pairs.knows_truth
    assert pairs[3]["current"].equal(pairs[3]["current"])  # a function of its number


def test_parts_of_frames_lie_anywhere(folder):
    assert tuple(pairs_of(folder, crop=(32, 32))[0]["key"].shape) == (8, 3, 32, 32)


def open_named(uri, **data):
    return open_pairs(
        DataConfig(train=uri, **data),
        seed=1,
        frame_size=(32, 48),
        class_count=2,
        length=1,
        max_distance=3,
        task="detection",
    )


def test_a_name_is_a_folder_a_file_or_a_glob(folder):
    lengths = {
        name: [len(clip) for clip in open_videos(f"videos://{folder}{name}")]
        for name in ("", "/low.mp4", "/*h.mp4")
    }

    assert lengths == {"": [8, 6], "/low.mp4": [6], "/*h.mp4": [8]}
    assert not open_named(f"videos://{folder}").knows_truth


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("", ConfigError, "names no file, expected videos://FOLDER"),
        ("/nowhere.mp4", SourceError, "nowhere.mp4"),
        ("{folder}/one.mp4", SourceError, "no video of two frames or more"),
        ("0", ConfigError, "'0' is no video file"),
    ],
)
def test_what_is_no_video_is_named(folder, name, error, message):
    with pytest.raises(error, match=message):
        open_videos("videos://" + name.format(folder=folder))


@pytest.mark.parametrize("wrong", [{"motion": "synthetic"}, {"hold_out": 0.2}])
def test_settings_for_labels_are_refused(folder, wrong):
    with pytest.raises(ConfigError, match=r"with 'videos://.*', expected none: it has no labels"):
        open_named(f"videos://{folder}", **wrong)
