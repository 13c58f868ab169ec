"""Disagreements of manifest and graphs: with them, a bundle is neither written nor opened.

agreement and check; detection_agreement has its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.writer import BundleWriter
from dff_edge.errors import BundleError
from tests.bundle.bundles import (
    SYMMETRIC,
    calibration_fields,
    make_bundle,
    make_graphs,
    make_tensorrt_graphs,
    manifest_fields,
)
from tests.bundle.graphs.edits import Edit, edit, edit_graph


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segmentation in all precisions, for both flavours."""
    path = tmp_path_factory.mktemp("made") / "b"
    make_bundle(path, precisions=("fp32", "fp16", "int8"))
    with BundleWriter.extend(path) as writer:
        for precision in ("fp32", "int8"):
            for graph, data in make_tensorrt_graphs(seed=7, as_=precision).items():
                writer.add_graph(precision, graph, data, "trt")
        writer.update(calibration={"trt": {"int8": calibration_fields(SYMMETRIC)}})
        writer.commit()
    return path


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "b")


def store(model: onnx.ModelProto, name: str, value: Any) -> None:
    """Give a stored tensor another value."""
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def test_a_bundle_that_agrees_opens(made):
    assert Bundle.open(made).precisions_for("trt") == ("fp32", "int8")


# ---- levels: manifest against graphs


def levels(flavour: str, name: str, part: str, value: float) -> Edit:
    def change(fields: dict[str, Any]) -> None:
        fields["calibration"][flavour]["int8"][name][part] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            levels("ort", "features", "step", 0.25),
            r"int8/feature.onnx .*output 'features' is made with step 0.125, zero 100, the "
            r"manifest says step 0.25, zero 100",
        ),
        (levels("ort", "features", "zero", 0), "'features' is made with step 0.125, zero 100"),
        (levels("ort", "scale", "step", 0.25), r"flow.onnx .*'scale' is made with step 0.0078125"),
        (levels("ort", "scale", "zero", 7), r"flow.onnx .*'scale' is made with .* says .* zero 7"),
        (levels("trt", "features", "step", 1.0), r"trt/int8/feature.onnx .*made with step 0.25"),
        (levels("trt", "scale", "step", 1.0), r"trt/int8/flow.onnx .*'scale' is made with step"),
        (
            levels("ort", "features", "step", 0.125 * (1 + 1e-7)),  # as float32 the next number
            "the manifest says step 0.125",
        ),
    ],
)
def test_levels_that_are_not_the_graphs_are_refused(copy, change, reason):
    edit(copy, change)

    with pytest.raises(BundleError, match=reason):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("name", "tensor", "value", "reason"),
    [
        ("int8/task.onnx", "features_step", np.float32(1), "input 'features' is read with step 1,"),
        ("int8/task.onnx", "features_zero", np.uint8(0), "input 'features' is read with .* zero 0"),
        ("int8/propagate.onnx", "scale_step", np.float32(1), "input 'scale' is read with step 1"),
        ("int8/propagate.onnx", "features_step", np.float32(1), "what was warped is made with ste"),
        (
            "trt/int8/task.onnx",
            "features_step",
            np.float32(1),
            "input 'features' is read with step",
        ),
        ("trt/int8/propagate.onnx", "features_step", np.float32(1), "what was warped is read with"),
        (
            "trt/int8/propagate_portable.onnx",
            "features_step",
            np.float32(1),
            "what was warped is made with step 1",
        ),
        (
            "trt/int8/propagate_portable.onnx",
            "scale_step",
            np.float32(1),
            "input 'scale' is read with step 1",
        ),
    ],
)
def test_levels_of_a_graph_that_are_not_the_manifests_are_refused(
    copy, name, tensor, value, reason
):
    edit_graph(copy, name, lambda model: store(model, tensor, value))

    with pytest.raises(BundleError, match=f"{name} .*{reason}"):
        Bundle.open(copy)


@pytest.mark.parametrize(("precision", "step"), [("int8", 1.0), ("fp32", 0.5)])
def test_the_step_of_the_plugins_node_is_the_manifests(copy, precision, step):
    def change(model: onnx.ModelProto) -> None:
        (attribute,) = (a for a in model.graph.node[0].attribute if a.name == "scale_step")
        attribute.f = step

    edit_graph(copy, f"trt/{precision}/propagate.onnx", change)

    with pytest.raises(
        BundleError, match=f"DffWarp node 'warp' has the scale_step {step}, the man"
    ):
        Bundle.open(copy)


def test_bytes_that_are_read_as_numbers_are_refused(copy):
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].CopyFrom(
            helper.make_node("Cast", ["features"], ["features_float"], "cast", to=1)
        )

    edit_graph(copy, "int8/task.onnx", change)

    with pytest.raises(
        BundleError, match="input 'features' is read by the Cast node 'cast', expect"
    ):
        Bundle.open(copy)


def test_bytes_that_are_not_quantised_are_refused(copy):
    """Bytes of the frame in the place of features."""

    def change(model: onnx.ModelProto) -> None:
        features = next(n for n in model.graph.node if "features" in n.output)
        model.graph.node.remove(features)
        stored = np.zeros((1, 2, 4, 8), np.uint8)
        model.graph.initializer.append(numpy_helper.from_array(stored, "none"))
        model.graph.node.append(helper.make_node("Identity", ["none"], ["features"], "none_of_it"))

    edit_graph(copy, "int8/feature.onnx", change)

    with pytest.raises(
        BundleError, match="output 'features' is stored and not 1 in the manifest's"
    ):
        Bundle.open(copy)


def stored_scale(levels_of_one: int) -> Callable[[onnx.ModelProto], None]:
    """Of a flow network without a scale field: the byte of one for every cell."""

    def change(model: onnx.ModelProto) -> None:
        nodes = model.graph.node
        next(n for n in nodes if "scale" in n.output).output[0] = "unused"
        stored = np.full((1, 2, 4, 8), levels_of_one, np.uint8)
        model.graph.initializer.append(numpy_helper.from_array(stored, "scale_value"))
        nodes.append(helper.make_node("Identity", ["scale_value"], ["scale"], "scale"))

    return change


def test_a_stored_scale_field_means_one(copy):
    edit_graph(copy, "int8/flow.onnx", stored_scale(128))
    Bundle.open(copy)
    edit(copy, levels("ort", "scale", "step", 1 / 64))

    with pytest.raises(
        BundleError, match="output 'scale' is stored and not 1 in the manifest's le"
    ):
        Bundle.open(copy)


def test_a_relu_on_bytes_cuts_off_at_zero(copy):
    def with_lowest(value: int) -> Callable[[onnx.ModelProto], None]:
        def change(model: onnx.ModelProto) -> None:
            last = next(n for n in model.graph.node if "features" in n.output)
            last.output[0] = "all_features"
            lowest = numpy_helper.from_array(np.uint8(value), "lowest")
            model.graph.initializer.append(lowest)
            model.graph.node.append(
                helper.make_node("Clip", ["all_features", "lowest"], ["features"], "relu")
            )

        return change

    edit_graph(copy, "int8/feature.onnx", with_lowest(100))
    Bundle.open(copy)
    edit_graph(copy, "int8/feature.onnx", lambda model: store(model, "lowest", np.uint8(90)))

    with pytest.raises(
        BundleError, match="'features' is cut off below 90, the manifest says that 0"
    ):
        Bundle.open(copy)


def test_levels_are_compared_when_a_bundle_is_written(tmp_path):
    path = make_bundle(tmp_path / "b").path
    with BundleWriter.extend(path) as writer:
        for subnet, data in make_graphs(as_="int8").items():
            writer.add_graph("int8", subnet, data)
        record = calibration_fields()
        record["features"]["step"] = 0.5
        writer.update(calibration={"ort": {"int8": record}})
        with pytest.raises(BundleError, match="'features' is made with step 0.125"):
            writer.commit()


# ---- precision


@pytest.mark.parametrize(
    ("named", "held", "reason"),
    [
        ("fp32", "fp16", "feature.onnx .*it computes in fp16, expected fp32"),
        ("fp16", "fp32", "feature.onnx .*it computes without fp16"),
        ("int8", "fp32", r"'features' is float32 \(1, 2, 4, 8\), expected uint8"),
    ],
)
def test_a_precision_that_is_another_is_refused(copy, named, held, reason):
    def change(fields: dict[str, Any]) -> None:
        graphs = fields["graphs"]
        graphs["ort"][named] = graphs["ort"][held]
        used = {p for own in graphs.values() for paths in own.values() for p in paths.values()}
        for name in set(fields["files"]) - used:
            del fields["files"][name]
            (copy / name).unlink()
            if not any((copy / name).parent.iterdir()):
                (copy / name).parent.rmdir()

    edit(copy, change)

    with pytest.raises(BundleError, match=reason):
        Bundle.open(copy)


def test_float_maps_are_no_excuse_for_int8_without_integers(tmp_path):
    with BundleWriter.create(tmp_path / "b") as writer:
        for precision in ("fp32", "int8"):
            for subnet, data in make_graphs().items():
                writer.add_graph(precision, subnet, data)
        record = calibration_fields(None)
        writer.update(**manifest_fields(), calibration={"ort": {"int8": record}})
        with pytest.raises(BundleError, match=r"int8/feature.onnx .*it computes without int8"):
            writer.commit()


def test_integers_in_fp32_are_refused(tmp_path):
    with BundleWriter.create(tmp_path / "b") as writer:
        for subnet, data in make_graphs().items():
            writer.add_graph("fp32", subnet, data)
        model = onnx.load_from_string(make_graphs()["task"])
        for name, value in (("step", np.float32(1)), ("zero", np.uint8(0))):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        model.graph.node[0].input[0] = "f"
        model.graph.node.insert(
            0, helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["f"])
        )
        model.graph.node.insert(
            0, helper.make_node("QuantizeLinear", ["features", "step", "zero"], ["q"])
        )
        writer.add_graph("fp32", "task", model.SerializeToString())
        writer.update(**manifest_fields())
        with pytest.raises(BundleError, match=r"task.onnx .*it computes in int8, expected fp32"):
            writer.commit()


# ---- normalisation


@pytest.mark.parametrize("mean", [[127.5, 127.5, 120.0], [0.0, 0.0, 0.0], [127.6] * 3])
def test_a_mean_that_is_not_the_graphs_is_refused(copy, mean):
    edit(copy, lambda fields: fields["normalisation"].update(mean=mean))

    with pytest.raises(
        BundleError, match=r"mean \(127.5\) is subtracted from 'frame', the manifest"
    ):
        Bundle.open(copy)


def test_a_graph_that_subtracts_no_mean_is_refused(copy):
    def change(model: onnx.ModelProto) -> None:
        centred = next(n for n in model.graph.node if n.op_type == "Sub")
        centred.CopyFrom(helper.make_node("Relu", ["as_float"], ["centred"], "none"))

    edit_graph(copy, "flow.onnx", change)

    with pytest.raises(BundleError, match="flow.onnx .*no mean is subtracted from 'key_half', the"):
        Bundle.open(copy)


# ---- frame size, channels, classes, task, flow: shapes and names of inputs and outputs


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"frame_size": [64, 64]}, r"'frame' is uint8 \(1, 32, 64, 3\), expected uint8 \(1, 64"),
        ({"frame_size": [32, 96]}, r"'frame' is uint8 \(1, 32, 64, 3\)"),
        ({"channels": 9}, r"'features' is float32 \(1, 2, 4, 8\), expected float32 \(1, 2, 4, 9"),
        ({"flow_function": "dis-fast"}, "no graphs for trt"),
        ({"task": "detection"}, "decoding .rfcn. for detection"),
        ({"decoding": "rfcn"}, "decoding .bilinear_half_pixel_argmax. for segm"),
    ],
    ids=str,
)
def test_what_shapes_say_is_compared(copy, change, reason):
    edit(copy, lambda fields: fields.update(change))

    with pytest.raises(BundleError, match=reason):
        Bundle.open(copy)


def test_the_number_of_classes_is_compared(copy):
    edit(copy, lambda fields: fields["classes"].pop())

    with pytest.raises(
        BundleError, match=r"'scores' is float32 \(1, 2, 4, 3\), expected .* 4, 2\)"
    ):
        Bundle.open(copy)


def test_calibration_is_that_of_the_graphs_own_flavour(copy):
    def change(fields: dict[str, Any]) -> None:
        records = fields["calibration"]
        records["ort"], records["trt"] = records["trt"], records["ort"]

    edit(copy, change)

    with pytest.raises(BundleError, match=r"with zero 0 in calibration\.trt\.int8"):
        Bundle.open(copy)
