"""Pictures: the right frames, the right answers, JPEG."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dff_edge.boxes import Detections, TrueBoxes
from dff_edge.frames import Image, LabelMap
from dff_edge.report.pictures import draw_pictures

COLOURS = [(255, 0, 0), (0, 255, 0)]
LABEL_MAPS = {"task": "segmentation", "names": ["road", "car"]}


class Painter:
    """Answers class 0 for key frames and class 1 for others; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Image | None] = []

    def extract(self, image: Image) -> Image:
        return image

    def predict(self, key: Image, image: Image | None) -> LabelMap:
        self.asked.append(image)
        return np.full(key.shape[:2], 0 if image is None else 1, np.uint8)


def test_frames_are_answered_from_the_first() -> None:
    images = [np.full((32, 48, 3), 20 * i, np.uint8) for i in range(6)]
    truth = np.zeros((32, 48), np.uint8)
    truth[:8] = 1  # a quarter
    painter = Painter()

    pictures = draw_pictures(painter, images, [truth] * 6, COLOURS, (0, 1, 4, 9), **LABEL_MAPS)

    assert [picture.distance for picture in pictures] == [0, 1, 4]
    assert painter.asked[0] is None
    assert painter.asked[1] is images[1]
    assert painter.asked[2] is images[4]
    assert [picture.right for picture in pictures] == [0.75, 0.25, 0.25]
    red, green = _mean_rgb(pictures[0].answer), _mean_rgb(pictures[1].answer)
    assert red[0] > red[1] + 50
    assert green[1] > green[0] + 50


def test_no_truth_no_score() -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    (picture,) = draw_pictures(Painter(), [image], [None], COLOURS, **LABEL_MAPS)

    assert picture.truth is None
    assert picture.right is None


def test_truth_that_scores_nothing_gives_no_share() -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    unlabelled = np.full((32, 48), 255, np.uint8)
    (picture,) = draw_pictures(Painter(), [image], [unlabelled], COLOURS, **LABEL_MAPS)

    assert picture.right is None


@pytest.mark.parametrize(
    ("min_score", "found"), [(None, 0.5), (0.35, 1.0), (0.95, 0.0)], ids=["shown", "low", "high"]
)
def test_objects_that_are_not_drawn_are_not_counted(min_score: float | None, found: float) -> None:
    boxes = np.float32([[2, 40, 20, 50], [100, 60, 150, 110]])
    labels = np.int32([0, 1])
    truth = TrueBoxes(boxes, labels, np.zeros(2, bool), (120, 160))

    class Finder(Painter):
        def predict(self, key: Image, image: Image | None) -> Detections:
            return Detections(boxes, np.float32([0.9, 0.4]), labels)

    image = np.zeros((120, 160, 3), np.uint8)
    (picture,) = draw_pictures(
        Finder(),
        [image],
        [truth],
        COLOURS,
        task="detection",
        names=["sign", "car"],
        min_score=min_score,
    )

    assert (picture.right, picture.measure) == (found, "of the objects found")
    is_second_drawn = _decode(picture.answer)[55:, 90:].max() > 30
    assert is_second_drawn == (found == 1.0)
    assert _decode(picture.truth or b"")[55:, 90:, 1].max() > 150


def test_large_frames_are_made_smaller() -> None:
    image = np.zeros((720, 1280, 3), np.uint8)
    (picture,) = draw_pictures(Painter(), [image], [None], COLOURS, **LABEL_MAPS)

    assert _decode(picture.frame).shape == (360, 640, 3)


def _decode(data: bytes) -> Image:
    assert data.startswith(b"\xff\xd8")
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def _mean_rgb(data: bytes) -> tuple[float, ...]:
    return tuple(float(value) for value in _decode(data).mean(axis=(0, 1))[::-1])
