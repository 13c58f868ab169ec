"""mAP: numbers by hand, and the evaluation of ImageNet VID told once more, box by box."""

import itertools

import numpy as np
import pytest

from dff_edge.errors import ConfigError
from dff_edge.evaluation.box_accuracy import BoxTally, average_precision, match
from tests.evaluation.boxes import found, random_frames, true


def map_of(frames, class_count=2):
    tally = BoxTally([f"c{index}" for index in range(class_count)], 1)
    for truth, answer in frames:
        tally.add(0, truth, answer)
    return tally.accuracy()


def vid_map(frames, class_count):
    """The rules of ImageNet VID, in inclusive pixels as they are told there."""
    marks, truths = [], [0] * class_count
    for truth, answer in frames:
        boxes = [(*box[:2], box[2] - 1, box[3] - 1) for box in truth.boxes.tolist()]
        for label in truth.labels:
            truths[label] += 1
        taken = set()
        for index in sorted(range(len(answer)), key=lambda n: -answer.scores[n]):
            box = answer.boxes[index].tolist()
            box = (*box[:2], box[2] - 1, box[3] - 1)
            best, chosen = -1.0, None
            for number, other in enumerate(boxes):
                if truth.labels[number] != answer.labels[index] or number in taken:
                    continue
                width = other[2] - other[0] + 1
                height = other[3] - other[1] + 1
                least = min(0.5, width * height / ((width + 10) * (height + 10)))
                wide = min(box[2], other[2]) - max(box[0], other[0]) + 1
                high = min(box[3], other[3]) - max(box[1], other[1]) + 1
                if wide <= 0 or high <= 0:
                    continue
                own = (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
                overlap = wide * high / (own + width * height - wide * high)
                if overlap >= least and overlap > best:
                    best, chosen = overlap, number
            if chosen is not None:
                taken.add(chosen)
            mark = (float(answer.scores[index]), int(answer.labels[index]), chosen is not None)
            marks.append(mark)
    areas = []
    for label in range(class_count):
        if not truths[label]:
            continue
        right = [mark[2] for mark in sorted(marks, key=lambda m: -m[0]) if mark[1] == label]
        recalls, precisions = [0.0], []
        for number in range(1, len(right) + 1):
            hits = sum(right[:number])
            recalls.append(hits / truths[label])
            precisions.append(hits / number)
        area = 0.0
        for number in range(len(right)):
            area += (recalls[number + 1] - recalls[number]) * max(precisions[number:])
        areas.append(area)
    return sum(areas) / len(areas)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_evaluation_of_imagenet_vid(seed):
    frames = random_frames(seed, count=12, classes=3)

    expected = vid_map(frames, 4)

    assert 0.1 < expected < 0.9
    assert map_of(frames, 4).at_distance(0) == pytest.approx(expected, abs=1e-9)


def test_average_precision_by_hand():
    # Precision 1, 1/2, 2/3, 2/4, 3/5 at recalls 1/4, 1/4, 2/4, 2/4, 3/4.
    right = np.array([True, False, True, False, True])
    assert average_precision(right, 4) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    assert average_precision(np.zeros(3, bool), 4) == 0
    assert average_precision(np.zeros(0, bool), 4) == 0
    assert np.isnan(average_precision(right, 0))


@pytest.mark.parametrize(
    ("boxes", "right"),
    [
        ([(0, 0, 40, 40, 0.9, 0)], [True]),
        ([(0, 0, 40, 40, 0.9, 1)], [False]),  # another class
        ([(0, 0, 40, 20, 0.9, 0)], [True]),  # an IoU of exactly one half
        ([(0, 0, 40, 19, 0.9, 0)], [False]),
        ([(0, 0, 40, 30, 0.9, 0), (0, 0, 40, 40, 0.8, 0)], [True, False]),  # the surer one takes it
        ([(0, 0, 40, 19, 0.9, 0), (0, 0, 40, 40, 0.8, 0)], [False, True]),
        ([(0, 0, 40, 40, 0.8, 0), (0, 0, 40, 30, 0.9, 0)], [True, False]),  # in order of score
    ],
)
def test_an_object_is_found_once(boxes, right):
    assert match(found(*boxes), true((0, 0, 40, 40, 0, 0)), 2).right.tolist() == right


def test_of_two_objects_that_overlap_enough_the_nearer_is_taken():
    truth = true((0, 0, 40, 40, 0, 0), (5, 0, 45, 40, 0, 0))
    both = found((4, 0, 44, 40, 0.9, 0), (2, 0, 42, 40, 0.8, 0))
    assert match(both, truth, 1).right.tolist() == [True, True]


def test_small_objects_need_less():
    # 10 x 10: 100 / 400 of an IoU; 4 x 8 of it inside is 32 / 100.
    truth = true((0, 0, 10, 10, 0, 0))
    assert match(found((0, 0, 4, 8, 0.9, 0)), truth, 1).right.tolist() == [True]
    assert match(found((0, 0, 4, 6, 0.9, 0)), truth, 1).right.tolist() == [False]


def test_what_lies_in_an_ignored_object_is_neither_right_nor_wrong():
    truth = true((0, 0, 100, 100, 0, 1), (200, 0, 240, 40, 0, 0))
    answer = found(
        (10, 10, 30, 30, 0.9, 0),  # in it: left out, however small
        (90, 0, 110, 20, 0.8, 0),  # half in it: left out
        (91, 0, 111, 20, 0.7, 0),  # less than half
        (10, 10, 30, 30, 0.6, 1),  # of another class
        (200, 0, 240, 40, 0.5, 0),
    )

    matches = match(answer, truth, 2)

    assert matches.scores.tolist() == pytest.approx([0.7, 0.6, 0.5])
    assert matches.right.tolist() == [False, False, True]
    assert matches.truths.tolist() == [1, 0]  # nor has the ignored one to be found


def test_boxes_are_taken_by_score_over_all_frames():
    truth = true((0, 0, 40, 40, 0, 0))
    right, wrong = (0, 0, 40, 40), (100, 100, 140, 140)
    sure_of_right = [(truth, found((*wrong, 0.3, 0))), (truth, found((*right, 0.9, 0)))]
    sure_of_wrong = [(truth, found((*wrong, 0.9, 0))), (truth, found((*right, 0.3, 0)))]

    assert map_of(sure_of_right).at_distance(0) == pytest.approx(1 / 2)
    assert map_of(sure_of_wrong).at_distance(0) == pytest.approx(1 / 4)


def test_classes_without_a_true_box_are_left_out():
    truth = true((0, 0, 40, 40, 0, 0), (50, 0, 90, 40, 2, 0))
    answer = found((0, 0, 40, 40, 0.9, 0), (0, 0, 40, 40, 0.8, 1))

    accuracy = map_of([(truth, answer)], 3)

    assert accuracy.by_class(1) == {"c0": 1.0, "c1": None, "c2": 0.0}
    assert accuracy.at_distance(0) == 0.5
    assert np.isnan(map_of([(true(), answer)], 3).at_distance(0))


def test_frames_and_answers_without_boxes():
    truth = true((0, 0, 40, 40, 0, 0))
    for frames in itertools.permutations([(truth, found()), (true(), found()), (true(), found())]):
        assert map_of(frames).at_distance(0) == 0.0


def test_a_class_that_the_truth_cannot_have_is_refused():
    with pytest.raises(ConfigError, match="a detection is of class 2, expected 0 to 1"):
        match(found((0, 0, 4, 4, 0.5, 2)), true(), 2)


def test_the_share_that_is_ignored_is_told():
    tally = BoxTally(("a", "b"), 1)
    tally.add(0, true((0, 0, 4, 4, 0, 0), (9, 9, 20, 20, 0, 1), (9, 9, 30, 20, 1, 0)), found())
    tally.add(0, true((0, 0, 4, 4, 1, 0)), found())

    assert tally.accuracy().not_scored == 1 / 4
    assert BoxTally(("a",), 1).accuracy().not_scored == 0
