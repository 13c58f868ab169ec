"""Boxes for tests of what is measured of them."""

import numpy as np

from dff_edge.boxes import Detections, TrueBoxes


def found(*rows):
    """Detections of ``(x_min, y_min, x_max, y_max, score, label)``."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int32),
    )


def true(*rows):
    """True boxes of ``(x_min, y_min, x_max, y_max, label, ignored)``."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return TrueBoxes(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.int32), table[:, 5].astype(bool)
    )


def random_frames(seed, *, count, classes):
    """Frames of true boxes with detections: each box is found about twice, moved a little."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        number = rng.integers(0, 6)
        corners = rng.integers(0, 60, (number, 2))
        sides = rng.integers(3, 50, (number, 2))  # small ones too, which are found more easily
        truth = np.hstack([corners, corners + sides])
        labels = rng.integers(0, classes, number)
        boxes = np.repeat(truth, 2, axis=0) + rng.integers(-5, 6, (2 * number, 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        # Sometimes as another class.
        answered = np.where(rng.random(2 * number) < 0.8, np.repeat(labels, 2), classes - 1)
        scores = rng.permutation(1000)[: 2 * number] / 1000
        frames.append(
            (
                true(*np.column_stack([truth, labels, np.zeros(number)])),
                found(*np.column_stack([boxes, scores + rng.random() / 1e3, answered])),
            )
        )
    return frames
