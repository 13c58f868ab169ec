"""Comparison of a manifest with its graphs: levels of bytes, precision, the mean, R-FCN.

The runtime uses the manifest, an engine the graph. Where the two differ every result is
wrong without another sign, so they are compared when a bundle is written and when it is
opened. Shapes of inputs and outputs, and with them frame size, channels, classes, anchors a cell
and bins, are compared by ``GraphContract``.

Not compared: the deviation of the normalisation, which is folded into the weights of the first
convolution and which nothing reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.graphs.detection_agreement import rfcn_problems
from dff_edge.bundle.graphs.onnx_check import CheckedGraph
from dff_edge.bundle.graphs.onnx_file import LOCAL_DOMAIN, WARP_FUNCTION, WARP_PLUGIN, Node
from dff_edge.bundle.graphs.onnx_values import HALF
from dff_edge.bundle.levels import Levels, MapLevels
from dff_edge.bundle.manifest import Manifest
from dff_edge.names import Flavour, GraphName, Precision

_MOVES = ("Reshape", "Slice", "Transpose")  # operators that change no value
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
_FRAMES = ("frame", "key_half", "frame_half")
_BEFORE_CENTRING = (*_MOVES, *_CONVERSIONS, "Cast", "Concat")

# How far a stored mean may be from the manifest's, of 255.
_MEAN_ERROR, _HALF_MEAN_ERROR = 1e-3, 0.125  # rounding of float32; of float16 between 128 and 255


def compared_inputs(nodes: list[Node]) -> set[str]:
    """Return the names of the stored tensors whose numbers are compared here."""
    operands = {n.inputs[1] for n in nodes if n.operator in ("Add", "Sub") and len(n.inputs) > 1}
    wanted = set(operands)
    for node in nodes:
        is_mean = node.operator == "DequantizeLinear" and operands.intersection(node.outputs)
        if node.inputs and (is_mean or node.operator in ("Gather", "Identity")):
            wanted.add(node.inputs[0])
        elif node.operator == "Clip":
            wanted.update(node.inputs[1:2])
    return wanted


def disagreements(
    manifest: Manifest,
    precision: Precision,
    name: GraphName,
    graph: CheckedGraph,
    flavour: Flavour,
) -> list[str]:
    """Describe how a graph differs from its manifest; empty if it does not.

    Args:
        manifest: of the bundle.
        precision, name, flavour: of the graph.
        graph: the graph, whose inputs and outputs match the contract.
    """
    problems = list(_precision_problems(precision, graph))
    levels = manifest.map_levels(precision, flavour)
    wiring = _Wiring(graph)
    if levels is not None:
        problems += _level_problems(levels, wiring)
    problems += _plugin_problems(levels, graph)
    if name in ("feature", "flow"):
        problems += _mean_problems(np.array(manifest.normalisation.mean), wiring)
    if manifest.rfcn is not None and flavour == "ort" and name in ("task", "propagate"):
        problems += rfcn_problems(manifest, graph)
    return problems


class _Wiring:
    """Producers and readers of each value of a graph."""

    def __init__(self, graph: CheckedGraph) -> None:
        self.graph = graph
        self.makers = {name: node for node in graph.file.nodes for name in node.outputs}
        self._readers: dict[str, list[Node]] = {}
        for node in graph.file.nodes:
            for name in node.inputs:
                self._readers.setdefault(name, []).append(node)

    def readers(self, name: str) -> list[Node]:
        """Return the nodes that read a value."""
        return self._readers.get(name, [])

    def stored(self, name: str) -> NDArray[Any] | None:
        """Return the numbers of a value, where they are stored and kept."""
        return self.graph.values[name].values

    def levels(self, node: Node) -> tuple[float, int] | None:
        """Return step and zero of Q or DQ; None for levels per channel."""
        step, zero = (self.stored(name) for name in node.inputs[1:3])
        if step is None or zero is None or step.shape != ():
            return None
        return float(step), int(zero)


def _precision_problems(precision: Precision, graph: CheckedGraph) -> Iterator[str]:
    operators = graph.summary.operators
    has_bytes = any(operators[name] for name in _CONVERSIONS)
    has_halves = HALF in graph.summary.dtypes
    has_weights = any(operators[name] for name in _WEIGHTED)
    if has_bytes and precision != "int8":
        yield f"it computes in int8, expected {precision}"
    if has_halves and precision != "fp16":
        yield f"it computes in fp16, expected {precision}"
    if has_weights and not has_bytes and precision == "int8":
        yield "it computes without int8"
    if has_weights and not has_halves and precision == "fp16":
        yield "it computes without fp16"


def _level_problems(levels: MapLevels, wiring: _Wiring) -> Iterator[str]:
    """Compare the levels of all maps that enter, leave, or come out of the warp."""
    file = wiring.graph.file
    for name, own in levels.by_name.items():
        if name in file.inputs:
            yield from _reading_problems(wiring, name, own, f"input '{name}'")
        if name in file.outputs:
            yield from _making_problems(wiring, name, own, f"output '{name}'")
    for name in _warped(wiring):
        yield from _warped_problems(wiring, name, levels.features)


def _reading_problems(wiring: _Wiring, name: str, levels: Levels, what: str) -> Iterator[str]:
    """Check that the readers of bytes dequantise them by their levels."""
    for node in wiring.readers(name):
        if node.operator in _MOVES:
            yield from _reading_problems(wiring, node.outputs[0], levels, what)
        elif node.operator == "DequantizeLinear":
            yield from _differences(wiring.levels(node), levels, f"{what} is read")
        elif node.operator != WARP_PLUGIN:
            yield f"{what} is read by {node}, expected DequantizeLinear"


def _making_problems(wiring: _Wiring, name: str, levels: Levels, what: str) -> Iterator[str]:
    """Check that bytes are quantised by their levels, or are those of a stored one."""
    node = wiring.makers.get(name)
    while node is not None and node.operator in (*_MOVES, "Clip"):
        if node.operator == "Clip":  # a ReLU on bytes
            lowest = wiring.stored(node.inputs[1])
            if lowest is None or lowest.shape != () or int(lowest) != levels.zero:
                yield f"{what} is cut off below {lowest}, the manifest says that 0 is {levels.zero}"
        node = wiring.makers.get(node.inputs[0])
    if node is not None and node.operator == "QuantizeLinear":
        yield from _differences(wiring.levels(node), levels, f"{what} is made")
    elif node is not None and node.operator == "Identity":
        stored = wiring.stored(node.inputs[0])
        # Of a flow network without scale field.
        if stored is None or not np.allclose(levels.dequantize(stored), 1.0, rtol=0, atol=1e-6):
            yield f"{what} is stored and not 1 in the manifest's levels"
    else:
        yield f"{what} is made by {node or 'no node'}, expected QuantizeLinear"


def _warped(wiring: _Wiring) -> Iterator[str]:
    """Yield names of the warp's outputs: of the function, the plugin, or the last of its nodes."""
    for node in wiring.graph.file.nodes:
        if node.domain == LOCAL_DOMAIN and node.operator in (WARP_FUNCTION, WARP_PLUGIN):
            yield node.outputs[0]
        elif node.operator == "GridSample":
            name = node.outputs[0]
            while True:  # moved, times the scale field
                (reader,) = wiring.readers(name)[:1] or (None,)
                if reader is None or reader.operator not in (*_MOVES, "Mul"):
                    break
                name = reader.outputs[0]
            yield name


def _warped_problems(wiring: _Wiring, name: str, levels: Levels) -> Iterator[str]:
    """Check that the warp's output has the levels of the features."""
    if wiring.graph.values[name].dtype.kind != "f":
        yield from _reading_problems(wiring, name, levels, "what was warped")
        return
    for node in wiring.readers(name):
        if node.operator != "QuantizeLinear":
            yield f"what was warped is read by {node}, expected QuantizeLinear"
            continue
        yield from _differences(wiring.levels(node), levels, "what was warped is made")
        yield from _reading_problems(wiring, node.outputs[0], levels, "what was warped")


def _differences(found: tuple[float, int] | None, levels: Levels, what: str) -> Iterator[str]:
    expected = (float(np.float32(levels.step)), levels.zero)
    if found != expected:
        told = "steps for each channel" if found is None else f"step {found[0]:g}, zero {found[1]}"
        yield f"{what} with {told}, the manifest says step {expected[0]:g}, zero {expected[1]}"


def _plugin_problems(levels: MapLevels | None, graph: CheckedGraph) -> Iterator[str]:
    step = 1.0 if levels is None else float(np.float32(levels.scale.step))
    for node in graph.file.nodes:
        if node.operator == WARP_PLUGIN and node.attributes["scale_step"] != step:
            found = node.attributes["scale_step"]
            yield f"{node} has the scale_step {found!r}, the manifest says {step!r}"


def _mean_problems(mean: NDArray[np.float64], wiring: _Wiring) -> Iterator[str]:
    """Check that a network begins by subtracting the mean from the frames."""
    for frame in _FRAMES:
        if frame not in wiring.graph.file.inputs:
            continue
        found = _subtracted(wiring, frame)
        if found is None:
            yield f"no mean is subtracted from '{frame}', the manifest says {_told(mean)}"
            continue
        row, error = found
        pixels = row.reshape(-1, 3) if row.size % 3 == 0 else row.reshape(-1, 1)
        if np.abs(pixels - mean).max(initial=0) > error:
            far = pixels[np.abs(pixels - mean).max(axis=1).argmax()]
            yield f"the mean {_told(far)} is subtracted from '{frame}', the manifest says " + (
                _told(mean)
            )


def _subtracted(wiring: _Wiring, frame: str) -> tuple[NDArray[np.float64], float] | None:
    """Return the value subtracted from a frame, and the error bound of its storage."""
    pending = [frame]
    while pending:
        for node in wiring.readers(pending.pop()):
            if node.operator in _BEFORE_CENTRING:
                pending.append(node.outputs[0])
            elif node.operator in ("Add", "Sub"):
                sign = 1.0 if node.operator == "Sub" else -1.0
                stored, error = _operand(wiring, node.inputs[1])
                if stored is not None:
                    return sign * stored.astype(np.float64), error
    return None


def _operand(wiring: _Wiring, name: str) -> tuple[NDArray[Any] | None, float]:
    """Return the numbers of a stored operand, of floats or bytes, and their error bound."""
    value, maker = wiring.graph.values[name], wiring.makers.get(name)
    if maker is None or maker.operator != "DequantizeLinear":
        return value.values, _HALF_MEAN_ERROR if value.dtype == HALF else _MEAN_ERROR
    levels, stored = wiring.levels(maker), wiring.stored(maker.inputs[0])
    if levels is None or stored is None:
        return None, 0.0
    step, zero = levels
    return step * (stored.astype(np.float64) - zero), step / 2 + _MEAN_ERROR


def _told(mean: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in mean) + ")"
