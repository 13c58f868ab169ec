"""The stand-in's engines: ONNX files that compute on the emulated driver. See fake_tensorrt.py."""

from __future__ import annotations

import ctypes
import enum
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from dff_edge.runtime.engines.onnxruntime import session_options

PLUGIN = "DffWarp"

_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    INT64 = 8


class TensorFormat(enum.IntEnum):
    LINEAR = 0
    CHW2 = 1
    HWC8 = 2
    CHW32 = 5


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class LayerInformationFormat(enum.Enum):
    ONELINE = 0
    JSON = 1


class ITensor:
    def __init__(self, name: str, dtype: DataType, shape: tuple[int, ...]) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape
        self.allowed_formats = (1 << 13) - 1


class Inspector:
    def __init__(self, model: onnx.ModelProto, release: str) -> None:
        self._model, self._release = model, release

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        assert format is LayerInformationFormat.JSON
        layers = [{"Name": n.name, "LayerType": n.op_type} for n in self._model.graph.node]
        tensors = "Bindings" if self._release == "10.3" else "I/O Tensors"
        return json.dumps({"Layers": layers, tensors: []})


class Engine:
    def __init__(self, model: onnx.ModelProto, release: str) -> None:
        self._model, self._release = model, release
        known = {i.name for i in model.graph.initializer}
        inputs = [tensor_of(v) for v in model.graph.input if v.name not in known]
        outputs = [tensor_of(v) for v in model.graph.output]
        self._modes = dict.fromkeys((t.name for t in inputs), TensorIOMode.INPUT)
        self._modes |= dict.fromkeys((t.name for t in outputs), TensorIOMode.OUTPUT)
        self._tensors = {t.name: t for t in [*inputs, *outputs]}
        self.needs_plugin = any(n.op_type == PLUGIN for n in model.graph.node)

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._modes[name]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._tensors[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def get_tensor_format(self, name: str) -> TensorFormat:
        # How a test asks for another format: real ONNX files have no such thing.
        asked = {p.key: p.value for p in self._model.metadata_props}
        return TensorFormat[asked.get(f"format of {name}", "LINEAR")]

    def get_tensor_format_desc(self, name: str) -> str:
        return f"{self.get_tensor_format(name).name}: as its test says"

    def create_execution_context(self) -> Context:
        return Context(self)

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self._model, self._release)


class Context:
    """Runs as a host function of the driver, on the stream that it is given."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._compute = _computation(engine._model)
        self._addresses: dict[str, int] = {}
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._calls: list[Any] = []  # the driver keeps no reference to a Python function
        self.address_calls = 0

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._tensors or memory == 0:
            return False
        self.address_calls += 1
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert type(stream_handle) is int, "a stream handle is an int"
        if self._addresses.keys() != self._engine._tensors.keys():
            return False
        addresses = dict(self._addresses)  # as they are now: they may change before it runs

        def work(_: Any) -> None:
            arrays = {n: _array_at(addresses[n], t) for n, t in self._engine._tensors.items()}
            modes = self._engine._modes
            given = {n: a.copy() for n, a in arrays.items() if modes[n] is TensorIOMode.INPUT}
            for name, value in self._compute(given).items():
                arrays[name][...] = value

        call = _HOST_FUNCTION(work)
        self._calls.append(call)
        status: int = self._driver.cuLaunchHostFunc(ctypes.c_void_p(stream_handle), call, None)
        return status == 0


def warp_by_definition(
    features: np.ndarray, flow: np.ndarray, scale: np.ndarray, scale_step: float
) -> np.ndarray:
    """Compute the plugin's Eq. (1)-(3): a sum over the four cells around each place."""
    _, height, width, _ = features.shape
    out = np.zeros(features.shape, np.float64)
    for y, x in np.ndindex(height, width):
        dx, dy = flow[0, y, x].astype(np.float64)
        if not np.isfinite([dx, dy]).all():
            continue
        for row in (int(np.floor(y + dy)), int(np.floor(y + dy)) + 1):
            for column in (int(np.floor(x + dx)), int(np.floor(x + dx)) + 1):
                if 0 <= row < height and 0 <= column < width:
                    weight = (1 - abs(y + dy - row)) * (1 - abs(x + dx - column))
                    out[0, y, x] += weight * features[0, row, column].astype(np.float64)
    out *= scale.astype(np.float64)
    if features.dtype == np.int8:
        out = np.clip(np.rint(out * scale_step), -128, 127)
    return out.astype(features.dtype)


def tensor_of(value: onnx.ValueInfoProto) -> ITensor:
    names = {"float32": "FLOAT", "float16": "HALF", "bool": "BOOL"}
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
    shape = tuple(
        d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim
    )
    return ITensor(value.name, DataType[names.get(dtype, dtype.upper())], shape)


def _array_at(address: int, tensor: ITensor) -> np.ndarray:
    names = {"FLOAT": "float32", "HALF": "float16", "BOOL": "bool"}
    dtype = np.dtype(names.get(tensor.dtype.name, tensor.dtype.name.lower()))
    count = int(np.prod(tensor.shape))
    memory = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype, count).reshape(tensor.shape)


def _computation(model: onnx.ModelProto) -> Any:
    names = [value.name for value in model.graph.output]
    warps = [node for node in model.graph.node if node.op_type == PLUGIN]
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    if warps:  # the plugin comes first, and the rest of the graph reads what it gives
        (warp,) = warps
        attributes = {a.name: helper.get_attribute_value(a) for a in warp.attribute}
        assert attributes["channels_last"] == 1
        del rest.graph.input[:]
        warped = rest.graph.input.add()
        warped.CopyFrom(next(i for i in model.graph.input if i.name == warp.input[0]))
        warped.name = warp.output[0]
        rest.graph.node.remove(warp)
        del rest.opset_import[:]
        rest.opset_import.extend(o for o in model.opset_import if o.domain != warp.domain)
    session = None
    if rest.graph.node:
        session = onnxruntime.InferenceSession(
            rest.SerializeToString(),
            session_options(onnxruntime, threads=1),
            providers=["CPUExecutionProvider"],
        )

    def compute(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for node in warps:
            maps = [given[name] for name in node.input]
            step = float(attributes.get("scale_step", 1.0))
            given = {node.output[0]: warp_by_definition(*maps, step)}
        return (
            given if session is None else dict(zip(names, session.run(names, given), strict=True))
        )

    return compute
