"""Conversion of a torch module to a tidy ONNX graph of operator set 17, 18 or 19."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import onnx
import torch
from onnx import defs, helper
from torch import Tensor, nn

from dff_edge import __version__
from dff_edge.bundle.graphs.onnx_file import OPSETS
from dff_edge.errors import ConfigError, ExportError
from dff_edge.export.padding import fold_padding

# Written natively by the exporter. The others differ in the number alone.
_EXPORTED_OPSET = 18

# Operators that got a new version within 17..19 for types or attributes that no graph of
# ours has: float8, bfloat16, dilated AveragePool, and the like.
_SAME_FOR_US = frozenset({"AveragePool", "Cast", "Constant", "Identity", "Reshape", "Equal"})


def export_onnx(
    module: nn.Module,
    name: str,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    opset: int,
) -> onnx.ModelProto:
    """Export a module with static shapes.

    Args:
        module: called with the values of ``inputs`` in order.
        name: of the graph.
        inputs: example of each input by name, which defines shapes and types.
        outputs: names of the module's outputs.
        opset: version of the standard operators, 17 to 19.

    Returns:
        A model without traces of the machine that made it, and with inferred shapes.

    Raises:
        ConfigError: an operator set outside 17 to 19.
        ExportError: the exporter failed, or left nodes that do not belong on a device.
    """
    check_opset(opset)
    with _quiet():
        try:
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=_EXPORTED_OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                verbose=False,
            )
        except Exception as error:  # the exporter raises classes of its own, all internal
            raise ExportError(f"The {name} graph could not be exported: {error}") from error
    assert program is not None
    model = program.model_proto
    model.graph.name = name
    _stamp_opset(model, opset)
    _strip_traces(model)
    _compute_constant_outputs(model)
    fold_padding(model)
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    _check_tidy(model, module)
    return model


def check_opset(opset: int) -> None:
    """Raise for an operator set that bundles do not support.

    Raises:
        ConfigError: names the supported ones.
    """
    if opset not in OPSETS:
        raise ConfigError(
            f"opset is {opset}, expected {OPSETS[0]} to {OPSETS[-1]}: older ones lack local "
            "functions, newer ones change GridSample under older parsers."
        )


def _stamp_opset(model: onnx.ModelProto, opset: int) -> None:
    """Change the number of the operator set where the operators are the same in both."""
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise ExportError(f"The exporter wrote the operator {node.domain}::{node.op_type}.")
        versions = {
            defs.get_schema(node.op_type, number, "").since_version
            for number in (_EXPORTED_OPSET, opset)
        }
        if len(versions) > 1 and node.op_type not in _SAME_FOR_US:
            raise ExportError(
                f"The operator {node.op_type} differs between operator sets {_EXPORTED_OPSET} and "
                f"{opset}. Export with opset {_EXPORTED_OPSET}."
            )
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))


def _strip_traces(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes on source files and module names."""
    graph = model.graph
    model.doc_string = graph.doc_string = ""
    model.producer_name, model.producer_version = "dff-edge", __version__
    noted = (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer)
    for item in noted:
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


def _compute_constant_outputs(model: onnx.ModelProto) -> None:
    """Insert a node before outputs that are stored values, which some parsers do not accept."""
    outputs = {output.name for output in model.graph.output}
    for tensor in model.graph.initializer:
        if tensor.name in outputs:
            node = helper.make_node(
                "Identity", [f"{tensor.name}_value"], [tensor.name], f"node_{tensor.name}"
            )
            tensor.name = node.input[0]
            model.graph.node.append(node)


def _check_tidy(model: onnx.ModelProto, module: nn.Module) -> None:
    """Raise for a graph with leftovers of training or of tracing."""
    found = [node.op_type for node in model.graph.node]
    expected = {
        "Conv": sum(isinstance(m, nn.Conv2d) for m in module.modules()),
        "ConvTranspose": sum(isinstance(m, nn.ConvTranspose2d) for m in module.modules()),
        "BatchNormalization": 0,
        "Shape": 0,
    }
    for operator, count in expected.items():
        # Layers of pre-training only are in the module, and not in the graph.
        if found.count(operator) > count:
            raise ExportError(
                f"The {model.graph.name} graph has {found.count(operator)} {operator} nodes, "
                f"expected at most {count}."
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's notes on itself from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
