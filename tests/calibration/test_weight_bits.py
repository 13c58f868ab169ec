"""Weights of 7 bits: where they are, where not, and where they are refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dff_edge.bundle.reader import Bundle
from dff_edge.calibration import calibrate_bundle
from dff_edge.errors import CalibrationError
from tests.calibration.conftest import SMALL


def test_weights_of_7_bits_are_in_the_graphs_of_onnx_runtime_and_in_the_manifest(copy, clips):
    made = calibrate_bundle(
        copy, clips, source="clips", precisions=("int8",), weight_bits=7, **SMALL
    )

    record = made.manifest.calibration
    assert record["ort"]["int8"].weight_bits == 7
    assert record["trt"]["int8"].weight_bits == 8
    for flavour, largest in (("ort", 64), ("trt", 127)):
        for graph in ("feature", "flow"):
            model = onnx.load_from_string(made.graph_bytes("int8", graph, flavour))
            weights = [numpy_helper.to_array(t) for t in model.graph.initializer]
            found = max(np.abs(w.astype(int)).max() for w in weights if w.dtype == np.int8)
            assert found == largest


@pytest.mark.parametrize(
    "wanted", [{"precisions": ("fp16",)}, {"precisions": ("int8",), "flavours": ("trt",)}]
)
def test_bits_without_graphs_that_have_them_are_refused(copy, clips, wanted):
    before = Bundle.open(copy).digest

    with pytest.raises(CalibrationError, match="calibrate int8 for ort"):
        calibrate_bundle(copy, clips, source="clips", weight_bits=7, **wanted, **SMALL)
    assert Bundle.open(copy).digest == before
