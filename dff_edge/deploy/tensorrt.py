"""Engines of TensorRT, 10.3 to 11: parse, compare with the contract, build.

Networks are strongly typed: every precision is written in the graph, and TensorRT selects none.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from dff_edge.bundle.contract import GraphContract
from dff_edge.bundle.graphs.check import read_graph_bytes
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.deploy.target import BuildOptions, Built, Progress
from dff_edge.errors import EngineError
from dff_edge.names import GraphName
from dff_edge.runtime.devices.cuda.device import open_device
from dff_edge.runtime.engines import tensorrt_library as library
from dff_edge.runtime.engines.cache import EngineCache
from dff_edge.runtime.engines.deployed import Platform
from dff_edge.runtime.engines.tensorrt import tensorrt_platform

_PROGRESS_EVERY_S = 10.0


class TensorRtTarget:
    """A GPU with TensorRT.

    Args:
        platform: of this machine, target "tensorrt"; with a plugin, warp and task network are one
            engine that calls it, else one of TensorRT's own layers.
        cache: where timings of kernels are kept, by version and device.
        workspace_mb: maximum scratch memory of an engine; None for all that is free.
        progress: called with a line every ten seconds of a build.
    """

    def __init__(
        self,
        platform: Platform,
        cache: EngineCache,
        *,
        workspace_mb: int | None = None,
        progress: Progress = lambda text: None,
    ) -> None:
        assert platform.hardware is not None
        self.platform = platform
        self.device = platform.hardware
        self.options: dict[str, Any] = {"workspace_mb": workspace_mb}
        self.graphs: tuple[GraphName, ...] = (
            "feature",
            "flow",
            "task",
            "propagate" if platform.plugin_sha256 else "propagate_portable",
        )
        self._cache = cache
        self._workspace_mb = workspace_mb
        self._progress = progress

    def build(self, graph: bytes, *, name: str, kind: GraphName, contract: GraphContract) -> Built:
        """Build a graph's engine. See ``Target.build``."""
        trt = library.load_tensorrt()
        if self.platform.calls_plugin(kind):
            library.load_plugin(trt)
        place = (self.platform.runtime, self.platform.device)
        with self.device.current():
            read_graph_bytes(graph, f"the {name} graph", [("trt", kind)])  # right before parsing
            plan, timing = build_plan(
                trt,
                graph,
                name=name,
                kind=kind,
                contract=contract,
                workspace_mb=self._workspace_mb,
                timing=self._cache.timing(*place),
                progress=self._progress,
            )
            summary = summarise(trt, plan, name)
        if timing:
            self._cache.store_timing(*place, timing)
        return Built(plan, summary)


@contextmanager
def open_target(options: BuildOptions) -> Iterator[TensorRtTarget]:
    """Open a GPU with TensorRT as a target. See ``deploy.open``."""
    library.load_tensorrt()
    device = open_device()
    try:
        yield TensorRtTarget(
            tensorrt_platform(device, plugin=options.plugin),
            options.cache,
            workspace_mb=options.workspace_mb,
            progress=options.progress,
        )
    finally:
        device.close()


def build_plan(
    trt: ModuleType,
    graph: bytes,
    *,
    name: str,
    kind: GraphName,
    contract: GraphContract,
    workspace_mb: int | None = None,
    timing: bytes = b"",
    progress: Progress = lambda text: None,
) -> tuple[bytes, bytes]:
    """Parse a graph, check TensorRT's reading of it, and build.

    Args:
        trt: the module tensorrt, or one with the same names.
        graph: the ONNX file's bytes, verified for TensorRT (``Bundle.graph_bytes``).
        name: name of the graph in messages.
        kind: name of the graph in the bundle.
        contract: its expected inputs and outputs.
        workspace_mb: maximum scratch memory of the engine.
        timing: earlier measurements on this device by this version.
        progress: called with a line every ten seconds.

    Returns:
        The engine's bytes, and the timings measured so far.

    Raises:
        EngineError: when it does not parse, differs from the contract, or cannot be built.
    """
    logger, errors = library.tensorrt_logger(trt)
    errors.clear()
    builder = trt.Builder(logger)
    network = builder.create_network(_creation_flags(trt))
    parser = trt.OnnxParser(network, logger)  # owns weights that the build reads
    if not parser.parse(graph):
        found = [parser.get_error(i) for i in range(parser.num_errors)]
        reasons = "; ".join(f"node '{e.node_name()}': {e.desc()}" for e in found)
        raise EngineError(f"TensorRT could not read the {name} graph: {reasons or errors}.")
    _check_network(trt, network, name=name, kind=kind, contract=contract)

    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # FP32 means FP32; FP16 is the faster choice
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the summary
    if workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    known = config.create_timing_cache(timing)
    if known is None or not config.set_timing_cache(known, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    monitor = _monitor(trt, name, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.stopped_by is not None:
        raise monitor.stopped_by
    if plan is None:
        limit = "" if workspace_mb is None else f" within {workspace_mb} MB of workspace"
        raise EngineError(f"TensorRT could not build the {name} engine{limit}: {errors}.")
    measured = config.get_timing_cache()
    return bytes(plan), b"" if measured is None else bytes(measured.serialize())


def summarise(trt: ModuleType, plan: bytes, name: str) -> dict[str, Any]:
    """Return TensorRT's description of an engine: number of layers, their types and formats.

    The format differs between versions; unknown parts are left out.

    Raises:
        EngineError: when the engine does not load on the machine that built it.
    """
    logger, errors = library.tensorrt_logger(trt)
    errors.clear()
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(f"TensorRT built the {name} engine and cannot load it: {errors}.")
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return parse_summary(text)


def parse_summary(text: str) -> dict[str, Any]:
    """Count layers by type and outputs by format in an inspector's JSON.

    Example:
        >>> parse_summary('{"Layers": [{"Name": "a", "LayerType": "Convolution"}]}')
        {'layers': 1, 'types': {'Convolution': 1}}
    """
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError):
        return {}
    if not isinstance(layers, list):
        return {}
    types: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    for layer in layers:
        if not isinstance(layer, dict):  # only names, where the verbosity was not detailed
            continue
        types[str(layer.get("LayerType", "unknown"))] += 1
        for output in layer.get("Outputs") or []:
            if isinstance(output, dict):
                words = [
                    output.get("Format/Datatype"),
                    output.get("Format"),
                    output.get("Datatype"),
                ]
                formats[" ".join(str(word) for word in words if word)] += 1
    summary: dict[str, Any] = {"layers": len(layers), "types": dict(types.most_common())}
    if formats:
        summary["formats"] = dict(formats.most_common())
    return summary


def _creation_flags(trt: ModuleType) -> int:
    # Version 11 has no other networks, and logs that it ignores the flag.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _check_network(
    trt: ModuleType, network: Any, *, name: str, kind: GraphName, contract: GraphContract
) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    problems = contract.problems(_specs(trt, inputs), _specs(trt, outputs))
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    plugins = sum(layer.type == trt.LayerType.PLUGIN_V3 for layer in layers)
    wanted = 1 if kind == "propagate" else 0
    if plugins != wanted:
        problems.append(f"it has {plugins} plugin layers, expected {wanted}")
    samplers = [layer for layer in layers if layer.type == trt.LayerType.GRID_SAMPLE]
    if kind == "propagate_portable" and not samplers:
        problems.append("it has no GridSample layer, which is the warp")
    for layer in samplers:
        # Python gets a layer's base class; the caller must set its type.
        layer.__class__ = trt.IGridSampleLayer
        modes = (layer.interpolation_mode, layer.sample_mode, bool(layer.align_corners))
        if modes != (trt.InterpolationMode.LINEAR, trt.SampleMode.FILL, False):
            problems.append(
                f"GridSample '{layer.name}' is read as {modes[0].name}, {modes[1].name}, "
                f"align_corners={modes[2]}, expected LINEAR, FILL, False: this parser does not "
                "know the graph's opset"
            )
    if problems:
        raise EngineError(f"TensorRT reads the {name} graph otherwise: {'; '.join(problems)}.")
    for tensor in [*inputs, *outputs]:  # else TensorRT may choose vectorised formats
        tensor.allowed_formats = 1 << int(trt.TensorFormat.LINEAR)


def _specs(trt: ModuleType, tensors: list[Any]) -> dict[str, TensorSpec]:
    dtypes = library.numpy_dtypes(trt)
    return {
        tensor.name: TensorSpec(
            tensor.name, dtypes.get(tensor.dtype, np.dtype(object)), tuple(tensor.shape)
        )
        for tensor in tensors
    }


def _monitor(trt: ModuleType, name: str, progress: Progress) -> Any:
    """Log TensorRT's progress every ten seconds; ``stopped_by`` is an exception meanwhile."""
    started = time.monotonic()
    told = started
    sizes: dict[str, int] = {}

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]  # an optional package's
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped_by: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            sizes[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            nonlocal told
            now = time.monotonic()
            if now - told >= _PROGRESS_EVERY_S:
                told = now
                try:
                    progress(
                        f"{name}: {phase_name} {step + 1} of {sizes.get(phase_name, '?')}, "
                        f"{now - started:.0f} s"
                    )
                except BaseException as error:  # TensorRT would print it and forget it
                    self.stopped_by = error
            return self.stopped_by is None  # False ends the build, without an engine

        def phase_finish(self, phase_name: str) -> None:
            sizes.pop(phase_name, None)

    return Monitor()
