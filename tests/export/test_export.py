"""From a checkpoint to a bundle that opens."""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch
from torch import nn

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import BundleError, ConfigError, DiskError, ExportError
from dff_edge.export import export as export_module
from dff_edge.export import export_bundle
from tests.export.checkpoints import (
    CHANNELS,
    CLASSES,
    DIGEST,
    FRAME_SIZE,
    tiny_bundle,
    tiny_checkpoint,
)


def test_bundle_opens_and_says_what_it_is(bundle):
    manifest = Bundle.open(bundle.path).manifest

    assert manifest.frame_size == FRAME_SIZE
    assert manifest.channels == CHANNELS
    assert manifest.class_names == tuple(f"class{i}" for i in range(CLASSES))
    assert manifest.classes[2].colour == (20, 20, 30)
    assert manifest.normalisation.mean == (103.53, 116.28, 123.675)
    assert manifest.default_key_interval == 4
    assert bundle.precisions == ("fp32",)


def test_lack_of_room_is_told_before_anything_is_exported(tmp_path, full_disk, monkeypatch):
    monkeypatch.setattr(export_module, "export_graphs", lambda *_, **__: pytest.fail("exported"))
    with pytest.raises(DiskError, match=rf"the bundle will take about .* room for .* {tmp_path}"):
        export_bundle(tiny_checkpoint(), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_graphs_for_tensorrt_are_the_same_but_for_the_warp(bundle):
    own, others = (bundle.manifest.graph_paths(flavour)["fp32"] for flavour in ("trt", "ort"))

    assert {graph for graph, path in own.items() if path == others.get(graph)} == {
        "feature",
        "flow",
        "task",
    }
    plugin = bundle.graph_summary("fp32", "propagate", "trt").operators
    assert plugin == {"dff::DffWarp": 1, "MatMul": 1, "Add": 1}
    portable = bundle.graph_summary("fp32", "propagate_portable", "trt").operators
    assert portable["GridSample"] == 1
    assert not any("::" in operator for operator in portable)


def test_manifest_says_where_the_bundle_comes_from(bundle):
    provenance = bundle.manifest.provenance

    assert provenance.checkpoint_sha256 == DIGEST
    assert provenance.training_data == "synthetic://street?split=train"
    assert provenance.max_distance == 2
    assert '"torch": "2.0"' in provenance.config
    assert {"dff_edge", "onnx", "onnxruntime", "torch"} <= provenance.versions.keys()


@pytest.mark.parametrize(
    "config",
    [
        {"data": {"max_distance": 9}, "stages": [{"kind": "recognition"}]},  # no pairs
        {"data": {"max_distance": "9"}, "stages": [{"kind": "pairs"}]},
        {"data": {}, "stages": [{"kind": "pairs"}]},
        {"data": {"max_distance": 9}},
        {"stages": "pairs"},
        None,
    ],
)
def test_distance_of_a_card_that_does_not_say_it_is_not_known(config):
    assert export_module._trained_distance(config) is None


def test_other_networks_and_operator_sets_export_too(tmp_path_factory):
    bundle = tiny_bundle(tmp_path_factory, "simple", scale=False, opset=19)

    assert bundle.graph_summary("fp32", "flow").opset == 19
    assert bundle.graph_summary("fp32", "propagate").opset == 19
    assert all(r.max_abs_error == 0 for r in bundle.manifest.parity if r.output == "scale")


def test_checkpoint_stays_as_it_was():
    checkpoint = tiny_checkpoint()
    before = {name: value.clone() for name, value in checkpoint.model.state_dict().items()}

    export_module.FeatureGraph(checkpoint.model, FRAME_SIZE)
    export_module.FlowGraph(checkpoint.model, FRAME_SIZE, CHANNELS)

    after = checkpoint.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_progress_names_the_steps(tmp_path, monkeypatch, bundle):
    graphs = {
        s: FakeModel(bundle.graph_bytes("fp32", s)) for s in bundle.manifest.graphs["ort"]["fp32"]
    }
    monkeypatch.setattr(export_module, "export_graphs", lambda *_, **__: graphs)
    lines = []

    odd = os.fsdecode(b"\xe4")  # no UTF-8
    made = export_bundle(
        tiny_checkpoint(), tmp_path / odd, command=f"dff-edge export {odd}", progress=lines.append
    )

    assert lines[0] == "comparing the graphs with the model"
    assert lines[-1].startswith(f"wrote {tmp_path / odd}: largest relative error")
    assert made.manifest.provenance.command == "dff-edge export \\udce4"


def test_graph_that_computes_something_else_leaves_nothing_behind(tmp_path, monkeypatch, bundle):
    other = tiny_checkpoint()
    with torch.no_grad():
        other.model.task.score.bias += 1
    graphs = {"task": FakeModel(bundle.graph_bytes("fp32", "task"))}
    monkeypatch.setattr(export_module, "export_graphs", lambda *_, **__: graphs)

    with pytest.raises(ExportError, match="The task graph differs"):
        export_bundle(other, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_folder_with_a_bundle_is_refused_before_the_work(bundle):
    with pytest.raises(BundleError, match="holds a bundle already"):
        export_bundle(tiny_checkpoint(), bundle.path)


def test_bad_operator_set_is_refused_before_the_work(tmp_path):
    with pytest.raises(ConfigError, match="opset is 20"):
        export_bundle(tiny_checkpoint(), tmp_path / "b", opset=20)


def test_task_network_that_is_not_known_is_refused():
    checkpoint = tiny_checkpoint()
    checkpoint.model.task = nn.Conv2d(CHANNELS, 3, 1)

    with pytest.raises(ExportError, match="The task network is a Conv2d, expected a Segmentation"):
        export_module.TaskGraph(dataclasses.replace(checkpoint).model)


class FakeModel:
    """Stands for an onnx model where only its bytes matter."""

    def __init__(self, data):
        self._data = data

    def SerializeToString(self, deterministic):  # noqa: N802
        assert deterministic
        return self._data
