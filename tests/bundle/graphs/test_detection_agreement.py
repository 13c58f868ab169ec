"""Disagreements of a detector's manifest and graphs: with them, a bundle is not opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import BundleError
from tests.bundle.detection_bundles import make_detection_bundle
from tests.bundle.graphs.edits import edit, edit_graph


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_detection_bundle(tmp_path_factory.mktemp("detector") / "b").path


def test_a_detector_that_agrees_opens(detector):
    assert Bundle.open(detector).manifest.rfcn is not None


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("anchor_scales", [1.0, 3.0], "frame_size, anchor_scales and anchor_ratios"),
        ("anchor_ratios", [0.5, 1.0, 3.0], "frame_size, anchor_scales and anchor_ratios"),
        ("anchor_scales", [1.0], "frame_size, anchor_scales and anchor_ratios"),
        ("bins", 4, "bins and proposals"),
        ("proposals_before_nms", 90, "proposals_before_nms, proposals and detections"),
        ("proposals", 19, "proposals_before_nms, proposals and detections"),
        ("detections", 11, "'boxes' is float32"),
        ("proposal_nms", 0.71, "proposals, proposal_nms, nms and min_score"),
        ("nms", 0.31, "proposals, proposal_nms, nms and min_score"),
        ("min_score", 0.1, "proposals, proposal_nms, nms and min_score"),
    ],
)
def test_settings_of_a_detector_are_those_of_its_graphs(detector, tmp_path, setting, value, reason):
    path = shutil.copytree(detector, tmp_path / "b")
    edit(path, lambda fields: fields["rfcn"].update({setting: value}))

    with pytest.raises(BundleError, match=reason):
        Bundle.open(path)


def test_the_stride_of_a_detectors_pooling_is_the_manifests(detector, tmp_path):
    path = shutil.copytree(detector, tmp_path / "b")

    def change(model: onnx.ModelProto) -> None:
        (pooling,) = (n for n in model.graph.node if n.op_type == "RoiAlign")
        (scale,) = (a for a in pooling.attribute if a.name == "spatial_scale")
        scale.f = 1 / 8

    edit_graph(path, "task.onnx", change)

    with pytest.raises(
        BundleError, match=r"the manifest's stride: \(1, 1, 2, 0.125\), not \(1, 1,"
    ):
        Bundle.open(path)
