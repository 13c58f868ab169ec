"""The manifest of graphs for TensorRT, beside those for ONNX Runtime."""

from __future__ import annotations

from typing import Any

import pytest

from dff_edge.bundle.levels import INT8, Levels, MapLevels
from dff_edge.bundle.manifest import Manifest
from dff_edge.errors import BundleError
from tests.bundle.bundles import calibration_fields
from tests.bundle.manifests import FILE, FP32, LEVELS, PARITY, parse

TENSORRT = {
    precision: {
        graph: f"trt/{precision}/{graph}.onnx"
        for graph in ("feature", "flow", "task", "propagate", "propagate_portable")
    }
    for precision in ("fp32", "fp16", "int8")
}
SYMMETRIC = {"features": {"step": 0.5, "zero": 0}, "scale": {"step": 0.25, "zero": 0}}


def for_tensorrt(**levels: Any) -> dict[str, Any]:
    return {"trt": {"int8": {**calibration_fields(None), **levels}}}


def tensorrt_manifest(**changes: Any) -> Manifest:
    """Graphs for TensorRT in all precisions, beside fp32 for ONNX Runtime."""
    paths = [*FP32.values(), *(p for own in TENSORRT.values() for p in own.values())]
    return parse(
        **{
            "graphs": {"ort": {"fp32": FP32}, "trt": TENSORRT},
            "calibration": for_tensorrt(**SYMMETRIC),
            "files": {path: FILE for path in paths},
            **changes,
        }
    )


def test_maps_for_tensorrt_have_the_type_of_the_precision():
    manifest = tensorrt_manifest(parity=[{**PARITY, "precision": "int8", "flavour": "trt"}])

    assert manifest.map_levels("int8", "trt") == MapLevels(
        Levels(0.5, 0, INT8), Levels(0.25, 0, INT8)
    )
    assert manifest.map_levels("int8") is None
    for precision, name in (("fp32", "float32"), ("fp16", "float16"), ("int8", "int8")):
        for graph in ("propagate", "propagate_portable"):
            contract = manifest.contract(precision, graph, "trt")
            types = {spec.name: spec.dtype.name for spec in contract.inputs.values()}
            assert types == {"features": name, "flow": "float32", "scale": name}
            assert contract.outputs["scores"].dtype == "float32"
        assert manifest.contract(precision, "feature", "trt").inputs["frame"].dtype == "uint8"
    assert manifest.graph_paths("trt") == TENSORRT
    assert manifest.graph_paths() == {"fp32": FP32}
    assert Manifest.parse(manifest.dump()) == manifest


def test_a_file_may_serve_both_flavours():
    shared = {**TENSORRT["fp32"], "feature": "feature.onnx"}
    manifest = parse(
        graphs={"ort": {"fp32": FP32}, "trt": {"fp32": shared}},
        files={path: FILE for path in (*FP32.values(), *shared.values())},
    )

    assert manifest.graph_paths("trt")["fp32"]["feature"] == "feature.onnx"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"calibration": {}}, r"calibration\.trt of the .* there, int8, not of none"),
        (
            {"graphs": {"ort": {"fp32": FP32}, "trt": {"fp32": TENSORRT["fp32"]}}},
            r"calibration\.trt of the .* there, none, not of int8",
        ),
        (
            {"calibration": {"ort": for_tensorrt()["trt"]}},
            r"calibration\.ort of the .* not of int8",
        ),
        ({"calibration": for_tensorrt(**LEVELS)}, r"with zero 0 in calibration\.trt\.int8"),
        ({"calibration": for_tensorrt()}, r"with zero 0 in calibration\.trt\.int8"),
        ({"files": {p: FILE for p in FP32.values()}}, "for the graph 'trt/fp32/feature.onnx'"),
        ({"parity": [{**PARITY, "precision": "int8"}]}, "there, not of int8 for ort"),
        (
            {"graphs": {"ort": {"fp32": FP32}, "trt": {"fp32": FP32}}},
            r"in graphs\.trt\.fp32 feature, flow, propagate, propagate_portable, task, for",
        ),
        (
            {"graphs": {"ort": {"fp32": {**FP32, "flow": None}}}},
            r"graphs\.ort\.fp32\.flow: received None",
        ),
        ({"flow_function": "dis-fast"}, "no graphs for trt, for flow_function 'dis-fast'"),
    ],
)
def test_graphs_for_tensorrt_that_do_not_fit_together_are_refused(changes, reason):
    with pytest.raises(BundleError, match=reason):
        tensorrt_manifest(**changes)
