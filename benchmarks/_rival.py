"""A segmentation network from elsewhere, an ONNX graph, that answers every frame by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import ConfigError, ShapeError
from dff_edge.frames import Image, LabelMap
from dff_edge.lifetime import Closing
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.kernels.resize import check_image, resize_image


@dataclass(frozen=True)
class Preparation:
    """How a frame is prepared for the network: ``(image - mean) / std``.

    Attributes:
        mean, std: of each channel, in the network's order, in levels 0..255.
        order: of the network's channels, "bgr" or "rgb".
    """

    mean: Sequence[float]
    std: Sequence[float]
    order: str = "bgr"

    def write(self, image: Image, out: NDArray[np.float32]) -> None:
        """Write an image, uint8 ``(h, w, 3)`` BGR, into ``out``, float32 ``(1, 3, H, W)``."""
        resized = np.empty((*out.shape[2:], 3), np.uint8)
        resize_image(check_image(image), resized)
        channels = resized.transpose(2, 0, 1)
        mean, std = (np.float32(values)[:, None, None] for values in (self.mean, self.std))
        np.subtract(channels if self.order == "bgr" else channels[::-1], mean, out=out[0])
        np.divide(out[0], std, out=out[0])


class Rival(Closing):
    """The network as a ``Predictor``: what is kept of a frame is its answer.

    Args:
        graph: of ``with_labels``.
        preparation: of its input.
        threads: of a run.
    """

    def __init__(self, graph: bytes, preparation: Preparation, threads: int) -> None:
        self._engine = OrtEngine(graph, name="rival", threads=threads)
        self._preparation = preparation
        self._inputs = {name: spec.empty() for name, spec in self._engine.inputs.items()}
        self._outputs = {name: spec.empty() for name, spec in self._engine.outputs.items()}

    def extract(self, image: Image) -> LabelMap:
        """Return the label map of an image, of the size that ``with_labels`` was given."""
        (read,), (labels,) = self._inputs.values(), self._outputs.values()
        self._preparation.write(image, read)
        self._engine.run(self._inputs, self._outputs)
        return labels[0].copy()

    def predict(self, key: LabelMap, image: Image | None) -> LabelMap:
        """Return the answer of ``extract``."""
        return key

    def close(self) -> None:
        """Free the graph."""
        self._engine.close()


def with_labels(
    graph: bytes, size: tuple[int, int], classes: Sequence[str], channels: Sequence[int] = ()
) -> bytes:
    """Return the graph with the label map of a frame as its output, uint8 ``(1, H, W)``.

    Scores are interpolated to the frame's size, as those of our models are, and the class of the
    greatest one is the label: both inside the graph, where they cost the least.

    Args:
        graph: an ONNX file; input float32 ``(1, 3, H', W')``, output float32 ``(1, K', h, w)``.
        size: ``(H, W)`` of frames.
        classes: names of the K classes of the data.
        channels: of the K' outputs that of each class; empty where they are the classes.

    Raises:
        ConfigError: other classes than the data's.
        ShapeError: other inputs or outputs.
    """
    _, scores = network_tensors(graph)
    count = scores.shape[1]
    if not channels and count != len(classes):
        raise ConfigError(
            f"the rival has scores of {count} classes, the data {len(classes)}: "
            f"{', '.join(classes)}. Name the output of each of these in --channels, as in 0,1,2."
        )
    if channels and (len(channels) != len(classes) or not set(channels) <= set(range(count))):
        raise ConfigError(
            f"--channels is {','.join(map(str, channels))}, expected {len(classes)} numbers from 0 "
            f"to {count - 1}: the output of each of {', '.join(classes)}."
        )
    model, name = onnx.load_from_string(graph), scores.name

    def append(operator: str, constants: Sequence[NDArray] = (), **attributes: object) -> None:
        nonlocal name
        given = []
        for number, constant in enumerate(constants):
            given.append(f"{operator}_of_labels_{number}" if constant.size else "")
            if constant.size:
                model.graph.initializer.append(numpy_helper.from_array(constant, given[-1]))
        made = f"{operator}_of_labels"
        model.graph.node.append(helper.make_node(operator, [name, *given], [made], **attributes))
        name = made

    if channels:
        append("Gather", [np.int64(channels)], axis=1)
    if scores.shape[2:] != size:
        nothing, shape = np.float32([]), np.int64([1, len(classes), *size])
        append("Resize", [nothing, nothing, shape], mode="linear")
    append("ArgMax", axis=1, keepdims=0)
    append("Cast", to=TensorProto.UINT8)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, [1, *size]))
    return model.SerializeToString()


def network_tensors(graph: bytes) -> tuple[TensorSpec, TensorSpec]:
    """Return input and output of a segmentation network.

    Raises:
        ShapeError: it has others than one picture and one map of scores.
        EngineError: ONNX Runtime cannot load it, or its sizes are not fixed.
    """
    with OrtEngine(graph, name="rival") as engine:
        inputs, outputs = tuple(engine.inputs.values()), tuple(engine.outputs.values())
    if len(inputs) != 1 or len(outputs) != 1:
        raise ShapeError(
            f"the rival has {len(inputs)} inputs and {len(outputs)} outputs, expected one of each: "
            "a picture and its scores. Cut the graph to them, with onnx.utils.extract_model."
        )
    for role, spec, wanted, fits in (
        ("input", inputs[0], "(1, 3, H, W)", inputs[0].shape[:2] == (1, 3)),
        ("output", outputs[0], "(1, classes, h, w)", outputs[0].shape[:1] == (1,)),
    ):
        if not fits or len(spec.shape) != 4 or spec.dtype != np.float32:
            raise ShapeError(
                f"the rival's {role} '{spec.name}' is {spec.dtype} {spec.shape}, expected float32 "
                f"{wanted}. Export the network for one picture, up to its scores."
            )
    return inputs[0], outputs[0]


def quantise(
    graph: bytes,
    images: Iterable[Image],
    preparation: Preparation,
    operators: Sequence[str] | None = None,
) -> bytes:
    """Quantise a network by ONNX Runtime's own static quantisation: Q/DQ, ranges by extremes.

    Activations are uint8, weights int8 with a scale for each output channel, for which CPUs have
    the fastest kernels; all else is as ``quantize_static`` does it.

    Args:
        graph: as of ``with_labels``.
        images: to calibrate on, uint8 ``(h, w, 3)`` BGR.
        preparation: of the network's input.
        operators: types of those to quantise; None for all that ONNX Runtime can.

    Raises:
        ConfigError: the network has none of the operators.
        ShapeError, EngineError: as ``network_tensors``.
    """
    spec, _ = network_tensors(graph)
    own = {node.op_type for node in onnx.load_from_string(graph).graph.node}
    if operators is not None and not own & set(operators):
        raise ConfigError(
            f"--operators is {','.join(operators)}, expected some of the rival's: "
            f"{', '.join(sorted(own))}."
        )

    def samples() -> Iterable[dict[str, NDArray[np.float32]]]:
        for image in images:
            read = spec.empty()
            preparation.write(image, read)
            yield {spec.name: read}

    with tempfile.TemporaryDirectory() as folder:
        given, prepared, made = (Path(folder) / f"{name}.onnx" for name in ("a", "b", "c"))
        given.write_bytes(graph)
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            made,
            _Reader(samples()),
            op_types_to_quantize=operators,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return made.read_bytes()


class _Reader(CalibrationDataReader):
    def __init__(self, samples: Iterable[dict[str, NDArray[np.float32]]]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._samples, None)
