"""R-FCN behind its maps, by hand; tests/onnx_graphs/test_detection.py compares it with torch."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.bundle.anchors import anchor_sizes
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.errors import ConfigError, ShapeError
from dff_edge.runtime.kernels.detect import Detector

# One square anchor of 16 px a cell, in a frame of 48 x 16 px.
SETTINGS = RfcnSettings(bins=1, anchor_scales=(1,), anchor_ratios=(1,), proposals=2, detections=3)
MAP_SIZE = (1, 3)


def maps(settings=SETTINGS, map_size=MAP_SIZE, classes=1):
    """Zeros: every anchor is a proposal, and every class as likely as the background."""
    cells = settings.bins**2
    depths = (settings.anchors, 4 * settings.anchors, cells * (classes + 1), cells * 4)
    return [np.zeros((*map_size, depth), np.float32) for depth in depths]


def test_anchors_are_those_of_the_reference():
    # generate_anchors of the reference code, its inclusive maxima one greater.
    corners = [(-84, -40, 100, 56), (-176, -88, 192, 104), (-360, -184, 376, 200)]
    corners += [(-56, -56, 72, 72), (-120, -120, 136, 136), (-248, -248, 264, 264)]
    corners += [(-36, -80, 52, 96), (-80, -168, 96, 184), (-168, -344, 184, 360)]

    sizes = [(x_max - x_min, y_max - y_min) for x_min, y_min, x_max, y_max in corners]
    assert anchor_sizes(RfcnSettings()).tolist() == [list(map(float, size)) for size in sizes]
    assert {(x_min + x_max, y_min + y_max) for x_min, y_min, x_max, y_max in corners} == {(16, 16)}


def test_one_object_by_hand():
    objectness, deltas, class_maps, box_maps = maps()
    objectness[0, :, 0] = [1, 3, 2]  # two proposals: the second cell, then the third
    deltas[0, 1] = [0.25, 0, 0, np.log(0.5)]  # 4 px to the right, half as high: x 20..36, y 4..12
    # The votes are read at x = 28 px, cell 1.25 (twice a sample at 24 and at 32 px: 1 and 1.5).
    class_maps[0, :, 1] = [0, 4, 8]
    box_maps[0, :, 0] = 0.5  # all objects, half of their width to the right

    found = Detector(SETTINGS, MAP_SIZE, 1).finish(objectness, deltas, class_maps, box_maps)

    # The third cell: at 36 and 44 px, cells 1.75 and 2.25, the latter clamped to 2: votes 7 and 8.
    scores = 1 / (1 + np.exp(-np.array([7.5, 5.0])))
    np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
    np.testing.assert_allclose(found.boxes, [[40, 0, 48, 16], [28, 4, 44, 12]], atol=1e-5)
    assert found.labels.tolist() == [0, 0]
    assert (found.boxes.dtype, found.labels.dtype) == (np.float32, np.int32)


def test_a_result_is_not_overwritten_by_the_next():
    detector = Detector(SETTINGS, MAP_SIZE, 1)
    first = detector.finish(*maps())
    before = first.boxes.copy()
    objectness, *others = maps()
    objectness[0, 2] = 1

    second = detector.finish(objectness, *others)

    assert not np.array_equal(second.boxes, before)
    np.testing.assert_array_equal(first.boxes, before)


def test_score_of_the_limit_itself_is_reported():
    exact = SETTINGS.model_copy(update={"min_score": 0.5})
    above = SETTINGS.model_copy(update={"min_score": 0.51})

    assert len(Detector(exact, MAP_SIZE, 1).finish(*maps())) == 2
    assert len(Detector(above, MAP_SIZE, 1).finish(*maps())) == 0


@pytest.mark.parametrize("index", range(4))
def test_map_of_another_model_is_refused(index):
    wrong = maps()
    wrong[index] = np.zeros((1, 3, 77), np.float32)
    name = ("objectness", "deltas", "class_maps", "box_maps")[index]

    with pytest.raises(ShapeError, match=rf"{name} has shape \(1, 3, 77\), expected \(1, 3, "):
        Detector(SETTINGS, MAP_SIZE, 1).finish(*wrong)


def test_maps_beyond_the_native_code_are_refused():
    with pytest.raises(ConfigError, match=r"\(1, 5000\) cells.*4096"):
        Detector(SETTINGS, (1, 5000), 1)


def test_threads_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="threads is 0"):
        Detector(SETTINGS, MAP_SIZE, 1).finish(*maps(), threads=0)
