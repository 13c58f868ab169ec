"""Deploying: engines are built once, checked before they are kept, and used again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.reader import Bundle
from dff_edge.deploy import deploy_bundle, open_target, precisions_of
from dff_edge.deploy.cpu import optimise
from dff_edge.deploy.target import Built
from dff_edge.errors import (
    BundleError,
    ConfigError,
    DiskError,
    EngineError,
    MissingDependencyError,
    SourceError,
)
from dff_edge.names import GraphName
from dff_edge.runtime.engines.deployed import open_deployed
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.engines.open_cpu import cpu_platform
from tests.bundle.bundles import make_graphs, make_model
from tests.deploy.conftest import SOURCE
from tests.export.checkpoints import CLASSES
from tests.runtime.engines.fake_ort import play_cuda_provider

NO_PROVIDER = "DmlExecutionProvider"  # of Windows
CPU_GRAPHS: tuple[GraphName, ...] = ("feature", "flow", "task")


def deploy(bundle, cache, target="cpu", precisions=("fp32",), source=SOURCE, *, change=None, **how):
    rebuild = how.pop("rebuild", False)
    progress = how.pop("lines", [])
    with open_target(target, cache, progress=progress.append, **how) as opened:
        if change is not None:
            change(opened)
        return list(
            deploy_bundle(
                bundle,
                opened,
                precisions,
                cache,
                source=source,
                rebuild=rebuild,
                progress=progress.append,
            )
        )


def origins(deployed):
    return {graph: report.origin for graph, report in deployed.engines.items()}


def test_lack_of_room_is_told_before_anything_is_built(deployable, cache, full_disk):
    lines = []
    with pytest.raises(DiskError, match="the fp32 engines will take about"):
        deploy(deployable, cache, lines=lines)
    assert lines == []


def test_what_was_built_is_found_again_and_not_checked_again(deployable, cache):
    first_lines, second_lines = [], []
    (first,) = deploy(deployable, cache, lines=first_lines)
    (second,) = deploy(deployable, cache, lines=second_lines)

    assert set(origins(first).values()) == {"built"}
    assert set(origins(second).values()) == {"cache"}
    for graph in CPU_GRAPHS:
        assert second.engines[graph].record == first.engines[graph].record
    assert (second.fidelity, second.agreement) == (first.fidelity, first.agreement)
    assert "fp32 feature: building (not built before)" in first_lines
    assert second_lines == []


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_cpus_engines_compute_what_the_graphs_do(deployable, cache, precision):
    (done,) = deploy(deployable, cache, precisions=[precision])

    assert done.fidelity >= done.floor
    platform = cpu_platform()
    rng = np.random.default_rng(1)
    for graph in CPU_GRAPHS:
        with (
            OrtEngine(deployable.graph_bytes(precision, graph), name="graph") as plain,
            open_deployed(deployable, precision, graph, platform, cache) as engine,
        ):
            assert (engine.inputs, engine.outputs) == (plain.inputs, plain.outputs)
            given = {
                n: rng.integers(0, 256, s.shape, np.uint8)
                if s.dtype == np.uint8
                else rng.standard_normal(s.shape).astype(s.dtype)
                for n, s in plain.inputs.items()
            }
            got, expected = ({n: s.empty() for n, s in plain.outputs.items()} for _ in range(2))
            engine.run(given, got)
            plain.run(given, expected)
            for name in expected:
                np.testing.assert_allclose(got[name], expected[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("warp", ["plugin", "portable"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_tensorrts_engines_run_through_the_scheduler(deployable, cache, trt, precision, warp):
    (done,) = deploy(deployable, cache, "tensorrt", [precision], plugin=warp == "plugin")

    propagate = "propagate" if warp == "plugin" else "propagate_portable"
    assert list(done.engines) == ["feature", "flow", "task", propagate]
    # The stand-in computes by ONNX Runtime on the CPU, as the reference does; its plugin is exact.
    assert done.fidelity >= 0.999
    assert done.agreement >= {"fp32": 0.999, "fp16": 0.99, "int8": 0.5}[precision]
    record = done.engines[propagate].record
    assert (record.key.plugin_sha256 is None) == (warp == "portable")
    assert record.summary["layers"] > 0
    assert record.median_ms > 0


@pytest.mark.parametrize("has_kernels", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_engines_of_the_cuda_provider_run_through_the_scheduler(
    deployable, cache, emulation, monkeypatch, precision, has_kernels
):
    play_cuda_provider(monkeypatch)
    if not has_kernels:
        monkeypatch.delenv("DFF_CUDA_LIBRARY")
    monkeypatch.setattr(
        "dff_edge.deploy.cuda.optimise", lambda graph, **how: Built(graph)
    )  # needs the provider
    (done,) = deploy(deployable, cache, "cuda", [precision])

    assert done.fidelity >= done.floor
    assert list(done.engines) == [*CPU_GRAPHS, *([] if has_kernels else ["propagate"])]
    assert all(report.record.key.target == "cuda" for report in done.engines.values())


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_graph_that_another_provider_optimised_is_refused():
    graph = make_model("task").SerializeToString()

    # What is not there is as what does not load: ONNX Runtime takes the CPU instead.
    with pytest.raises(EngineError, match=f"{NO_PROVIDER} was requested for .* did not accept it"):
        optimise(graph, name="fp32 task", provider=NO_PROVIDER)


def test_cuda_kernels_that_are_named_must_be_there(cache, emulation, monkeypatch):
    monkeypatch.setenv("DFF_CUDA_LIBRARY", "/nowhere/libdff_cuda.so")
    play_cuda_provider(monkeypatch)

    with (
        pytest.raises(MissingDependencyError, match="DFF_CUDA_LIBRARY names /nowhere"),
        open_target("cuda", cache),
    ):
        pass


def test_an_onnxruntime_without_cuda_is_told_what_takes_its_place(cache, emulation):
    with (
        pytest.raises(
            MissingDependencyError,
            match="ONNX Runtime with CUDA, .* pip uninstall -y onnxruntime && pip install",
        ),
        open_target("cuda", cache),
    ):
        pass


def test_int8_is_refused_by_the_cuda_provider_with_what_to_do(
    deployable, cache, emulation, monkeypatch
):
    play_cuda_provider(monkeypatch)
    with open_target("cuda", cache) as target:
        assert precisions_of(target, deployable) == ("fp32", "fp16")
        with pytest.raises(EngineError, match=r"int8 on the target cuda: .*--target tensorrt"):
            next(deploy_bundle(deployable, target, ["int8"], cache))


def test_a_precision_that_is_not_there_is_named(deployable, cache, trt):
    graphs = deployable.manifest.graphs
    only_fp32 = {**graphs, "trt": {"fp32": graphs["trt"]["fp32"]}}
    manifest = deployable.manifest.model_copy(update={"graphs": only_fp32})

    with pytest.raises(BundleError, match="holds no int8 graphs for TensorRT, only fp32"):
        deploy(replace(deployable, manifest=manifest), cache, "tensorrt", ["int8"])


def test_rebuilding_builds_what_is_there(deployable, cache):
    deploy(deployable, cache)
    (again,) = deploy(deployable, cache, rebuild=True)

    assert set(origins(again).values()) == {"built"}
    assert {report.reason for report in again.engines.values()} == {"asked for"}


def test_one_damaged_engine_is_named_and_built_again(deployable, cache):
    (first,) = deploy(deployable, cache)
    (first.engines["flow"].path / "engine").write_bytes(b"damaged")
    (second,) = deploy(deployable, cache)
    (third,) = deploy(deployable, cache)

    assert origins(second) == {"feature": "cache", "flow": "built", "task": "cache"}
    assert "is damaged" in second.engines["flow"].reason
    assert set(origins(third).values()) == {"cache"}


def test_an_engine_of_another_version_is_named_and_built_again(deployable, cache, trt):
    version = trt.__version__
    deploy(deployable, cache, "tensorrt")
    trt.__version__ = "10.99.0"
    (done,) = deploy(deployable, cache, "tensorrt")

    assert set(origins(done).values()) == {"built"}
    assert done.engines["feature"].reason == (
        f"not built before; one was built with TensorRT {version}; here is TensorRT 10.99.0"
    )


def test_another_plugin_rebuilds_the_engine_that_calls_it(deployable, cache, trt, tmp_path):
    deploy(deployable, cache, "tensorrt")
    (tmp_path / "libdff_tensorrt.so").write_bytes(b"plugin, built again")
    (done,) = deploy(deployable, cache, "tensorrt")

    assert origins(done) == {
        "feature": "cache",
        "flow": "cache",
        "task": "cache",
        "propagate": "built",
    }
    assert "another build of the plugin" in done.engines["propagate"].reason


def test_a_workspace_that_is_asked_for_counts(deployable, cache, trt):
    deploy(deployable, cache, "tensorrt", workspace_mb=64)

    (same,) = deploy(deployable, cache, "tensorrt", workspace_mb=64)
    (unsaid,) = deploy(deployable, cache, "tensorrt")
    (less,) = deploy(deployable, cache, "tensorrt", workspace_mb=32)

    assert set(origins(same).values()) == set(origins(unsaid).values()) == {"cache"}
    assert {r.reason for r in less.engines.values()} == {"built with workspace_mb 64, now 32"}


def with_its_classes_in_another_order(target):
    """Have a target build another task network than it is given."""
    right = target.build

    def build(graph, *, name, kind, contract):
        built = right(graph, name=name, kind=kind, contract=contract)
        return Built(flipped(built.data)) if kind == "task" else built

    target.build = build


def flipped(graph):
    model = onnx.load_model_from_string(graph)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and CLASSES in values.shape:
            values = np.ascontiguousarray(np.flip(values, values.shape.index(CLASSES)))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model.SerializeToString()


def test_engines_that_compute_something_else_are_not_kept(deployable, cache):
    with pytest.raises(
        EngineError,
        match=r"the fp32 engines for cpu have \d+\.\d+% of the pixels labelled .* expected 99.9%.*"
        "Nothing of fp32 was kept",
    ):
        deploy(deployable, cache, change=with_its_classes_in_another_order)
    assert cache.entries() == []


def test_what_came_before_a_failure_is_kept(deployable, cache):
    done = []
    with open_target("cpu", cache) as target:
        steps = deploy_bundle(deployable, target, ["fp32", "fp16"], cache, source=SOURCE)
        done.append(next(steps))
        with_its_classes_in_another_order(target)
        with pytest.raises(EngineError, match="fp16 engines for cpu"):
            next(steps)

    assert {entry.record.key.precision for entry in cache.entries()} == {"fp32"}


@pytest.mark.parametrize("kind", ["uint8 conversions", "local functions"])
def test_a_graph_that_would_be_misread_never_reaches_tensorrt(
    deployable, cache, trt, monkeypatch, kind
):
    """Of uint8 the parser takes Q/DQ for int8; a function's name may be the plugin's."""
    real = Bundle.graph_bytes

    def graph_bytes(self, precision, graph, flavour="ort"):
        if flavour == "ort":
            return real(self, precision, graph)
        return uint8_conversions() if kind.startswith("uint8") else make_graphs()["propagate"]

    monkeypatch.setattr(Bundle, "graph_bytes", graph_bytes)
    monkeypatch.setattr(trt, "OnnxParser", None)  # would fail if it were called

    with pytest.raises(BundleError, match="not symmetric int8.*--flavour trt|has local functions"):
        deploy(deployable, cache, "tensorrt", ["int8"])


def uint8_conversions():
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("x", "y")]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["bytes"], "bytes"),
        helper.make_node("DequantizeLinear", ["bytes", "step", "zero"], ["y"], "floats"),
    ]
    stored = {"step": np.float32(0.1), "zero": np.uint8(0)}
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in stored.items()]
    graph = helper.make_graph(nodes, "bytes", values[:1], values[1:], tensors)
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def test_a_source_of_one_frame_is_too_little(deployable, cache):
    with pytest.raises(SourceError, match="gave 1 frames, expected 12"):
        deploy(deployable, cache, source=f"{SOURCE}&frames=1")


@pytest.mark.parametrize("option", [{"workspace_mb": 64}, {"plugin": False}])
def test_options_of_tensorrt_are_refused_elsewhere(cache, option):
    with pytest.raises(ConfigError, match="target is cpu; .* options of tensorrt alone"):
        deploy(None, cache, **option)


def test_an_engine_that_was_not_deployed_is_named_with_the_command(deployable, cache):
    with pytest.raises(
        EngineError,
        match=r"the fp16 flow graph of .* has no ONNX Runtime .* engine for .*Build it: dff-edge "
        r"deploy .* --target cpu --precision fp16",
    ):
        open_deployed(deployable, "fp16", "flow", cpu_platform(), cache)
