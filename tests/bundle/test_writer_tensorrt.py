"""Writing bundles whose graphs for TensorRT share files with the others."""

from __future__ import annotations

import pytest

from dff_edge.bundle.writer import BundleWriter
from dff_edge.errors import BundleError
from tests.bundle.bundles import (
    make_graphs,
    make_tensorrt_graphs,
)
from tests.bundle.detection_bundles import make_detection_bundle, make_detection_graphs
from tests.bundle.writing import add_precision, files_of, with_tensorrt


def test_graphs_for_tensorrt_that_equal_the_others_are_stored_once(tmp_path):
    bundle = with_tensorrt(tmp_path / "b")

    assert set(files_of(bundle.path)) == {
        "manifest.json",
        *(f"{graph}.onnx" for graph in ("feature", "flow", "task", "propagate")),
        "trt/fp32/propagate.onnx",
        "trt/fp32/propagate_portable.onnx",
    }
    assert bundle.precisions_for("trt") == ("fp32",)
    for graph, data in make_tensorrt_graphs().items():
        assert bundle.graph_bytes("fp32", graph, "trt") == data
    assert bundle.graph_bytes("fp32", "propagate") == make_graphs()["propagate"]


def test_graphs_for_tensorrt_that_differ_have_files_of_their_own(tmp_path):
    bundle = with_tensorrt(tmp_path / "b", seed=5)

    assert bundle.graph_bytes("fp32", "flow", "trt") == make_tensorrt_graphs(seed=5)["flow"]
    assert bundle.graph_bytes("fp32", "flow") == make_graphs()["flow"]


def test_replacing_graphs_drops_what_tensorrt_shared_with_them(tmp_path):
    path = with_tensorrt(tmp_path / "b").path
    with BundleWriter.extend(path) as writer:
        parity = {"subnet": "flow", "output": "flow", "inputs": "noise"}
        errors = {"tolerance": 1, "max_abs_error": 0, "relative_error": 0}
        writer.update(parity=[{**parity, **errors, "precision": "fp32", "flavour": "trt"}])
        writer.commit()

    with BundleWriter.extend(path) as writer:
        add_precision(writer, "fp32", seed=7, subnets=4)
        bundle = writer.commit()

    assert bundle.precisions_for("trt") == ()
    assert bundle.manifest.parity == ()
    assert not (path / "trt").exists()


def test_replacing_graphs_for_tensorrt_keeps_the_others(tmp_path):
    path = with_tensorrt(tmp_path / "b").path
    with BundleWriter.extend(path) as writer:
        for graph, data in make_tensorrt_graphs(seed=8).items():
            writer.add_graph("fp32", graph, data, "trt")
        bundle = writer.commit()

    assert bundle.graph_bytes("fp32", "flow") == make_graphs()["flow"]
    assert bundle.graph_bytes("fp32", "flow", "trt") == make_graphs(seed=8)["flow"]


@pytest.mark.parametrize(
    ("graph", "flavour", "reason"),
    [
        ("propagate_portable", "ort", "not a graph of a bundle in the flavour 'ort'"),
        ("feature", "tvm", "'tvm' 'fp32' is not in a bundle"),
        ("propagate", "ort", "uses the operator 'dff::DffWarp', which is not allowed"),
        ("propagate_portable", "trt", "uses the operator 'dff::DffWarp', which is not allowed"),
    ],
)
def test_the_plugin_node_has_one_place(tmp_path, graph, flavour, reason):
    plugin = make_tensorrt_graphs()["propagate"]

    with pytest.raises(BundleError, match=reason):
        BundleWriter.create(tmp_path / "b").add_graph("fp32", graph, plugin, flavour)


def test_a_graph_that_tensorrt_would_misread_is_not_written(tmp_path):
    """The portable form as ONNX Runtime has it, with a local function."""
    graph = make_graphs()["propagate"]

    with pytest.raises(BundleError, match=r"trt/fp32/propagate_portable\.onnx has local functions"):
        BundleWriter.create(tmp_path / "b").add_graph("fp32", "propagate_portable", graph, "trt")


def test_task_maps_and_the_task_graph_for_tensorrt_are_stored_once(tmp_path):
    graphs = make_detection_graphs()
    base = make_detection_bundle(tmp_path / "b")
    with BundleWriter.extend(base.path) as writer:
        for name, data in graphs.items():
            writer.add_graph("fp32", name, data)
        for name in ("feature", "flow"):
            writer.add_graph("fp32", name, graphs[name], "trt")
        writer.add_graph("fp32", "task", graphs["task_maps"], "trt")
        assert writer._graphs["trt", "fp32"]["task"] == "task_maps.onnx"
