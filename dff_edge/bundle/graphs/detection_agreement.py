"""Comparison of R-FCN's settings in a manifest with the constants of the portable form.

The device uses the manifest's; in task.onnx and propagate.onnx the same numbers are
constants (``dff_edge/onnx_graphs/detection.py``), the anchors as a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.anchors import anchor_sizes
from dff_edge.bundle.graphs.onnx_check import CheckedGraph
from dff_edge.bundle.graphs.onnx_file import Node
from dff_edge.bundle.manifest import Manifest

_ANCHOR_ERROR = 1e-3  # pixels
_SAMPLES = 2  # of a bin, each way


def rfcn_problems(manifest: Manifest, graph: CheckedGraph) -> Iterator[str]:
    """Describe where the constants of a task graph are not the manifest's settings."""
    rfcn = manifest.rfcn
    assert rfcn is not None
    height, width = (side // manifest.stride for side in manifest.frame_size)
    counts = rfcn.counts(height * width, len(manifest.classes))
    suppressed = [(counts.proposals, rfcn.proposal_nms, 0.0)]
    suppressed += [(counts.proposals, rfcn.nms, rfcn.score_limit)]
    yield from _compare(
        "proposals_before_nms, proposals and detections",
        [_stored(graph, node, 1) for node in _nodes(graph, "TopK")],
        list(counts),
    )
    yield from _compare(
        "proposals, proposal_nms, nms and min_score",
        [_stored(graph, n, at) for n in _nodes(graph, "NonMaxSuppression") for at in (2, 3, 4)],
        [number for numbers in suppressed for number in numbers],
    )
    pooled = _nodes(graph, "RoiAlign")
    yield from _compare(
        "bins and proposals",
        [_stored(graph, node, 2) for node in pooled],
        [np.repeat(np.arange(rfcn.bins**2), counts.proposals)],
    )
    how = [
        node.attributes.get(name)
        for node in pooled
        for name in ("output_height", "output_width", "sampling_ratio", "spatial_scale")
    ]
    yield from _compare("stride", how, [1, 1, _SAMPLES, 1 / manifest.stride])
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    centres = (np.stack([x, y], axis=1) + 0.5) * manifest.stride
    tables = [
        graph.values[node.inputs[0]].values
        for node in _nodes(graph, "Gather")
        if graph.values[node.inputs[0]].is_stored
    ]
    yield from _compare(
        "frame_size, anchor_scales and anchor_ratios",
        tables,
        [
            np.repeat(centres, rfcn.anchors, axis=0),
            np.tile(anchor_sizes(rfcn), (height * width, 1)),
        ],
        _ANCHOR_ERROR,
    )


def _compare(what: str, found: list[Any], expected: list[Any], error: float = 0) -> Iterator[str]:
    """Yield the differences of numbers and tables, as float32."""
    fits = len(found) == len(expected) and all(
        own is not None and _is_near(np.asarray(own), np.asarray(wanted), error)
        for own, wanted in zip(found, expected, strict=True)
    )
    if not fits:
        yield f"its constants are not the manifest's {what}: {_told(found)}, not {_told(expected)}"


def _is_near(found: NDArray[Any], expected: NDArray[Any], error: float) -> bool:
    wanted = expected.astype(np.float32)
    return found.size == wanted.size and bool(
        (np.abs(found.astype(np.float32).ravel() - wanted.ravel()) <= error).all()
    )


def _nodes(graph: CheckedGraph, operator: str) -> list[Node]:
    return [node for node in graph.file.nodes if node.operator == operator]


def _stored(graph: CheckedGraph, node: Node, at: int) -> NDArray[Any] | None:
    return graph.values[node.inputs[at]].values


def _told(values: list[Any]) -> str:
    texts = []
    for value in values:
        array = np.asarray(value)
        texts.append(f"{array.ravel()[0]:g}" if array.size == 1 else f"{list(array.shape)}")
    return f"({', '.join(texts)})"
