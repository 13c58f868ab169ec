"""propagate.onnx in other precisions: the same warp, another task network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from dff_edge.bundle.graphs.onnx_check import check_onnx
from dff_edge.bundle.graphs.tensorrt_check import check_for_tensorrt
from dff_edge.bundle.levels import INT8, Levels, MapLevels
from dff_edge.calibration.ort.fp16 import to_fp16
from dff_edge.calibration.ort.int8 import quantize_graph
from dff_edge.calibration.trt.fp16 import to_half
from dff_edge.calibration.trt.int8 import quantize_symmetric
from dff_edge.onnx_graphs.propagate import plugin_propagate, portable_propagate, propagate_with
from dff_edge.runtime.kernels.warp import warp_features
from tests.calibration.ort.test_int8 import outputs_of


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(8)
    return {
        "features": rng.uniform(0, 2, (1, 4, 6, 12)).astype(np.float32),
        "flow": rng.uniform(-2, 2, (1, 4, 6, 2)).astype(np.float32),
        "scale": rng.uniform(0.5, 1.5, (1, 4, 6, 12)).astype(np.float32),
    }


def test_it_is_the_warp_and_then_the_task_graph(bundle, inputs):
    task = to_fp16(bundle.graph_bytes("fp32", "task"))

    propagate = propagate_with(bundle.graph_bytes("fp32", "propagate"), task)

    warped = warp_features(inputs["features"], inputs["flow"], inputs["scale"])
    expected = outputs_of(task, {"features": warped})["scores"]
    found = outputs_of(propagate, inputs)["scores"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


def test_of_bytes_it_is_the_native_warp_of_bytes_and_then_the_task_graph(bundle, samples, inputs):
    levels = MapLevels(features=Levels(2.5 / 255, 3), scale=Levels(1 / 128, 20))
    task = quantize_graph(bundle.graph_bytes("fp32", "task"), samples.task_inputs(bundle), levels)

    propagate = propagate_with(bundle.graph_bytes("fp32", "propagate"), task, levels)

    given = {
        "features": levels.features.quantize(inputs["features"]),
        "flow": inputs["flow"],
        "scale": levels.scale.quantize(inputs["scale"]),
    }
    warped = warp_features(*given.values(), levels=levels)
    expected = outputs_of(task, {"features": warped})["scores"]
    found = outputs_of(propagate, given)["scores"]
    # A value between two bytes may fall to either side.
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05)


def test_warp_function_is_not_touched(bundle):
    fp32 = bundle.graph_bytes("fp32", "propagate")
    task = to_fp16(bundle.graph_bytes("fp32", "task"))

    before, after = (onnx.load_from_string(g) for g in (fp32, propagate_with(fp32, task)))

    assert list(after.functions) == list(before.functions)
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output


SYMMETRIC = MapLevels(features=Levels(2.5 / 127, 0, INT8), scale=Levels(1 / 64, 0, INT8))


@pytest.fixture(params=["float32", "float16", "int8"])
def tensorrt(request, bundle, inputs):
    """Task graph, levels, and inputs of a type that maps travel in."""
    fp32 = bundle.graph_bytes("fp32", "task")
    maps = {name: inputs[name] for name in ("features", "scale")}
    if request.param == "float32":
        return fp32, None, inputs
    if request.param == "float16":
        halves = {name: array.astype(np.float16) for name, array in maps.items()}
        return to_half(fp32), None, {**inputs, **halves}
    bytes_ = {name: SYMMETRIC.by_name[name].quantize(array) for name, array in maps.items()}
    return quantize_symmetric(fp32, [], SYMMETRIC), SYMMETRIC, {**inputs, **bytes_}


def test_portable_form_is_the_warp_of_the_values_rounded_once(bundle, tensorrt):
    task, levels, given = tensorrt

    portable = portable_propagate(bundle.graph_bytes("fp32", "propagate"), task, levels)

    values = {name: array.astype(np.float32) for name, array in given.items()}
    if levels is not None:
        values["features"] = levels.features.dequantize(given["features"])
        values["scale"] = levels.scale.dequantize(given["scale"])
    warped = warp_features(values["features"], values["flow"], values["scale"])
    if levels is not None:
        warped = levels.features.quantize(warped)
    expected = outputs_of(task, {"features": warped.astype(given["features"].dtype)})["scores"]
    # A value between two bytes, or two halves, may fall to either side.
    tolerance = {"float32": 1e-5, "float16": 2e-3, "int8": 0.05}[given["features"].dtype.name]
    found = outputs_of(portable, given)["scores"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert not onnx.load_from_string(portable).functions
    check_for_tensorrt(check_onnx(portable, "portable", flavour="trt"), "portable")


def test_plugin_node_takes_the_maps_as_they_travel(bundle, tensorrt):
    task, levels, given = tensorrt

    model = onnx.load_from_string(
        plugin_propagate(bundle.graph_bytes("fp32", "propagate"), task, levels)
    )

    (warp,) = (node for node in model.graph.node if node.domain == "dff")
    assert (warp.op_type, list(warp.input)) == ("DffWarp", ["features", "flow", "scale"])
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in warp.attribute}
    assert attributes == {
        "plugin_version": b"1",
        "plugin_namespace": b"",
        "channels_last": 1,
        "scale_step": 1.0 if levels is None else np.float32(levels.scale.step),
    }
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.input}
    dtypes = {name: onnx.helper.tensor_dtype_to_np_dtype(kind) for name, kind in types.items()}
    assert dtypes == {name: array.dtype for name, array in given.items()}
    checked = check_onnx(model.SerializeToString(), "plugin", flavour="trt", plugin=True)
    check_for_tensorrt(checked, "plugin")


def test_behind_the_plugin_node_stands_the_task_graph(bundle, tensorrt):
    """With the node's output as an input, the rest computes what the task graph does."""
    task, levels, given = tensorrt
    model = onnx.load_from_string(
        plugin_propagate(bundle.graph_bytes("fp32", "propagate"), task, levels)
    )
    (warp,) = (node for node in model.graph.node if node.domain == "dff")
    model.graph.node.remove(warp)
    (features,) = (value for value in model.graph.input if value.name == "features")
    del model.graph.input[:]
    features.name = warp.output[0]
    model.graph.input.append(features)

    found = outputs_of(model.SerializeToString(), {features.name: given["features"]})

    expected = outputs_of(task, {"features": given["features"]})
    np.testing.assert_array_equal(found["scores"], expected["scores"])
