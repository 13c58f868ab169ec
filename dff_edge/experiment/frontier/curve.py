"""A curve of accuracy against time, compared with one network on every frame.

Between two key intervals a curve is straight over the logarithm of time. Points that another one of
the curve beats in both, accuracy and time, are left out: nobody would run them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Point(NamedTuple):
    """A way to run networks.

    Attributes:
        ms: time of a frame, the mean over all.
        accuracy: 0..1.
    """

    ms: float
    accuracy: float


def front(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other one beats, from the fastest to the most accurate.

    Example:
        >>> front([Point(10, 0.7), Point(4, 0.5), Point(5, 0.4)])
        [Point(ms=4, accuracy=0.5), Point(ms=10, accuracy=0.7)]
    """
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.ms, -point.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return kept


def speed_ratio(curve: Sequence[Point], rival: Point) -> float | None:
    """Return the frames per second of a curve at a rival's accuracy, over those of the rival.

    At least that, where the curve is more accurate than the rival from its fastest point on; None
    where it nowhere is as accurate.

    Example:
        >>> speed_ratio([Point(4, 0.5), Point(16, 0.7)], Point(16, 0.6))
        2.0
    """
    points = front(curve)
    if rival.accuracy > points[-1].accuracy:
        return None
    log_ms = np.interp(
        rival.accuracy, [point.accuracy for point in points], [math.log(p.ms) for p in points]
    )
    return rival.ms / math.exp(float(log_ms))


def points_ahead(curve: Sequence[Point], rival: Point) -> float | None:
    """Return the accuracy of a curve in a rival's time, less that of the rival.

    Of more time than the curve can use, it takes what it can; None where it nowhere is as fast.

    Example:
        >>> round(points_ahead([Point(4, 0.5), Point(16, 0.7)], Point(8, 0.55)), 3)
        0.05
    """
    points = front(curve)
    if rival.ms < points[0].ms:
        return None
    accuracy = np.interp(
        math.log(rival.ms), [math.log(p.ms) for p in points], [point.accuracy for point in points]
    )
    return float(accuracy) - rival.accuracy
