"""A stand-in for the module ``tensorrt``, to run engines and the scheduler where there is no GPU.

    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("10.3"))

What it is good for: it has only names that TensorRT 10.3 *and* 11.1 have, with their signatures
(any other name is an AttributeError); it refuses what TensorRT refuses and is known to be got
wrong: an engine of another version, addresses that were not set, a network that is not strongly
typed, plugins that are not registered; and it computes in stream order on the device's memory,
by host functions of the driver, so that a missing wait or copy gives wrong results on the emulated
driver. Differences between the two versions that callers must bear are here as well.

What it is NOT: a proof of how TensorRT behaves. An "engine" is the ONNX file, computed by ONNX
Runtime on the CPU (the warp's plugin by its definition here, where it is a graph's first node).
That the names and signatures are real is held against TensorRT for RTX in
``tests/deploy/test_tensorrt.py``; everything else needs a GPU.
"""

from __future__ import annotations

import enum
from types import ModuleType
from typing import Any

import onnx
from onnx import helper

from tests.runtime.engines.fake_tensorrt_engine import (
    PLUGIN,
    DataType,
    Engine,
    ITensor,
    LayerInformationFormat,
    TensorFormat,
    TensorIOMode,
    tensor_of,
)

VERSIONS = {"10.3": "10.3.0", "11.1": "11.1.0.106"}


class LayerType(enum.Enum):
    CONVOLUTION = 0
    ELEMENTWISE = 3
    GRID_SAMPLE = 40
    PLUGIN_V3 = 46


class InterpolationMode(enum.Enum):
    NEAREST = 0
    LINEAR = 1
    CUBIC = 2


class SampleMode(enum.Enum):
    FILL = 3
    CLAMP = 4
    REFLECT = 5


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(enum.Enum):
    TF32 = 7


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class ProfilingVerbosity(enum.Enum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity

    def __init__(self) -> None:
        self.is_made = True  # TensorRT's own crashes when a subclass leaves this call out

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        self.is_made = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class ILayer:
    """As in TensorRT, a layer has the attributes of its kind only after a change of class."""

    def __init__(self, kind: LayerType, name: str, facts: dict[str, Any]) -> None:
        self.type, self.name, self._facts = kind, name, facts


class IGridSampleLayer(ILayer):
    @property
    def interpolation_mode(self) -> InterpolationMode:
        return self._facts["interpolation_mode"]

    @property
    def sample_mode(self) -> SampleMode:
        return self._facts["sample_mode"]

    @property
    def align_corners(self) -> bool:
        return self._facts["align_corners"]


class IPluginRegistry:
    """Loads libraries by name alone: one that begins with b"not a plugin" is refused."""

    def __init__(self) -> None:
        self._creators: set[str] = set()
        self.loaded: list[str] = []

    def load_library(self, plugin_path: str) -> object | None:
        with open(plugin_path, "rb") as file:
            is_plugin = not file.read().startswith(b"not a plugin")
        if not is_plugin or PLUGIN in self._creators:  # TensorRT: any known name, and it fails
            return None
        self._creators.add(PLUGIN)
        self.loaded.append(plugin_path)
        return object()

    def get_creator(self, type: str, version: str, plugin_namespace: str = "") -> object | None:
        known = type in self._creators and (version, plugin_namespace) == ("1", "")
        return object() if known else None


class _Network:
    def __init__(self) -> None:
        self.model: onnx.ModelProto | None = None
        self.inputs: list[ITensor] = []
        self.outputs: list[ITensor] = []
        self.layers: list[ILayer] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_input(self, index: int) -> ITensor:
        return self.inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self.outputs[index]

    def get_layer(self, index: int) -> ILayer:
        return self.layers[index]


class _TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data


class _Config:
    def __init__(self) -> None:
        self.flags_cleared: set[BuilderFlag] = set()
        self.limits: dict[MemoryPoolType, int] = {}
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.progress_monitor: IProgressMonitor | None = None
        self.timing: _TimingCache | None = None

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags_cleared.add(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.limits[pool] = pool_size

    def create_timing_cache(self, serialized_timing_cache: bytes) -> _TimingCache | None:
        data = bytes(serialized_timing_cache)
        return None if data.startswith(b"damaged") else _TimingCache(data)

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        assert cache is not None, "TensorRT's own raises a TypeError"
        if cache.data.startswith(b"of another device") and not ignore_mismatch:
            return False
        self.timing = cache
        return True

    def get_timing_cache(self) -> _TimingCache | None:
        return self.timing


class _HostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


class _ParserError:
    def __init__(self, text: str, node: str) -> None:
        self._text, self._node = text, node

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return self._node


def fake_tensorrt(release: str) -> ModuleType:
    """Make a module of its own, with a registry of its own.

    Args:
        release: "10.3" or "11.1".
    """
    module = ModuleType("tensorrt")
    version = VERSIONS[release]
    registry = IPluginRegistry()

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            assert logger.is_made
            self._logger = logger

        def create_network(self, flags: int = 0) -> _Network:
            strongly = flags >> int(NetworkDefinitionCreationFlag.STRONGLY_TYPED) & 1
            assert strongly, "10.x would choose precisions by itself"
            return _Network()

        def create_builder_config(self) -> _Config:
            return _Config()

        def build_serialized_network(
            self, network: _Network, config: _Config
        ) -> _HostMemory | None:
            assert network.model is not None, "nothing was parsed"
            if config.limits.get(MemoryPoolType.WORKSPACE, 1 << 20) < 1 << 20:
                self._logger.log(Severity.ERROR, "could not find any implementation for node x")
                return None
            monitor = config.progress_monitor
            if monitor is not None:
                assert monitor.is_made
                monitor.phase_start("Building engine", None, 2)
                for step in range(2):
                    if not _goes_on(monitor, step):
                        return None
                monitor.phase_finish("Building engine")
            if config.timing is not None:
                config.timing.data = b"measured"
            for tensor in [*network.inputs, *network.outputs]:
                assert tensor.allowed_formats == 1 << int(TensorFormat.LINEAR), tensor.name
            return _HostMemory(_header(version) + network.model.SerializeToString())

    class OnnxParser:
        def __init__(self, network: _Network, logger: ILogger) -> None:
            self._network = network
            self._errors: list[_ParserError] = []

        def parse(self, model: bytes) -> bool:
            parsed = onnx.load_model_from_string(model)
            for node in parsed.graph.node:
                self._import(node)
            graph, known = parsed.graph, {i.name for i in parsed.graph.initializer}
            self._network.inputs = [tensor_of(v) for v in graph.input if v.name not in known]
            self._network.outputs = [tensor_of(v) for v in graph.output]
            self._network.model = parsed
            return not self._errors

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> _ParserError:
            return self._errors[index]

        def _import(self, node: onnx.NodeProto) -> None:
            kind, facts = LayerType.ELEMENTWISE, {}
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "GridSample":
                kind, facts = LayerType.GRID_SAMPLE, _grid_sample(release, attributes)
            elif node.domain not in ("", "ai.onnx"):
                kind = LayerType.PLUGIN_V3
                wanted = (
                    node.op_type,
                    attributes.get("plugin_version", b"1").decode(),
                    attributes.get("plugin_namespace", b"").decode(),
                )
                if registry.get_creator(*wanted) is None:
                    self._errors.append(_ParserError("Plugin not found", node.name))
            self._network.layers.append(ILayer(kind, node.name, facts))

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            assert logger.is_made
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
            data, header = bytes(serialized_engine), _header(version)
            if not data.startswith(header):
                self._logger.log(Severity.ERROR, "The engine plan file is not compatible")
                return None
            engine = Engine(onnx.load_model_from_string(data[len(header) :]), release)
            if engine.needs_plugin and registry.get_creator(PLUGIN, "1", "") is None:
                self._logger.log(Severity.ERROR, f"getPluginCreator could not find {PLUGIN}")
                return None
            return engine

    def get_plugin_registry() -> IPluginRegistry:
        return registry

    module.__version__ = version
    for item in (
        *(Builder, OnnxParser, Runtime, ILogger, IProgressMonitor, IGridSampleLayer, DataType),
        *(TensorFormat, TensorIOMode, LayerType, InterpolationMode, SampleMode, MemoryPoolType),
        *(NetworkDefinitionCreationFlag, BuilderFlag, ProfilingVerbosity, LayerInformationFormat),
        get_plugin_registry,
    ):
        setattr(module, item.__name__, item)
    return module


def _goes_on(monitor: IProgressMonitor, step: int) -> bool:
    """As the bindings do: what is raised is printed, and ends the build."""
    try:
        return monitor.step_complete("Building engine", step)
    except BaseException as error:
        print(f"[ERROR] Exception caught in step_complete(): {error}")  # noqa: T201
        return False


def _header(version: str) -> bytes:
    return f"engine of the stand-in for TensorRT {version}\n".encode()


def _grid_sample(release: str, attributes: dict[str, Any]) -> dict[str, Any]:
    modes = {"nearest": "NEAREST", "bilinear": "LINEAR", "bicubic": "CUBIC"}
    if release != "10.3":  # 10.3's parser takes the names of opset 20 for "nearest"
        modes |= {"linear": "LINEAR", "cubic": "CUBIC"}
    padding = {"zeros": "FILL", "border": "CLAMP", "reflection": "REFLECT"}
    return {
        "interpolation_mode": InterpolationMode[
            modes.get(attributes.get("mode", b"bilinear").decode(), "NEAREST")
        ],
        "sample_mode": SampleMode[padding[attributes.get("padding_mode", b"zeros").decode()]],
        "align_corners": bool(attributes.get("align_corners", 0)),
    }
