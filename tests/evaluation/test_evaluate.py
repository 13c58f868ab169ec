"""Accuracy by the paper's protocol, and temporal consistency, against hand-made numbers."""

import itertools

import numpy as np
import pytest

from dff_edge.boxes import Detections, TrueBoxes
from dff_edge.data.clips import open_clips
from dff_edge.errors import ConfigError, SourceError
from dff_edge.evaluation.evaluate import evaluate, temporal_consistency
from dff_edge.evaluation.label_accuracy import confusion, mean_iou
from dff_edge.synthetic import CLASSES


@pytest.fixture
def rng():
    return np.random.default_rng(20171)


class ListClip:
    """A clip of small frames; frame i is grey i, so that a predictor knows its number."""

    name = "list"

    def __init__(self, truths, flow=None, size=(4, 6)):
        self._truths, self._size = truths, size
        self._flow = flow

    def __len__(self):
        return len(self._truths)

    def image(self, index):
        return np.full((*self._size, 3), index, np.uint8)

    def is_labelled(self, index):
        return self._truths[index] is not None

    def where(self, index):
        return f"list.png, frame {index}"

    def labels(self, index):
        return self._truths[index]

    def boxes(self, index):
        return self._truths[index]

    def flow(self, current, key):
        return self._flow


class Recorder:
    """Answers by a function of (k, i) and remembers what it was asked."""

    def __init__(self, answer):
        self._answer = answer
        self.extracted = []
        self.pairs = []

    def extract(self, image):
        self.extracted.append(int(image[0, 0, 0]))
        return self.extracted[-1]

    def predict(self, key, image):
        current = key if image is None else int(image[0, 0, 0])
        self.pairs.append((key, current))
        return self._answer(key, current)


# ---- the protocol


def test_pairs_are_those_of_the_paper_and_each_key_is_extracted_once():
    truths = [np.zeros((4, 6), np.uint8)] * 7
    truths[4] = None  # not labelled
    recorder = Recorder(lambda k, i: np.zeros((4, 6), np.uint8))

    evaluate(recorder, [ListClip(truths)], ["a", "b"], max_interval=3)

    expected = [(k, i) for i in (2, 3, 5, 6) for k in (i - 2, i - 1, i)]
    assert sorted(recorder.pairs, key=lambda pair: (pair[1], pair[0])) == expected
    assert sorted(recorder.extracted) == [0, 1, 2, 3, 4, 5, 6]


def test_dff_at_l_is_the_mean_over_all_pairs_together(rng):
    truths = list(rng.integers(0, 3, (2, 6, 4, 6)).astype(np.uint8))
    truths[0][2] = 255
    answers = rng.integers(0, 3, (6, 6, 4, 6)).astype(np.uint8)  # by k and i
    recorder = Recorder(lambda k, i: answers[k, i])
    clips = [ListClip(list(truth)) for truth in truths]

    accuracy = evaluate(recorder, clips, ["a", "b", "c"], max_interval=4)

    for interval in (1, 2, 4):
        matrix = np.zeros((3, 3), np.int64)
        for truth, i in itertools.product(truths, (3, 4, 5)):
            for k in range(i - interval + 1, i + 1):
                matrix += confusion(truth[i], answers[k, i], 3)
        assert accuracy.at_interval(interval) == mean_iou(matrix)
    for distance in range(4):
        matrix = np.zeros((3, 3), np.int64)
        for truth, i in itertools.product(truths, (3, 4, 5)):
            matrix += confusion(truth[i], answers[i - distance, i], 3)
        assert accuracy.at_distance(distance) == mean_iou(matrix)
    assert accuracy.at_interval(1) == accuracy.at_distance(0)


def test_class_iou_names_the_classes_and_gives_none_for_absent_ones():
    truth = np.zeros((4, 6), np.uint8)
    truth[0] = 1
    recorder = Recorder(lambda k, i: np.zeros((4, 6), np.uint8))

    accuracy = evaluate(recorder, [ListClip([truth])], ["a", "b", "c"], max_interval=1)

    assert accuracy.by_class(1) == {"a": 0.75, "b": 0.0, "c": None}


def test_progress_counts_clips():
    seen = []
    recorder = Recorder(lambda k, i: np.zeros((4, 6), np.uint8))
    clips = [ListClip([np.zeros((4, 6), np.uint8)])] * 3

    evaluate(recorder, clips, ["a"], 1, lambda done, total: seen.append((done, total)))

    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    "truths",
    [[np.zeros((4, 6), np.uint8)] * 4, [np.zeros((4, 6), np.uint8)] * 4 + [None] * 3, []],
    ids=["short", "labelled too early", "empty"],
)
def test_too_short_clips_are_refused(truths):
    recorder = Recorder(lambda k, i: np.zeros((4, 6), np.uint8))

    with pytest.raises(ConfigError, match="no labelled frame has 4 frames before it in its clip"):
        evaluate(recorder, [ListClip(truths)], ["a"], max_interval=5)


def test_labels_of_another_size_than_the_frame_are_refused():
    recorder = Recorder(lambda k, i: np.zeros((4, 6), np.uint8))

    with pytest.raises(SourceError, match="labels are of 3 x 2 pixels, and frame 0 .* has 6 x 4"):
        evaluate(recorder, [ListClip([np.zeros((2, 3), np.uint8)])], ["a"], 1)


def test_frames_without_labels_that_no_pair_has_are_not_read():
    read = set()

    class Noting(ListClip):
        def image(self, index):
            read.add(index)
            return super().image(index)

    truth = np.zeros((4, 6), np.uint8)
    recorder = Recorder(lambda k, i: truth)

    evaluate(recorder, [Noting([None, None, None, truth, None, None])], ["a"], max_interval=2)

    assert read == {2, 3}


def test_intervals_that_were_not_evaluated_are_refused():
    recorder = Recorder(lambda k, i: np.zeros((4, 6), np.uint8))
    accuracy = evaluate(recorder, [ListClip([np.zeros((4, 6), np.uint8)] * 2)], ["a"], 2)

    for interval in (0, 3):
        with pytest.raises(ConfigError, match=f"interval {interval} was not evaluated, .* 1 to 2"):
            accuracy.at_interval(interval)
    for distance in (-1, 2):
        with pytest.raises(ConfigError, match=f"distance {distance} was not eval.* 0 to 1"):
            accuracy.at_distance(distance)


def test_detections_are_pooled_over_the_pairs():
    """Two frames with one object: found in the second from its own features only."""
    box = np.array([[0, 0, 40, 40]], np.float32)
    truth = TrueBoxes(box, np.int32([0]), np.array([False]))

    def answer(k, i):
        score = 0.9 if (k, i) == (2, 2) else 0.8
        moved = box if i == 1 or k == i else box + 100
        return Detections(moved, np.float32([score]), np.int32([0]))

    clip = ListClip([truth] * 3, size=(40, 60))

    accuracy = evaluate(Recorder(answer), [clip], ["a", "b"], 2, task="detection")

    assert accuracy.metric.title == "mAP@0.5"
    assert accuracy.at_distance(0) == 1.0  # 1 and 2 from themselves
    assert accuracy.at_distance(1) == 0.5  # 1 from 0 and, in vain, 2 from 1; one is as sure
    # Right at 0.9, then three at 0.8 in the order of distances: right, right, wrong.
    assert accuracy.at_interval(2) == pytest.approx(3 / 4)
    assert accuracy.by_class(2) == {"a": pytest.approx(3 / 4), "b": None}


@pytest.mark.parametrize(
    ("task", "answer", "expected"),
    [("segmentation", None, "a label map"), ("detection", np.zeros((4, 6), np.uint8), "boxes")],
)
def test_answers_of_another_task_are_refused(task, answer, expected):
    nothing = np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32)
    recorder = Recorder(lambda k, i: Detections(*nothing) if answer is None else answer)
    boxes = TrueBoxes(np.empty((0, 4), np.float32), np.empty(0, np.int32), np.empty(0, np.bool_))
    clip = ListClip([np.zeros((4, 6), np.uint8) if task == "segmentation" else boxes])

    with pytest.raises(ConfigError, match=f"does not predict {expected}, expected of task"):
        evaluate(recorder, [clip], ["a"], 1, task=task)


def test_data_of_another_task_has_no_labels():
    clip = ListClip([None] * 3)
    with pytest.raises(ConfigError, match="no labelled frame has .* for detection .* is boxes"):
        evaluate(Recorder(None), [clip], ["a"], 1, task="detection")


def test_consistency_of_boxes_is_refused():
    nothing = np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32)
    flow = np.zeros((4, 6, 2), np.float32), np.zeros((4, 6), bool)
    recorder = Recorder(lambda k, i: Detections(*nothing))

    with pytest.raises(ConfigError, match="requested of a model without label maps"):
        temporal_consistency(recorder, [ListClip([None] * 2, flow)], 1, 1)


@pytest.mark.parametrize("measure", [evaluate, temporal_consistency])
def test_an_interval_below_one_is_refused(measure):
    clips = [ListClip([np.zeros((4, 6), np.uint8)])]
    classes = ["a"] if measure is evaluate else 1

    with pytest.raises(ConfigError, match="interval is 0, expected 1 or more"):
        measure(Recorder(None), clips, classes, 0)


# ---- temporal consistency


def test_truth_of_a_synthetic_clip_is_perfectly_consistent():
    (clip,) = open_clips("synthetic://street?frames=8&height=64&width=128")
    frames = {clip.image(index).tobytes(): clip.labels(index) for index in range(len(clip))}

    class Truth:
        def extract(self, image):
            return image

        def predict(self, key, image):
            return frames[(key if image is None else image).tobytes()]

    assert temporal_consistency(Truth(), [clip], len(CLASSES), interval=3) == 1.0


def test_temporal_consistency_by_hand():
    """All moves one pixel to the right each frame; the answer stays where it is."""
    flow, occluded = np.zeros((4, 6, 2), np.float32), np.zeros((4, 6), bool)
    flow[..., 0], occluded[:, 0] = -1, True
    answer = np.zeros((4, 6), np.uint8)
    answer[:, 3:] = 1
    recorder = Recorder(lambda k, i: answer)
    clips = [ListClip([None] * 3, (flow, occluded)), ListClip([None] * 3)]  # one without flow

    consistency = temporal_consistency(recorder, clips, 2, interval=2)

    # A row before, moved: - 0 0 0 1 1. Answered: 0 0 0 1 1 1. Class 0: 2 of 3; class 1: 2 of 3.
    assert consistency == pytest.approx(2 / 3)
    assert recorder.pairs == [(0, 0), (0, 1), (2, 2)]  # Algorithm 1 at l = 2
    assert recorder.extracted == [0, 2]


def test_temporal_consistency_of_vertical_motion_by_hand():
    """All moves one pixel down each frame; the answer stays where it is."""
    flow, occluded = np.zeros((4, 6, 2), np.float32), np.zeros((4, 6), bool)
    flow[..., 1], occluded[0] = -1, True
    answer = np.zeros((4, 6), np.uint8)
    answer[2:] = 1
    recorder = Recorder(lambda k, i: answer)

    consistency = temporal_consistency(recorder, [ListClip([None] * 2, (flow, occluded))], 2, 1)

    # A column before, moved: - 0 0 1. Answered: 0 0 1 1. Class 0: 1 of 2; class 1: 1 of 2.
    assert consistency == pytest.approx(1 / 2)


def test_consistency_is_unknown_without_true_flow():
    recorder = Recorder(lambda k, i: np.zeros((4, 6), np.uint8))

    assert temporal_consistency(recorder, [ListClip([None] * 3)], 1, 1) is None
    assert recorder.pairs == []


def test_consistency_is_unknown_of_a_single_frame():
    flow = np.zeros((4, 6, 2), np.float32), np.zeros((4, 6), bool)
    recorder = Recorder(lambda k, i: np.zeros((4, 6), np.uint8))

    assert temporal_consistency(recorder, [ListClip([None], flow)], 1, 1) is None
