"""Check of a graph's file for its uses in a bundle."""

from __future__ import annotations

import io
from collections.abc import Collection

from dff_edge.bundle.graphs.agreement import compared_inputs, disagreements
from dff_edge.bundle.graphs.byte_stream import ByteStream
from dff_edge.bundle.graphs.onnx_check import CheckedGraph, check_stream, cost_problem
from dff_edge.bundle.graphs.onnx_file import LOCAL_DOMAIN, WARP_PLUGIN
from dff_edge.bundle.graphs.tensorrt_check import check_for_tensorrt
from dff_edge.bundle.manifest import Manifest
from dff_edge.errors import BundleError
from dff_edge.names import Flavour, GraphName, Precision
from dff_edge.printable import printable

_PLUGIN_USE: tuple[Flavour, GraphName] = ("trt", "propagate")


def read_graph(
    stream: ByteStream, name: str, uses: Collection[tuple[Flavour, GraphName]]
) -> CheckedGraph:
    """Read a file and raise if it is invalid for its uses in any bundle.

    Args:
        stream: the file, at its start.
        name: its name in messages.
        uses: the graphs that it serves as; of fp32, most serve both flavours.

    Raises:
        BundleError: see ``check_stream``, and ``check_for_tensorrt`` for that flavour; or a graph
            for the plugin that does not call it exactly once.
    """
    plugin = set(uses) == {_PLUGIN_USE}
    flavour: Flavour = "trt" if any(own == "trt" for own, _ in uses) else "ort"
    graph = check_stream(stream, name, flavour=flavour, plugin=plugin, kept=compared_inputs)
    count = graph.summary.operators[f"{LOCAL_DOMAIN}::{WARP_PLUGIN}"]
    if _PLUGIN_USE in uses and count != 1:
        raise BundleError(
            f"{name} has {count} nodes {WARP_PLUGIN}, expected 1: it is the graph that uses the "
            "warp from TensorRT's plugin. Export and calibrate the bundle again."
        )
    if flavour == "trt":
        check_for_tensorrt(graph, name)
    return graph


def read_graph_bytes(
    data: bytes, name: str, uses: Collection[tuple[Flavour, GraphName]]
) -> CheckedGraph:
    """Call ``read_graph`` on bytes in memory."""
    return read_graph(ByteStream(io.BytesIO(data), len(data)), name, uses)


def check_graph(
    manifest: Manifest,
    precision: Precision,
    name: GraphName,
    file_name: str,
    graph: CheckedGraph,
    flavour: Flavour = "ort",
) -> None:
    """Raise unless a graph is the expected one.

    Args:
        manifest: of the bundle.
        precision, name, flavour: of the expected graph.
        file_name: its name in messages.
        graph: from ``read_graph``.

    Raises:
        BundleError: inputs and outputs that differ from the contract, excessive costs, or
            values that differ from the manifest.
    """
    summary = graph.summary
    problems = manifest.contract(precision, name, flavour).problems(summary.inputs, summary.outputs)
    if not problems:
        height, width = manifest.frame_size
        cost = cost_problem(summary, height * width)
        problems = [f"it {cost}"] if cost else []
        problems += disagreements(manifest, precision, name, graph, flavour)
    if problems:
        raise BundleError(
            f"{file_name} does not fit the manifest as the {name} graph: "
            f"{printable('; '.join(problems))}. Export and calibrate the bundle again."
        )
