"""Unlabelled videos and folders as clips."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dff_edge.calibration.sampling import clips as clips_module
from dff_edge.calibration.sampling.clips import FramesClip, open_calibration_clips
from dff_edge.errors import CalibrationError, SourceError
from tests.runtime.sources.videos import scene, write_video


@pytest.fixture
def folder(tmp_path):
    """Twelve images, named so that their natural order is not the alphabetic one."""
    for index in range(12):
        cv2.imwrite(str(tmp_path / f"frame{index}.png"), np.full((6, 8, 3), index, np.uint8))
    return tmp_path


def test_folder_of_images_is_one_clip_in_natural_order(folder):
    (clip,) = open_calibration_clips(str(folder))

    assert len(clip) == 12
    assert [int(clip.image(i)[0, 0, 0]) for i in range(12)] == list(range(12))


def test_each_video_of_a_folder_is_a_clip(tmp_path):
    for name, count in (("drive10", 4), ("drive9", 3)):
        write_video(tmp_path / f"{name}.mp4", scene(count))

    clips = open_calibration_clips(str(tmp_path))

    assert [(clip.name, len(clip)) for clip in clips] == [
        (f"{tmp_path}/drive9.mp4", 3),
        (f"{tmp_path}/drive10.mp4", 4),
    ]


def test_frames_come_by_number_in_any_order(folder):
    clip = FramesClip(str(folder))

    assert [int(clip.image(i)[0, 0, 0]) for i in (5, 11, 2, 2, 3)] == [5, 11, 2, 2, 3]
    clip.close()


def test_rising_numbers_open_the_source_once(folder, monkeypatch):
    clip = FramesClip(str(folder))
    opened = []
    monkeypatch.setattr(
        clips_module,
        "open_source",
        lambda uri, real=clips_module.open_source: opened.append(uri) or real(uri),
    )

    for index in (1, 4, 9):
        clip.image(index)

    assert opened == [str(folder)]
    clip.close()


def test_clip_ends_at_the_bound(folder):
    clip = FramesClip(str(folder), max_frames=5)

    assert len(clip) == 5
    with pytest.raises(IndexError, match="frame 5 of a clip of 5"):
        clip.image(5)


def test_labels_are_not_needed_and_not_in_the_way(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("labelled")
    folder.rename(root / "images")
    (root / "labels").mkdir()

    (clip,) = open_calibration_clips(str(root))

    assert len(clip) == 12


def test_synthetic_clips_are_several():
    assert len(open_calibration_clips("synthetic://street?clips=3&frames=2")) == 3


def test_source_that_becomes_shorter_is_refused(folder):
    clip = FramesClip(str(folder))
    (folder / "frame11.png").unlink()

    with pytest.raises(CalibrationError, match="ended after 11 frames, 12 were there"):
        clip.image(11)


def test_camera_is_refused(monkeypatch):
    class Camera:
        live = True

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(clips_module, "open_source", lambda uri: Camera())

    with pytest.raises(CalibrationError, match=r"'0' is live, expected a video file or a folder"):
        FramesClip("0")
    with pytest.raises(CalibrationError, match=r"'http://\*\*\*@h/live\?\*\*\*' is live"):
        FramesClip("http://u:secret1@h/live?pin=1")


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"none\.mp4"):
        open_calibration_clips(str(tmp_path / "none.mp4"))
