"""Pictures of predictions: truth on the left, the model's answer on the right."""

import cv2
import numpy as np
import pytest

from dff_edge.boxes import Detections
from dff_edge.data.clips import open_clips
from dff_edge.synthetic import COLOURS
from dff_edge.trainer.prediction_pictures import PredictionPictures
from tests.trainer.tiny import DETECTION_MODEL, tiny_config

CLIPS = "synthetic://street?clips=2&frames=6&height=64&width=128"


class Oracle:
    """Answers from the truth; notes which key frames it is asked from."""

    def __init__(self, clips, answer):
        self.clips, self.answer, self.keys = clips, answer, []

    def _find(self, image):
        for clip in self.clips:
            for i in range(len(clip)):
                if np.array_equal(clip.image(i), image):
                    return clip, i
        raise AssertionError("a frame of no clip")

    def extract(self, image):
        return self._find(image)

    def predict(self, key, image):
        clip, index = key if image is None else self._find(image)
        assert clip is key[0]
        self.keys.append(index - key[1])
        return self.answer(clip, index)


def drawn(folder, clips, task, answer, *, interval=1, step=25):
    pictures = PredictionPictures(folder, clips, task, interval=interval, done_steps=300)
    oracle = Oracle(clips, answer)
    path = pictures.draw(oracle, step)
    return path, cv2.imread(str(path)), oracle


def test_right_labels_look_like_the_truth_and_wrong_ones_do_not(tmp_path):
    """Four frames, 64 x 128 each, beside each other with 4 pixels between."""
    clips, task = open_clips(CLIPS), tiny_config().model.task

    path, right, oracle = drawn(tmp_path, clips, task, lambda clip, i: clip.labels(i))
    sky = np.zeros((64, 128), np.uint8)
    _, wrong, _ = drawn(tmp_path, clips, task, lambda *_: sky)

    assert path == tmp_path / "predictions" / "step_000325.jpg"
    assert right.shape == (4 * 68 - 4, 260, 3)
    assert oracle.keys == [0] * 4
    halves = [np.float32(each[20:64]) for each in (right, wrong)]  # below the caption
    near, far = (np.abs(half[:, 70:128] - half[:, 202:]).mean() for half in halves)
    assert near < 25 < far
    blend = (clips[0].image(0).astype(np.float32) + np.float32(COLOURS[0])[::-1]) / 2
    np.testing.assert_allclose(halves[1][:, 202:], blend[20:64, 70:], atol=60)


def test_the_legend_is_below_the_frames_and_hides_none(tmp_path):
    clips = open_clips("synthetic://street?clips=1&frames=2&height=240&width=480")
    task = tiny_config().model.task

    _, picture, _ = drawn(tmp_path, clips, task, lambda clip, i: clip.labels(i))

    rows, strip = picture[: 2 * 244 - 4], picture[2 * 244 - 4 :]
    halves = np.float32(rows[30:240, :480]), np.float32(rows[30:240, 484:])  # below the captions
    assert np.abs(halves[0] - halves[1]).mean() < 8  # JPEG, and opacities a little apart
    assert np.abs(halves[0] - halves[1])[-100:, :160].mean() < 8
    for colour in task.colours:
        found = np.abs(np.float32(strip) - np.float32(colour)[::-1]).max(axis=2) < 40
        assert found.sum() > 40, colour


def test_pairs_are_drawn_at_their_distance(tmp_path):
    clips, task = open_clips(CLIPS), tiny_config().model.task

    _, picture, oracle = drawn(tmp_path, clips, task, lambda c, i: c.labels(i), interval=5)

    assert oracle.keys == [4] * 4
    assert picture.shape[0] == 4 * 68 - 4


def test_boxes_are_drawn_at_their_place_in_large_frames_too(tmp_path):
    """Frames of 960 pixels are drawn with 480, and so are their boxes."""
    clips = open_clips("synthetic://street?clips=1&frames=1&height=480&width=960")
    task = tiny_config(model=DETECTION_MODEL).model.task

    def answer(clip, index):
        truth = clip.boxes(index)
        return Detections(truth.boxes, np.ones(len(truth), np.float32), truth.labels)

    nothing = Detections(np.zeros((0, 4), np.float32), np.float32([]), np.int32([]))

    _, right, _ = drawn(tmp_path, clips, task, answer)
    _, none, _ = drawn(tmp_path, clips, task, lambda *_: nothing)

    assert right.shape == (240, 964, 3)
    outlines = np.abs(np.float32(right[:, :480]) - np.float32(right[:, 484:]))[60:]
    lacking = np.abs(np.float32(none[:, :480]) - np.float32(none[:, 484:]))[60:]
    assert lacking.mean() > 2 * outlines.mean()


@pytest.mark.parametrize("frames", [1, 3])
def test_few_frames_are_all_drawn(tmp_path, frames):
    clips = open_clips(f"synthetic://street?clips=1&frames={frames}&height=64&width=128")
    task = tiny_config().model.task

    _, picture, _ = drawn(tmp_path, clips, task, lambda clip, i: clip.labels(i))

    assert picture.shape[0] == frames * 68 - 4
