"""The list of allowed operators is what export and calibration write: no less, and no more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from dff_edge.bundle.graphs.check import check_graph, read_graph_bytes
from dff_edge.bundle.graphs.onnx_check import cost_problem
from dff_edge.bundle.graphs.onnx_operators import OPERATORS
from dff_edge.bundle.reader import Bundle
from dff_edge.calibration.calibrate import _convert
from dff_edge.calibration.ort.byte_maps import byte_levels, find_map_ranges
from dff_edge.calibration.sampling.samples import Samples
from dff_edge.calibration.trt.int8 import symmetric_levels
from dff_edge.export import export_bundle
from dff_edge.names import FLAVOURS, Flavour, GraphName, Precision
from tests.export.checkpoints import FRAME_SIZE, tiny_checkpoint

# Between them: both tasks, networks with all kinds of layers, splits with and without layers, flow
# networks with and without a scale field. Other choices add no operator; where one does, whoever
# writes it finds it refused when the bundle is written.
MODELS: list[dict[str, Any]] = [
    {"feature": "mobilenet_v2", "flow": "half", "task": "detection", "split": "features.8"},
    {"feature": "resnet18", "flow": "inception", "split": "none", "scale": False},
]


def graphs_of(
    settings: dict[str, Any], samples: Samples, folder: Path
) -> Iterator[tuple[Flavour, Precision, GraphName, bytes, Bundle]]:
    """Return all graphs that export and calibration make of a model."""
    bundle = export_bundle(tiny_checkpoint(**settings), folder, interval=4)
    ranges = find_map_ranges(bundle, samples)
    for flavour in FLAVOURS:
        for name in bundle.manifest.graph_paths(flavour)["fp32"]:
            yield flavour, "fp32", name, bundle.graph_bytes("fp32", name, flavour), bundle
        levels = byte_levels(ranges) if flavour == "ort" else symmetric_levels(ranges)
        for precision, own in (("int8", levels), ("fp16", None)):
            made = _convert(bundle, samples, flavour, precision, own, 8, lambda line: None)
            for name, data in made.items():
                yield flavour, precision, name, data, bundle


def test_the_list_is_what_is_written(samples, tmp_path):
    seen: dict[Flavour, set[str]] = defaultdict(set)
    for number, settings in enumerate(MODELS):
        for flavour, precision, name, data, bundle in graphs_of(
            settings, samples, tmp_path / str(number)
        ):
            graph = read_graph_bytes(data, name, [(flavour, name)])  # nothing is refused
            assert cost_problem(graph.summary, FRAME_SIZE[0] * FRAME_SIZE[1]) is None
            if precision == "fp32":
                check_graph(bundle.manifest, precision, name, name, graph, flavour)
            model = onnx.load_from_string(data)
            nodes = [*model.graph.node, *(n for own in model.functions for n in own.node)]
            seen[flavour].update(node.op_type for node in nodes if node.domain == "")

    assert seen["ort"] | seen["trt"] == OPERATORS.keys()
    assert seen["trt"] == {name for name, own in OPERATORS.items() if own.tensorrt}
