"""INT8 for ONNX Runtime: the ``ort`` flavour of explicit Q/DQ.

uint8 asymmetric activations and int8 weights with a scale for each output channel. The operators
that ONNX Runtime fuses into integer kernels determine what is quantised, and how:

- Q stands right behind Conv; the ReLU between them is removed, since the lowest value of Q is
  zero, and so is ReLU6. LeakyReLU stays, between pairs of its own.
- ConvTranspose has no integer kernel: it becomes Conv and a shuffle (``upsampling``).
- The first convolution reads blocks of pixels, as bytes (``stem``).
- The scale field's product becomes Conv, which writes bytes (``heads``); feature maps and scale
  field leave and enter the subnets as bytes (``byte_maps``).
- The task network's MatMul reads integers and writes float32; so does the one that computes the
  correction, which is added to its result. The gate of the correction is computed in float.
- Weights have 8 bits. With 7, -64 to 64, the sums of two products that x86 without VNNI adds in 16
  bits fit, which is faster by a third to two fifths than the kernels without that sum, and the
  result is the same in OpenVINO, which has no others. Depthwise convolutions have kernels of their
  own, and keep 8.
- The convolution that computes the flow stays float: its two channels cost nothing, and a
  large flow seen once would leave few of 256 levels for the small ones.

Ranges are the smallest and largest values seen. Measured once, while this was chosen (no command
repeats it), on a half-trained ResNet-18 with FlowNet Inception, 30 frames at distances 0, 2 and
4: label pixels that equal those of fp32, and mean IoU at distance 4, where fp32 has 0.8079:

    extremes                        99.80%   0.8079
    mean over frames of extremes    99.78%   0.8071
    percentile 99.999               99.80%   0.8071
    percentile 99.99                99.77%   0.8064
    percentile 99.9                 99.58%   0.8049

The extremes are also reduced inside the graph, so that calibration holds two numbers per
tensor and frame, where percentiles need every activation of a frame at once. The flow
convolution in int8: 99.79%; the scale field's product in float: 99.80%.

MobileNetV2 with random weights keeps a correlation of 0.69 to 0.82 with fp32 (widths 0.125 to 1),
and as much where torch rounds the same weights and values: its narrow linear blocks carry every
rounding on. The quantiser cannot improve that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType  # type: ignore[import-untyped]
from onnxruntime.quantization.calibrate import (  # type: ignore[import-untyped]
    TensorData,
    create_calibrator,
)
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer  # type: ignore[import-untyped]
from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]

from dff_edge.bundle.levels import Levels, MapLevels
from dff_edge.calibration.ort.byte_maps import (
    cut_to_bytes,
    dequantize_inputs,
    fix_ranges,
    levels_over,
    moved_values,
    rectified_outputs,
)
from dff_edge.calibration.ort.heads import rewrite_product
from dff_edge.calibration.ort.stem import rewrite_stem
from dff_edge.calibration.ort.upsampling import rewrite_upsampling
from dff_edge.calibration.shared_weights import copy_shared_weights
from dff_edge.names import WeightBits
from dff_edge.onnx_graphs.tidy import finish

Inputs = dict[str, Any]

_QUANTISED_OPERATORS = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "Gemm",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Relu",
    "Reshape",
    "Slice",
    "Transpose",
)
_WEIGHTED_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_FLOAT_OUTPUT_HEADS = frozenset({"flow"})


def quantize_graph(
    graph: bytes, samples: Iterable[Inputs], levels: MapLevels, weight_bits: WeightBits = 8
) -> bytes:
    """Quantise one fp32 graph.

    Args:
        graph: an ONNX file as ``export_bundle`` writes it.
        samples: inputs by name; they are read once and not kept.
        levels: of features and scale field, which become uint8.
        weight_bits: 8, or 7 for x86 without VNNI.

    Returns:
        The ONNX file with inputs and outputs of the same names and shapes.
    """
    given_model = onnx.load_from_string(graph)
    borders = levels.by_name
    if not any(node.op_type in _WEIGHTED_OPERATORS for node in given_model.graph.node):
        # A task network without layers (split "none") only reads propagated maps.
        dequantize_inputs(given_model, borders)
        return finish(given_model)
    with tempfile.TemporaryDirectory(prefix="dff-edge-") as folder:
        given, prepared = Path(folder) / "given.onnx", Path(folder) / "prepared.onnx"
        onnx.save(_rewritten(given_model), given)
        # Shapes are static already; symbolic inference would need sympy.
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        calibrator = create_calibrator(
            prepared,
            list(_QUANTISED_OPERATORS),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(_Reader(samples))
        ranges = calibrator.compute_data()
        del calibrator
        model = onnx.shape_inference.infer_shapes(onnx.load(prepared))
    fixed = {**fix_ranges(model, borders), **known_values(model)}
    rectified = rectified_outputs(model)
    for name in fixed.keys() & ranges.keys():
        low, high = fixed[name].range
        ranges[name] = TensorData(lowest=np.float32(low), highest=np.float32(high))
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,  # it would be that of constants too, which are no weights
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=float_nodes(model),
        op_types_to_quantize=list(_QUANTISED_OPERATORS),
        extra_options={
            "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
            "TensorQuantOverrides": seven_bits(model) if weight_bits == 7 else {},
        },
    )
    quantizer.quantize_model()
    quantized = quantizer.model.model
    cut_to_bytes(quantized, borders, rectified)
    _make_single_steps_scalars(quantized)
    copy_shared_weights(quantized)
    quantizer.model.clean_initializers()
    quantizer.model.topological_sort()
    return finish(quantized)


def _make_single_steps_scalars(model: onnx.ModelProto) -> None:
    """Make a step of shape (1,) beside a scalar zero a scalar too, as ONNX wants it.

    The quantiser writes them so for the bias of a layer with one output channel.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 3:
            step, zero = (tensors.get(name) for name in node.input[1:])
            if step is not None and zero is not None and list(step.dims) == [1] and not zero.dims:
                name = f"{step.name}_scalar"
                if name not in tensors:
                    value = numpy_helper.to_array(step).reshape(())
                    tensors[name] = numpy_helper.from_array(value, name)
                    model.graph.initializer.append(tensors[name])
                node.input[1] = name


def _rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that computes the same in forms that INT8 has kernels for."""
    model = rewrite_upsampling(rewrite_stem(model))
    return rewrite_product(model, "scale")


def known_values(model: onnx.ModelProto) -> dict[str, Levels]:
    """Return the levels of frames cast to float, less a stored mean or not: known, not measured.

    Frames that are brighter than those of the calibration must not be clipped.
    """
    values = (*model.graph.input, *model.graph.value_info)
    bytes_ = {v.name for v in values if v.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    known: dict[str, Levels] = {}
    for node in model.graph.node:  # sorted
        if node.op_type == "Cast" and node.input[0] in bytes_:
            known[node.output[0]] = Levels(1.0, 0)
        elif node.op_type == "Concat" and set(node.input) <= known.keys():
            known[node.output[0]] = known[node.input[0]]
        elif node.op_type == "Reshape" and node.input[0] in known:
            known[node.output[0]] = known[node.input[0]]
        elif node.op_type in ("Add", "Sub") and node.input[0] in known and node.input[1] in stored:
            shift = stored[node.input[1]] * (1 if node.op_type == "Add" else -1)
            levels = levels_over(float(shift.min()), 255 + float(shift.max()))
            known |= dict.fromkeys(moved_values(model.graph, node.output[0]), levels)
    return known


def seven_bits(model: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    """Return the quantiser's options by weight, for all layers but depthwise convolutions."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    options: dict[str, list[dict[str, Any]]] = {}
    for node in model.graph.node:
        if node.op_type not in _WEIGHTED_OPERATORS or node.input[1] not in stored:
            continue
        attributes = {a.name: a.i for a in node.attribute}
        groups, outputs = attributes.get("group", 1), stored[node.input[1]].dims[0]
        if node.op_type == "Conv" and groups == outputs > 1:
            continue
        by_rows = node.op_type == "Conv" or attributes.get("transB", 0)
        options[node.input[1]] = [{"axis": 0 if by_rows else 1, "reduce_range": True}]
    return options


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that stay float although their operator is quantised."""
    makers = {name: node for node in model.graph.node for name in node.output}
    added = set(moved_values(model.graph, "correction"))
    names: list[str] = []
    for node in model.graph.node:
        sources = [makers[name] for name in node.input if name in makers]
        # The bias of a MatMul, on its float outputs, and the correction.
        if node.op_type == "Add" and (
            any(source.op_type == "MatMul" for source in sources) or added & set(node.input)
        ):
            names.append(node.name)
    return names + correction_nodes(model) + flow_nodes(model)


def correction_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes behind the correction's scores, and of those of its gate.

    The gate is one number for each cell, of a product that costs nothing.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    names: list[str] = []
    pending = [("correction", False)]  # a value, and whether it is the gate's
    while pending:
        name, is_gate = pending.pop()
        node = makers.get(name)
        is_product = node is not None and node.op_type in ("Gemm", "MatMul")
        if node is None or (is_product and not is_gate):
            continue
        names.append(node.name)
        if not is_product:
            pending.append((node.input[0], is_gate))
        if node.op_type == "Mul":
            pending.append((node.input[1], True))
    return names


def flow_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that compute the flow: convolution, and moves of its values."""
    makers = {name: node for node in model.graph.node for name in node.output}
    names: list[str] = []
    for output in model.graph.output:
        if output.name not in _FLOAT_OUTPUT_HEADS:
            continue
        name = output.name
        while name in makers:  # back to the convolution, through the Transpose
            node = makers[name]
            names.append(node.name)
            if node.op_type == "Conv":
                break
            name = node.input[0]
    return names


class _Reader:
    """The data reader that the calibrator calls: one sample per call, None at the end."""

    def __init__(self, samples: Iterable[Inputs]) -> None:
        self._samples: Iterator[Inputs] = iter(samples)

    def get_next(self) -> Inputs | None:
        return next(self._samples, None)
