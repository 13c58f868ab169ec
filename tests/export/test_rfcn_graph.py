"""Detection from checkpoint to bundle: what it holds, and that what is wrong is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.errors import ExportError
from dff_edge.export.parity import check_parity
from dff_edge.onnx_graphs.detection import MAPS
from tests.export.checkpoints import (
    CHANNELS,
    CLASSES,
    FRAME_SIZE,
    RFCN,
    tiny_bundle,
    tiny_checkpoint,
)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return tiny_bundle(tmp_path_factory, "half", task="detection")


def tampered(data, change):
    """Apply ``change`` to the float constants by what they hold."""
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        changed = change(array)
        if changed is not None:
            tensor.CopyFrom(numpy_helper.from_array(changed.astype(array.dtype), tensor.name))
    return model.SerializeToString()


def test_bundle_opens_as_a_detector(detector):
    manifest = Bundle.open(detector.path).manifest

    assert (manifest.task, manifest.decoding) == ("detection", "rfcn")
    assert manifest.rfcn == RfcnSettings.model_validate(RFCN)
    assert len(manifest.classes) == CLASSES


def test_graphs_for_tensorrt_end_with_the_maps(detector):
    graphs = detector.manifest.graphs["trt"]["fp32"]

    for name in ("task", "propagate", "propagate_portable"):
        summary = detector.graph_summary("fp32", name, "trt")
        assert set(summary.outputs) == set(MAPS)
    # The cut graph is stored once.
    assert graphs["task"] == detector.manifest.graphs["ort"]["fp32"]["task_maps"]


def test_maps_and_detections_are_compared_with_torch(detector):
    found = {(r.subnet, r.output) for r in detector.manifest.parity}

    assert {("task_maps", name) for name in MAPS} <= found
    assert {("task", "detections"), ("propagate", "detections")} <= found
    worst = {r.output: 0.0 for r in detector.manifest.parity}
    for record in detector.manifest.parity:
        worst[record.output] = max(worst[record.output], record.relative_error)
    assert worst["detections"] == 0
    assert all(worst[name] <= 1e-5 for name in MAPS)


def test_other_threshold_of_nms_in_the_graph_is_refused(detector):
    data = detector.graph_bytes("fp32", "task")
    graph = tampered(data, lambda a: 0 * a if a.shape == (1,) and a == np.float32(0.3) else None)

    with pytest.raises(ExportError, match=r"The task graph differs .* have no match"):
        check_parity(
            tiny_checkpoint("half", task="detection").model, {"task": graph}, FRAME_SIZE, CHANNELS
        )


def test_other_weights_of_the_maps_are_refused(detector):
    data = detector.graph_bytes("fp32", "task_maps")
    graph = tampered(data, lambda a: 1.01 * a if a.ndim == 2 else None)

    with pytest.raises(ExportError, match="The task_maps graph differs .*relative error of"):
        check_parity(
            tiny_checkpoint("half", task="detection").model,
            {"task_maps": graph},
            FRAME_SIZE,
            CHANNELS,
        )
