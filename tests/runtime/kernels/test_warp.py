"""The native warp against Eq. (1)-(3) written as the double sum of the paper."""

from __future__ import annotations

import itertools
import re
import threading

import numpy as np
import pytest

from dff_edge.bundle.levels import Levels, MapLevels
from dff_edge.errors import ConfigError, ShapeError
from dff_edge.runtime.kernels.warp import warp_features

ATOL = 1e-5  # float32: four products, three sums and a scale of values within about 4

SHAPES = [
    (1, 5, 7, 3),
    (2, 7, 5, 13),  # two maps, an odd number of channels
    (1, 1, 9, 4),  # one row
    (1, 9, 1, 17),  # one column
    (1, 1, 1, 1),
]


def warp_by_definition(features, flow, scale=None):
    """Slow and literal: the sum over every cell q with weight G(q, p + M(p)), in float64."""
    n, h, w, channels = features.shape
    out = np.zeros((n, h, w, channels))
    for i, y, x in np.ndindex(n, h, w):
        dx, dy = flow[i, y, x].astype(np.float64)
        weight_x = np.maximum(0, 1 - abs(np.arange(w) - (x + dx)))
        weight_y = np.maximum(0, 1 - abs(np.arange(h) - (y + dy)))
        for qy, qx in np.ndindex(h, w):
            out[i, y, x] += weight_y[qy] * weight_x[qx] * features[i, qy, qx]
    return out if scale is None else out * scale


def random_maps(rng, shape, max_flow):
    n, h, w, _ = shape
    features = rng.standard_normal(shape, np.float32)
    scale = rng.standard_normal(shape, np.float32)
    flow = rng.uniform(-max_flow, max_flow, (n, h, w, 2)).astype(np.float32)
    return features, flow, scale


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("max_flow", [0.0, 0.5, 3.0, 50.0], ids=lambda v: f"flow{v}")
@pytest.mark.parametrize("is_scaled", [False, True], ids=["plain", "scaled"])
def test_matches_the_definition(rng, shape, max_flow, is_scaled):
    features, flow, scale = random_maps(rng, shape, max_flow)
    scale = scale if is_scaled else None

    result = warp_features(features, flow, scale)

    assert result.dtype == np.float32
    np.testing.assert_allclose(result, warp_by_definition(features, flow, scale), atol=ATOL, rtol=0)


def test_matches_the_definition_on_random_shapes(rng):
    for _ in range(50):
        shape = tuple(int(v) for v in rng.integers(1, [4, 9, 9, 40]))
        features, flow, scale = random_maps(rng, shape, float(rng.uniform(0, 6)))

        result = warp_features(features, flow, scale, threads=int(rng.integers(1, 5)))

        expected = warp_by_definition(features, flow, scale)
        np.testing.assert_allclose(result, expected, atol=ATOL, rtol=0, err_msg=str(shape))


def test_whole_cells_are_moved_exactly(rng):
    features, flow, _ = random_maps(rng, (1, 5, 7, 13), 0.0)
    flow[...] = (2, -1)  # read from two to the right, one up

    result = warp_features(features, flow)

    expected = np.zeros_like(features)
    expected[:, 1:, :-2] = features[:, :-1, 2:]
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("is_scaled", [False, True], ids=["plain", "scaled"])
def test_zero_flow_with_scale_one_is_the_identity_to_the_bit(rng, zero, is_scaled):
    features, flow, _ = random_maps(rng, (2, 5, 7, 13), 0.0)
    flow[...] = zero
    # Values that a product with a neighbour's weight of zero would spread or lose.
    features.ravel()[[10, 200, 400, 600, 601]] = [np.inf, -np.inf, np.nan, -0.0, 1e-45]
    scale = np.ones_like(features) if is_scaled else None

    result = warp_features(features, flow, scale)

    np.testing.assert_array_equal(result.view(np.uint32), features.view(np.uint32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38, -1e38, 2.0**63])
@pytest.mark.parametrize("axis", [0, 1], ids=["dx", "dy"])
@pytest.mark.parametrize("is_scaled", [False, True], ids=["plain", "scaled"])
def test_a_flow_without_a_place_in_the_map_gives_zero(rng, bad, axis, is_scaled):
    features, flow, scale = random_maps(rng, (1, 5, 7, 13), 0.5)
    flow[0, 2, 3, axis] = bad
    scale[0, 2, 3, 0] = np.inf  # zero whatever the scale

    result = warp_features(features, flow, scale if is_scaled else None)

    assert (result[0, 2, 3] == 0).all()
    assert np.count_nonzero(result) > 0.9 * (result.size - 13)


def test_a_neighbour_of_weight_zero_is_not_read(rng):
    features, flow, _ = random_maps(rng, (1, 3, 4, 5), 0.0)
    flow[..., 0] = 0.5  # between columns, on the row: the next row has no weight
    features[0, 1] = np.nan

    result = warp_features(features, flow)

    assert np.isfinite(result[0, [0, 2]]).all()


@pytest.mark.parametrize("threads", [2, 3, 256])
def test_threads_do_not_change_a_bit(rng, threads):
    features, flow, scale = random_maps(rng, (2, 5, 7, 13), 3.0)

    one = warp_features(features, flow, scale)
    many = warp_features(features, flow, scale, threads=threads)

    np.testing.assert_array_equal(many, one)


@pytest.mark.parametrize("shape", [(0, 5, 7, 3), (1, 0, 7, 3), (1, 5, 0, 3), (1, 5, 7, 0)], ids=str)
def test_an_empty_map_gives_an_empty_map(shape):
    flow = np.zeros((*shape[:3], 2), np.float32)

    assert warp_features(np.zeros(shape, np.float32), flow, threads=3).shape == shape


def test_out_is_filled_and_returned(rng):
    features, flow, scale = random_maps(rng, (1, 5, 7, 13), 3.0)
    out = np.full_like(features, np.nan)

    result = warp_features(features, flow, scale, out=out)

    assert result is out
    np.testing.assert_array_equal(out, warp_features(features, flow, scale))


def test_read_only_inputs_are_taken(rng):
    features, flow, scale = random_maps(rng, (1, 5, 7, 13), 3.0)
    expected = warp_features(features, flow, scale)
    for array in (features, flow, scale):
        array.flags.writeable = False

    np.testing.assert_array_equal(warp_features(features, flow, scale), expected)


def test_calls_from_several_threads_do_not_disturb_each_other(rng):
    cases = [random_maps(rng, (1, 20, 30, 64), 3.0) for _ in range(4)]
    expected = [warp_features(*case) for case in cases]
    results = [np.empty_like(case[0]) for case in cases]
    start = threading.Barrier(len(cases))

    def work(i):
        start.wait()
        for _ in range(10):
            warp_features(*cases[i], out=results[i], threads=2)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(cases))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


def test_image_sized_flow_is_refused():
    features = np.zeros((1, 4, 6, 8), np.float32)

    with pytest.raises(ShapeError, match=r"\(1, 64, 96, 2\), expected \(1, 4, 6, 2\).*stride"):
        warp_features(features, np.zeros((1, 64, 96, 2), np.float32))


def test_a_batch_that_differs_is_refused():
    with pytest.raises(ShapeError, match=r"\(2, 4, 6, 2\), expected \(1, 4, 6, 2\)"):
        warp_features(np.zeros((1, 4, 6, 8), np.float32), np.zeros((2, 4, 6, 2), np.float32))


@pytest.mark.parametrize("name", ["features", "flow", "scale", "out"])
@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", "int32"])
def test_another_dtype_is_refused(name, dtype):
    arrays = maps_by_name()
    arrays[name] = arrays[name].astype(dtype)

    with pytest.raises(ShapeError, match=rf"{name} has dtype {dtype}, expected float32.*astype"):
        warp_features(**arrays)


@pytest.mark.parametrize("name", ["features", "flow", "scale", "out"])
def test_a_view_with_gaps_is_refused(name):
    arrays = maps_by_name()
    arrays[name] = np.repeat(arrays[name], 2, axis=2)[:, :, ::2]

    with pytest.raises(ShapeError, match=rf"{name} of shape .* strides .*ascontiguousarray"):
        warp_features(**arrays)


@pytest.mark.parametrize("name", ["features", "flow", "scale", "out"])
def test_another_number_of_axes_is_refused(name):
    arrays = maps_by_name()
    arrays[name] = arrays[name][0]

    with pytest.raises(ShapeError, match=rf"{name} has shape \(4, 6, .\), expected 4 axes"):
        warp_features(**arrays)


@pytest.mark.parametrize("name", ["scale", "out"])
def test_another_shape_of_scale_or_out_is_refused(name):
    arrays = maps_by_name()
    arrays[name] = np.zeros((1, 4, 6, 9), np.float32)

    with pytest.raises(ShapeError, match=rf"{name} has shape \(1, 4, 6, 9\), .*\(1, 4, 6, 8\)"):
        warp_features(**arrays)


def test_a_list_is_refused():
    with pytest.raises(ShapeError, match=r"features is a list, expected a numpy array"):
        warp_features([[[[1.0]]]], np.zeros((1, 1, 1, 2), np.float32))


@pytest.mark.parametrize("name", ["features", "scale"])
def test_out_that_is_an_input_is_refused(name):
    arrays = maps_by_name()
    arrays["out"] = arrays[name]

    with pytest.raises(ShapeError, match=f"out overlaps {name}"):
        warp_features(**arrays)


def test_out_that_overlaps_an_input_in_part_is_refused():
    memory = np.zeros(2 * 4 * 6 * 8 - 1, np.float32)
    features = memory[: 4 * 6 * 8].reshape(1, 4, 6, 8)
    out = memory[4 * 6 * 8 - 1 :].reshape(1, 4, 6, 8)

    with pytest.raises(ShapeError, match="out overlaps features"):
        warp_features(features, np.zeros((1, 4, 6, 2), np.float32), out=out)


def test_read_only_out_is_refused():
    arrays = maps_by_name()
    arrays["out"].flags.writeable = False

    with pytest.raises(ShapeError, match="out is read-only"):
        warp_features(**arrays)


@pytest.mark.parametrize("threads", [0, -1, 257, 2.5, "2", None])
def test_a_number_of_threads_out_of_range_is_refused(threads):
    with pytest.raises(ConfigError, match=re.escape(f"threads is {threads!r}, expected")):
        warp_features(**maps_by_name(), threads=threads)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"flow": np.zeros((1, 4, 5, 2), np.float32)}, ValueError),
        ({"scale": np.zeros((1, 4, 6, 9), np.float32)}, ValueError),
        ({"out": np.zeros((1, 4, 6, 9), np.float32)}, ValueError),
        ({"features": np.zeros((1, 4, 6, 8))}, TypeError),  # another dtype: never converted
    ],
)
def test_the_native_module_checks_for_itself(wrong, error):
    from dff_edge import _native

    with pytest.raises(error):
        _native.warp(**(maps_by_name() | wrong), threads=1)


def maps_by_name():
    shapes = itertools.product(["features", "scale", "out"], [(1, 4, 6, 8)])
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes}
    return arrays | {"flow": np.zeros((1, 4, 6, 2), np.float32)}


LEVELS = MapLevels(features=Levels(0.125, 9), scale=Levels(1 / 64, 70))


def random_bytes(rng, shape, max_flow):
    features, scale = (rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    _, flow, _ = random_maps(rng, shape, max_flow)
    return features, flow, scale


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("max_flow", [0.0, 0.7, 3.0])
def test_bytes_match_the_definition_rounded_once(shape, max_flow):
    rng = np.random.default_rng(31)
    features, flow, scale = random_bytes(rng, shape, max_flow)

    out = warp_features(features, flow, scale, levels=LEVELS)

    assert out.dtype == np.uint8
    values = warp_by_definition(
        LEVELS.features.dequantize(features), flow, LEVELS.scale.dequantize(scale)
    )
    exact = np.clip(values / LEVELS.features.step + LEVELS.features.zero, 0, 255)
    assert np.abs(out - exact).max() <= 0.501


def test_bytes_without_flow_at_scale_one_are_the_features():
    rng = np.random.default_rng(32)
    features, _, _ = random_bytes(rng, (1, 5, 7, 33), 0)
    flow = np.zeros((1, 5, 7, 2), np.float32)
    one = np.full(features.shape, 70 + 64, np.uint8)
    np.testing.assert_array_equal(warp_features(features, flow, one, levels=LEVELS), features)
    np.testing.assert_array_equal(warp_features(features, flow, levels=LEVELS), features)


@pytest.mark.parametrize("levels", [None, LEVELS])
def test_maps_of_the_other_type_are_refused(levels):
    rng = np.random.default_rng(33)
    features, flow, scale = random_bytes(rng, (1, 3, 4, 5), 1.0)
    if levels is not None:
        features = features.astype(np.float32)
    with pytest.raises(ShapeError, match="features has dtype"):
        warp_features(features, flow, scale, levels=levels)
    features = features.astype(np.float32 if levels is None else np.uint8)
    scale = scale.astype(np.uint8 if levels is None else np.float32)
    with pytest.raises(ShapeError, match="scale has dtype"):
        warp_features(features, flow, scale, levels=levels)


@pytest.mark.parametrize(
    ("step", "zero"), [(0.0, 1), (-1.0, 1), (np.nan, 1), (1.0, 256), (1.0, -1)]
)
def test_levels_that_mean_nothing_are_refused(step, zero):
    with pytest.raises(ConfigError, match="expected 1e-30 to 1e6 and a byte"):
        Levels(step, zero)
