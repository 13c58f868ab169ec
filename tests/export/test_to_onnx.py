"""Form of the exported graphs."""

from __future__ import annotations

import getpass
import re

import onnx
import pytest
import torch
from torch import nn

from dff_edge.errors import ConfigError, ExportError
from dff_edge.export.export import export_graphs
from dff_edge.export.to_onnx import export_onnx
from tests.export.checkpoints import tiny_bundle, tiny_checkpoint

NETWORKS = ("feature", "flow", "task")
# What the networks are made of; shape arithmetic, constants and doubled casts are not in it.
EXPECTED_OPERATORS = {
    "feature": {"Add", "Cast", "Conv", "MaxPool", "Relu", "Reshape", "Sub", "Transpose"},
    "flow": {
        "Add",
        "Cast",
        "Concat",
        "Conv",
        "ConvTranspose",
        "MatMul",
        "MaxPool",
        "Relu",
        "Reshape",
        "Sub",
        "Transpose",
    },
    "task": {"Add", "MatMul"},
}


@pytest.mark.parametrize("subnet", NETWORKS)
def test_graph_holds_the_network_and_nothing_else(bundle, subnet):
    operators = bundle.graph_summary("fp32", subnet).operators

    assert set(operators) <= EXPECTED_OPERATORS[subnet] | {"Slice"}
    assert operators["Cast"] == {"feature": 1, "flow": 2, "task": 0}[subnet]  # of each frame
    assert operators["Reshape"] <= 2


@pytest.mark.parametrize(("subnet", "unused"), [("feature", 0), ("flow", 3)])
def test_every_convolution_of_the_model_is_one_node(bundle, subnet, unused):
    # Not in flow.onnx as Conv: two flows of pre-training, and the scale head, a MatMul.
    model = tiny_checkpoint().model
    network = model.feature if subnet == "feature" else model.flow
    count = sum(isinstance(m, nn.Conv2d) for m in network.modules())

    assert bundle.graph_summary("fp32", subnet).operators["Conv"] == count - unused


def test_no_map_of_c_channels_is_transposed_on_the_way_of_a_propagated_frame(bundle):
    model = onnx.load_from_string(bundle.graph_bytes("fp32", "flow"))
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.value_info, *model.graph.output)
    }
    transposed = [shapes[n.output[0]] for n in model.graph.node if n.op_type == "Transpose"]

    assert transposed
    assert all(12 not in shape for shape in transposed)  # C


@pytest.mark.parametrize("subnet", [*NETWORKS, "propagate"])
def test_every_value_has_a_static_shape(bundle, subnet):
    model = onnx.load_from_string(bundle.graph_bytes("fp32", subnet))
    known = {v.name: v for v in (*model.graph.value_info, *model.graph.output)}

    for node in model.graph.node:
        for name in node.output:
            dims = known[name].type.tensor_type.shape.dim
            assert dims
            assert all(dim.HasField("dim_value") for dim in dims)


@pytest.mark.parametrize("subnet", [*NETWORKS, "propagate"])
def test_nothing_of_this_machine_is_in_a_file(bundle, subnet):
    data = bundle.graph_bytes("fp32", subnet)

    assert not re.search(rb"/(work|tmp|home|root|usr)/|\.py\b|site-packages", data)
    assert b"dff_edge." not in data  # names of modules
    assert f"/{getpass.getuser()}/".encode() not in data


def test_flow_network_without_scale_head_gives_ones_by_a_node(tmp_path_factory):
    flow = tiny_bundle(tmp_path_factory, "simple", scale=False, opset=19)
    model = onnx.load_from_string(flow.graph_bytes("fp32", "flow"))
    stored = {tensor.name for tensor in model.graph.initializer}

    assert not stored & {output.name for output in model.graph.output}


def test_operator_set_is_the_one_asked_for():
    checkpoint = tiny_checkpoint()

    for opset in (17, 18, 19):
        model = export_onnx(
            nn.Sequential(checkpoint.model.task),
            "task",
            {"features": torch.zeros(1, 12, 4, 6)},
            ["scores"],
            opset,
        )
        assert [(e.domain, e.version) for e in model.opset_import] == [("", opset)]
        onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("opset", [16, 20])
def test_other_operator_sets_are_refused(opset):
    with pytest.raises(ConfigError, match=rf"opset is {opset}, expected 17 to 19"):
        export_graphs(tiny_checkpoint(), opset)


def test_operator_that_changed_between_the_sets_is_refused():
    class Resized(nn.Module):
        def forward(self, maps):
            return nn.functional.interpolate(maps, scale_factor=2.0)

    with pytest.raises(ExportError, match=r"Resize differs between operator sets 18 and 19"):
        export_onnx(Resized(), "resized", {"maps": torch.zeros(1, 2, 4, 4)}, ["out"], 19)


def test_module_that_cannot_be_exported_is_named():
    class Choosing(nn.Module):
        def forward(self, maps):
            return maps if maps.sum() > 0 else maps[:, :1]

    with pytest.raises(ExportError, match="The choosing graph could not be exported"):
        export_onnx(Choosing(), "choosing", {"maps": torch.zeros(1, 2)}, ["out"], 17)


def test_batch_norm_that_was_left_is_refused():
    network = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(2)).eval()

    with pytest.raises(ExportError, match="1 BatchNormalization nodes, expected at most 0"):
        export_onnx(network, "left", {"maps": torch.zeros(1, 2, 4, 4)}, ["out"], 17)
