"""Precision, recall and F1 by score: numbers by hand, and counting again for each threshold."""

import numpy as np
import pytest

from dff_edge.errors import ConfigError
from dff_edge.evaluation.box_accuracy import BoxTally, Matches, match
from dff_edge.evaluation.score_threshold import (
    CANDIDATES,
    at_score,
    choose_threshold,
    curve,
    mean_f1,
    measure_boxes,
)
from tests.evaluation.boxes import found, random_frames, true


def matches(rows, truths):
    """Matches of ``(score, label, right)``, and so many true boxes of each class."""
    scores, labels, right = zip(*rows, strict=True) if rows else ((), (), ())
    return Matches(
        np.array(scores, np.float32),
        np.array(labels, np.int32),
        np.array(right, bool),
        np.array(truths, np.int64),
    )


BY_HAND = matches(
    [(0.9, 0, True), (0.8, 0, False), (0.6, 0, True), (0.6, 0, False), (0.2, 1, True)], [4, 2]
)


def test_curve_by_hand():
    first, second = curve(BY_HAND, 0), curve(BY_HAND, 1)
    np.testing.assert_allclose(first.scores, [0.9, 0.8, 0.6])  # equal scores are one point
    np.testing.assert_allclose(first.precision, [1, 1 / 2, 2 / 4])
    np.testing.assert_allclose(first.recall, [1 / 4, 1 / 4, 2 / 4])
    np.testing.assert_allclose(second.precision, [1])
    np.testing.assert_allclose(second.recall, [1 / 2])


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.95, (None, 0.0)),
        (0.9, (1.0, 0.25)),  # as Detections.above: at least, in float32
        (0.7, (0.5, 0.25)),
        (0.1, (0.5, 0.5)),
    ],
)
def test_precision_and_recall_at_a_score(score, expected):
    assert at_score(curve(BY_HAND, 0), score) == expected


def test_recall_of_a_class_that_does_not_occur_is_unknown():
    one = matches([(0.9, 1, False)], [3, 0])
    assert at_score(curve(one, 1), 0.5) == (0.0, None)
    assert at_score(curve(one, 1), 0.95) == (None, None)
    assert at_score(curve(one, 0), 0.5) == (None, 0.0)


def test_best_threshold_by_hand():
    # Class 0 has F1 2/5, 2/6, 4/8 by its three scores, class 1 2/3 from 0.2 down.
    np.testing.assert_allclose(
        mean_f1(BY_HAND, np.array([0.9, 0.8, 0.6, 0.2])),
        [0.2, 1 / 6, 0.25, (1 / 2 + 2 / 3) / 2],
        rtol=1e-6,
    )
    choice = choose_threshold(BY_HAND)
    assert choice.f1 == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert choice.score == 0.1  # the middle of 0.01 to 0.2


def test_class_that_does_not_occur_does_not_count():
    without = matches([(0.9, 0, True)], [1, 0])
    beside = matches([(0.9, 0, True), (0.99, 1, False)], [1, 0])
    assert choose_threshold(without) == choose_threshold(beside)


def test_no_true_box_is_refused():
    with pytest.raises(ConfigError, match="no frame that was scored has a true box"):
        choose_threshold(matches([(0.9, 0, False)], [0]))


@pytest.mark.parametrize("seed", range(4))
def test_each_threshold_is_as_if_boxes_below_it_were_not_there(seed):
    frames = random_frames(seed, count=12, classes=3)
    tally = BoxTally(("a", "b", "c"), 1)
    for truth, answer in frames:
        tally.add(0, truth, answer)
    whole = tally.accuracy().matches(range(1))
    for score in (0.2, 0.5, 0.77):
        parts = [match(answer.above(score), truth, 3) for truth, answer in frames]
        shown = Matches.join(parts, 3)
        f1 = []
        for label in range(3):
            of_class = shown.labels == label
            hits, count = int(shown.right[of_class].sum()), int(of_class.sum())
            precision, recall = at_score(curve(whole, label), score)
            assert precision == (hits / count if count else None)
            assert recall == hits / whole.truths[label]
            f1.append(0.0 if not hits else 2 / (1 / precision + 1 / recall))
        assert mean_f1(whole, np.array([score]))[0] == pytest.approx(np.mean(f1))
    choice = choose_threshold(whole)
    assert choice.f1 == max(mean_f1(whole, np.array([one]))[0] for one in CANDIDATES)


def test_report_is_at_the_models_threshold_or_the_default():
    tally = BoxTally(("a", "b", "c"), 2)
    for distance in range(2):
        for truth, answer in random_frames(distance, count=4, classes=3):
            tally.add(distance, truth, answer)
    accuracy = tally.accuracy()
    report = measure_boxes(accuracy, None)
    assert (report.threshold, report.is_own) == (0.5, False)
    assert len(report.matches.scores) == sum(len(own.scores) for own in accuracy.by_distance)
    other = report.with_threshold(0.2)
    assert (other.threshold, other.is_own) == (0.2, True)
    assert other.f1 == pytest.approx(mean_f1(report.matches, np.array([0.2]))[0])
    assert other.as_dict()["best_threshold"] == choose_threshold(report.matches).score


def test_report_of_nothing_says_that_it_knows_nothing():
    tally = BoxTally(("a",), 1)
    tally.add(0, true(), found())
    none = measure_boxes(tally.accuracy(), None).as_dict()
    assert (none["f1"], none["best_threshold"], none["recall"]) == (None, None, {"a": None})
