"""FP16 graphs: half the bytes, nearly the same results."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from dff_edge.bundle.contract import graph_contract
from dff_edge.bundle.graphs.onnx_check import check_onnx
from dff_edge.calibration.ort.fp16 import to_fp16
from tests.calibration.ort.test_int8 import outputs_of
from tests.export.checkpoints import CHANNELS, CLASSES, FRAME_SIZE

# Half precision rounds to 2^-11 = 5e-4 of a value; twenty layers of random signs add up to
# ten times that: 5e-3 of the largest value is measured, for the flow.
MAX_RELATIVE_ERROR = 1e-2


@pytest.mark.parametrize("subnet", ["feature", "flow", "task"])
def test_results_are_close_to_fp32(bundle, samples, subnet):
    graph = bundle.graph_bytes("fp32", subnet)
    inputs = next(
        {
            "feature": samples.feature_inputs,
            "flow": samples.flow_inputs,
            "task": lambda: samples.task_inputs(bundle),
        }[subnet]()
    )
    expected, found = outputs_of(graph, inputs), outputs_of(to_fp16(graph), inputs)

    for name, array in expected.items():
        error = np.abs(found[name] - array).max() / np.abs(array).max()
        assert 0 < error < MAX_RELATIVE_ERROR, name


@pytest.mark.parametrize("subnet", ["feature", "flow", "task"])
def test_inputs_and_outputs_stay_and_weights_are_half(bundle, subnet):
    fp32 = bundle.graph_bytes("fp32", subnet)
    graph = to_fp16(fp32)
    summary = check_onnx(graph, subnet).summary
    contract = graph_contract(subnet, frame_size=FRAME_SIZE, channels=CHANNELS, classes=CLASSES)
    kinds = {t.data_type for t in onnx.load_from_string(graph).graph.initializer if len(t.dims) > 1}

    assert contract.problems(summary.inputs, summary.outputs) == []
    assert kinds == {onnx.TensorProto.FLOAT16}
    if subnet != "task":  # too small: names outweigh numbers
        assert len(graph) < 0.62 * len(fp32)
