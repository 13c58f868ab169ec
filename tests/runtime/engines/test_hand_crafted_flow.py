"""Hand-crafted flow is the motion that was made, from the current frame to the key frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dff_edge.bundle.levels import Levels
from dff_edge.errors import ConfigError, EngineError, ShapeError
from dff_edge.names import HAND_CRAFTED_FLOWS
from dff_edge.runtime.engines.hand_crafted_flow import HandCraftedFlow

FRAME_SIZE = (192, 256)
HALF = (96, 128)
CELLS = (12, 16)
CELL_PX = 8  # of half-size frames
# SIFT Flow's slow settings differ in numbers alone.
QUICK = tuple(function for function in HAND_CRAFTED_FLOWS if function != "siftflow-slow")
OPENCV = tuple(function for function in HAND_CRAFTED_FLOWS if not function.startswith("siftflow"))


@pytest.fixture(scope="module")
def texture():
    """Smooth and without repetition, larger than a half-size frame by 32 px on each side."""
    noise = np.random.default_rng(5).uniform(0, 255, (HALF[0] + 64, HALF[1] + 64, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)


def view(texture, matrix):
    """A half-size frame whose pixel p shows the texture at ``matrix @ (p, 1)``."""
    matrix = np.asarray(matrix, float) + [[0, 0, 32], [0, 0, 32]]
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    drawn = cv2.warpAffine(texture, matrix, HALF[::-1], flags=flags)
    return np.clip(drawn, 0, 255).astype(np.uint8)[None]


def estimate(function, key, current, **options):
    engine = HandCraftedFlow(function, FRAME_SIZE, 3, threads=1, **options)
    outputs = {name: spec.empty() for name, spec in engine.outputs.items()}
    engine.run({"key_half": key, "frame_half": current}, outputs)
    return outputs


@pytest.mark.parametrize("function", QUICK)
def test_translation_is_found_from_current_to_key(texture, function):
    key = view(texture, [[1, 0, 0], [0, 1, 0]])
    current = view(texture, [[1, 0, 6], [0, 1, -4]])  # current(p) = key(p + (6, -4))

    flow = estimate(function, key, current)["flow"][0, 1:-1, 1:-2]

    errors = np.linalg.norm(flow - np.float32([6, -4]) / CELL_PX, axis=-1)
    assert np.quantile(errors, 0.85) < 0.06  # Farneback's is off where there is little texture


def test_flow_is_in_cells_of_the_stride(texture):
    key, current = view(texture, [[1, 0, 0], [0, 1, 0]]), view(texture, [[1, 0, 6], [0, 1, -4]])

    flow = estimate("dis-medium", key, current, stride=8)["flow"]

    assert flow.shape[1:3] == (2 * CELLS[0], 2 * CELLS[1])
    errors = np.linalg.norm(flow[0, 2:-2, 2:-4] - np.float32([6, -4]) / 4, axis=-1)
    assert np.quantile(errors, 0.85) < 0.12


@pytest.mark.parametrize("function", QUICK)
def test_affine_motion_is_averaged_over_each_cell(texture, function):
    matrix = np.array([[1.03, 0.02, -2.0], [-0.01, 0.98, 1.0]])
    key, current = view(texture, [[1, 0, 0], [0, 1, 0]]), view(texture, matrix)

    flow = estimate(function, key, current)["flow"][0]

    y, x = np.mgrid[: HALF[0], : HALF[1]]
    motion = np.stack([x, y, np.ones_like(x)], -1) @ matrix.T - np.stack([x, y], -1)
    cells = motion.reshape(CELLS[0], CELL_PX, CELLS[1], CELL_PX, 2).mean((1, 3)) / CELL_PX
    inner = np.s_[1:-1, 1:-1]
    assert np.abs(flow - cells)[inner].mean() < 0.03
    assert np.abs(flow - cells)[inner].max() < 0.15


@pytest.mark.parametrize("function", OPENCV)
def test_no_motion_has_no_flow_after_a_large_one(texture, function):
    still = view(texture, [[1, 0, 0], [0, 1, 0]])
    moved = view(texture, [[1, 0, 9], [0, 1, 9]])
    engine = HandCraftedFlow(function, FRAME_SIZE, 3, threads=1)
    outputs = {name: spec.empty() for name, spec in engine.outputs.items()}
    engine.run({"key_half": still, "frame_half": moved}, outputs)
    flat = np.full_like(still, 90)  # where nothing tells a motion, what was found before would stay

    for frame in (flat, still):
        engine.run({"key_half": frame, "frame_half": frame}, outputs)
        np.testing.assert_allclose(outputs["flow"], 0, atol=0.01)


def test_scale_is_one_in_what_maps_travel_in(texture):
    frame = view(texture, [[1, 0, 0], [0, 1, 0]])
    levels = Levels(step=1 / 50, zero=30)

    as_floats = estimate("dis-ultrafast", frame, frame)["scale"]
    as_bytes = estimate("dis-ultrafast", frame, frame, scale_levels=levels)["scale"]

    assert as_floats.dtype == np.float32
    assert as_floats.shape == (1, *CELLS, 3)
    assert (as_floats == 1).all()
    assert as_bytes.dtype == np.uint8
    assert (as_bytes == 80).all()


@pytest.mark.parametrize(
    ("function", "frame_size"),
    [
        *((function, (32, 32)) for function in HAND_CRAFTED_FLOWS),
        *((function, (32, 512)) for function in OPENCV),
    ],
)
def test_smallest_frames_are_taken(function, frame_size):
    engine = HandCraftedFlow(function, frame_size, 1, threads=1)
    inputs = {name: np.zeros(spec.shape, spec.dtype) for name, spec in engine.inputs.items()}
    outputs = {name: np.full(spec.shape, 9, spec.dtype) for name, spec in engine.outputs.items()}

    engine.run(inputs, outputs)

    np.testing.assert_allclose(outputs["flow"], 0, atol=1e-6)


def test_takes_as_many_threads_as_it_was_given(texture):
    frame = view(texture, [[1, 0, 0], [0, 1, 0]])
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        estimate("farneback", frame, frame)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


def test_what_cannot_be_run_is_refused(texture):
    frame = view(texture, [[1, 0, 0], [0, 1, 0]])
    with pytest.raises(ConfigError, match="'network', expected one of dis-ultrafast"):
        HandCraftedFlow("network", FRAME_SIZE, 3)
    with pytest.raises(ConfigError, match="threads is 0"):
        HandCraftedFlow("farneback", FRAME_SIZE, 3, threads=0)
    with pytest.raises(ShapeError, match=r"'frame_half' is uint8 \(1, 48, 128, 3\)"):
        estimate("farneback", frame, np.ascontiguousarray(frame[:, :48]))
    engine = HandCraftedFlow("farneback", FRAME_SIZE, 3)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({}, {})
