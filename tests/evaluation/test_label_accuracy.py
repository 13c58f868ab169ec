"""Mean IoU of label maps, against hand-made numbers and torchmetrics."""

import numpy as np
import pytest

from dff_edge.errors import ConfigError, ShapeError
from dff_edge.evaluation.label_accuracy import LabelTally, confusion, iou, mean_iou

TRUTH = np.uint8([[0, 0, 1], [1, 1, 2], [255, 2, 2]])
ANSWER = np.uint8([[0, 1, 1], [1, 0, 2], [0, 2, 1]])
# Rows are the truth. Union of class 0: 2 true + 2 answered (void not counted) - 1 hit.
MATRIX = [[1, 1, 0], [1, 2, 0], [0, 1, 2]]
IOU = [1 / 3, 2 / 5, 2 / 3]


@pytest.fixture
def rng():
    return np.random.default_rng(20171)


def test_confusion_by_hand():
    assert confusion(TRUTH, ANSWER, 3).tolist() == MATRIX


def test_a_true_label_of_no_class_is_refused():
    truth = np.uint8([[0, 3, 255]])

    with pytest.raises(ConfigError, match="a true label is class 3, expected 0 to 2"):
        confusion(truth, np.uint8([[0, 0, 0]]), 3)


def test_the_share_that_is_not_scored_is_told():
    tally = LabelTally(("a", "b", "c"), 2)
    tally.add(0, TRUTH, ANSWER)
    tally.add(1, np.full((1, 3), 255, np.uint8), np.zeros((1, 3), np.uint8))

    assert tally.accuracy().not_scored == 4 / 12
    assert LabelTally(("a",), 1).accuracy().not_scored == 0


def test_iou_by_hand():
    matrix = np.array(MATRIX)

    np.testing.assert_allclose(iou(matrix), IOU)
    assert mean_iou(matrix) == pytest.approx(sum(IOU) / 3)


def test_class_that_never_occurs_does_not_count():
    matrix = np.zeros((4, 4), np.int64)
    matrix[:3, :3] = MATRIX

    assert np.isnan(iou(matrix)[3])
    assert mean_iou(matrix) == pytest.approx(sum(IOU) / 3)


def test_class_that_is_answered_but_never_true_counts_as_zero():
    matrix = np.diag([4, 4, 0])
    matrix[0, 2] = 1

    assert iou(matrix).tolist() == [0.8, 1.0, 0.0]


def test_nothing_scored_is_nan():
    assert np.isnan(mean_iou(confusion(np.full((2, 2), 255, np.uint8), ANSWER[:2, :2], 3)))


@pytest.mark.filterwarnings("ignore")
def test_equals_torchmetrics(rng):
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("torchmetrics")
    truth, answer = rng.integers(0, 5, (2, 50, 70)).astype(np.uint8)
    truth[:9] = 255
    metric = metrics.JaccardIndex("multiclass", num_classes=5, ignore_index=255)

    expected = metric(torch.from_numpy(answer.astype(int)), torch.from_numpy(truth.astype(int)))

    assert mean_iou(confusion(truth, answer, 5)) == pytest.approx(float(expected), abs=1e-6)


def test_maps_of_other_sizes_are_refused():
    with pytest.raises(ShapeError, match=r"labels are \(2, 3\), expected the truth's \(3, 3\)"):
        confusion(TRUTH, ANSWER[:2], 3)


def test_answer_of_a_class_that_is_not_scored_is_refused():
    with pytest.raises(ConfigError, match="an answer is class 2, expected 0 to 1"):
        confusion(np.uint8([[0, 1]]), np.uint8([[0, 2]]), 2)
