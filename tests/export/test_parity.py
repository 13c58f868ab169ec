"""The comparison that guards the export: it passes what is right, and only that."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dff_edge.errors import ExportError
from dff_edge.export.parity import TOLERANCE, check_parity
from tests.export.checkpoints import CHANNELS, FRAME_SIZE, tiny_checkpoint

SUBNETS = ("feature", "flow", "task", "propagate")


@pytest.fixture(scope="module")
def model():
    return tiny_checkpoint().model


def compare(model, graphs, **options):
    return check_parity(model, graphs, FRAME_SIZE, CHANNELS, **options)


def tampered(data, change):
    """Apply ``change`` to the first stored weights of at least two axes."""
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        if len(tensor.dims) >= 2 and tensor.data_type == onnx.TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).copy()
            tensor.CopyFrom(numpy_helper.from_array(change(array), tensor.name))
            return model.SerializeToString()
    raise AssertionError("no weights")


def test_every_output_of_every_graph_is_compared_on_both_kinds_of_inputs(bundle):
    found = {(r.subnet, r.output, r.inputs) for r in bundle.manifest.parity}
    outputs = [("feature", "features"), ("flow", "flow"), ("flow", "scale")]
    outputs += [("task", "scores"), ("propagate", "scores")]

    assert found == {(*o, kind) for o in outputs for kind in ("random", "synthetic street")}


def test_errors_are_a_tenth_of_the_tolerance(bundle):
    worst = max(r.relative_error for r in bundle.manifest.parity)

    assert 0 < worst <= TOLERANCE / 10
    assert all(r.tolerance == TOLERANCE for r in bundle.manifest.parity)


@pytest.mark.parametrize("subnet", SUBNETS)
def test_one_percent_on_the_weights_is_refused_by_name(bundle, model, subnet):
    graph = tampered(bundle.graph_bytes("fp32", subnet), lambda w: w * np.float32(1.01))

    with pytest.raises(
        ExportError, match=rf"The {subnet} graph differs .*relative error of .*at most 0.0001"
    ):
        compare(model, {subnet: graph})


def test_nan_is_refused(bundle, model):
    graph = tampered(bundle.graph_bytes("fp32", "task"), lambda w: w * np.float32(np.nan))

    with pytest.raises(ExportError, match="The task graph differs .*error of nan"):
        compare(model, {"task": graph})


def test_swapped_frames_are_refused(bundle, model):
    graph = onnx.load_from_string(bundle.graph_bytes("fp32", "flow"))
    swap = {"key_half": "frame_half", "frame_half": "key_half"}
    for node in graph.graph.node:
        node.input[:] = [swap.get(name, name) for name in node.input]

    with pytest.raises(ExportError, match="The flow graph differs"):
        compare(model, {"flow": graph.SerializeToString()})


def test_warp_without_its_guard_for_the_map_border_is_refused(bundle, model):
    graph = onnx.load_from_string(bundle.graph_bytes("fp32", "propagate"))
    (sample,) = (n for n in graph.functions[0].node if n.op_type == "GridSample")
    for attribute in sample.attribute:
        if attribute.name == "padding_mode":
            attribute.s = b"border"

    with pytest.raises(ExportError, match="The propagate graph differs .*'scores' on random"):
        compare(model, {"propagate": graph.SerializeToString()})
