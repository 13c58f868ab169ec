"""Building with TensorRT: what is checked between parsing and building, on the stand-in."""

from __future__ import annotations

import inspect
import json
from typing import Any

import onnx
import pytest
from onnx import helper

from dff_edge.bundle.contract import graph_contract
from dff_edge.deploy import tensorrt
from dff_edge.deploy.tensorrt import build_plan, parse_summary, summarise
from dff_edge.errors import EngineError
from dff_edge.runtime.engines.tensorrt_library import load_plugin
from tests.bundle.bundles import make_model
from tests.export.checkpoints import CHANNELS, CLASSES, FRAME_SIZE
from tests.runtime.engines import fake_tensorrt as stand_in
from tests.runtime.engines import fake_tensorrt_engine as engines

# What TensorRT has and TensorRT for RTX has not, of what the stand-in has: plugins have no layer
# there, and its version is not in the bindings.
ONLY_IN_TENSORRT = {"__version__"}


def contract(kind: str, size=(32, 64), channels=8, classes=3, **maps: Any):
    return graph_contract(kind, frame_size=size, channels=channels, classes=classes, **maps)


def build(trt, model: onnx.ModelProto, kind: str, **options: Any):
    options.setdefault("contract", contract(kind))
    return build_plan(trt, model.SerializeToString(), name=f"fp32 {kind}", kind=kind, **options)


def portable(**attributes: Any) -> onnx.ModelProto:
    """Features through a GridSample that reads the flow as a grid, whatever that means."""
    specs = contract("propagate_portable", channels=3)
    values = {
        s.name: helper.make_tensor_value_info(s.name, onnx.TensorProto.FLOAT, s.shape)
        for s in (*specs.inputs.values(), *specs.outputs.values())
    }
    attributes = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": 0, **attributes}
    nodes = [
        helper.make_node("Transpose", ["features"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("GridSample", ["planes", "flow"], ["moved"], "sampler", **attributes),
        helper.make_node("Transpose", ["moved"], ["cells"], perm=[0, 2, 3, 1]),
        helper.make_node("Mul", ["cells", "scale"], ["scores"]),
    ]
    inputs = [values[name] for name in specs.inputs]
    graph = helper.make_graph(nodes, "portable", inputs, [values["scores"]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_a_graph_is_built_and_says_what_is_in_it(trt):
    plan, _ = build(trt, make_model("feature"), "feature")
    summary = summarise(trt, plan, "feature")

    operators = [node.op_type for node in make_model("feature").graph.node]
    assert summary["layers"] == len(operators)
    assert summary["types"] == {name: operators.count(name) for name in operators}


def test_every_error_of_the_parser_is_told_with_its_node(trt):
    model = make_model("task")
    for node, name in zip(model.graph.node, ("First", "Second"), strict=True):
        node.op_type, node.domain, node.name = name, "dff", name.lower()
    model.opset_import.append(helper.make_opsetid("dff", 1))

    with pytest.raises(
        EngineError,
        match="could not read the fp32 task graph: node 'first': Plugin not found; "
        "node 'second': Plugin not found",
    ):
        build(trt, model, "task")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"channels": 16},
            r"input 'features' is .*\(1, 2, 4, 8\), expected .*\(1, 2, 4, 16\)",
        ),
        ({"classes": 5}, r"output 'scores' is .* expected float32 \(1, 2, 4, 5\)"),
        ({"maps": "float16"}, "input 'features' is float32 .* expected float16"),
    ],
)
def test_inputs_and_outputs_must_be_the_contracts(trt, changes, message):
    with pytest.raises(EngineError, match=message):
        build(trt, make_model("task"), "task", contract=contract("task", **changes))


def test_the_plugins_layer_must_be_there(trt):
    with pytest.raises(EngineError, match="it has 0 plugin layers, expected 1"):
        build(trt, portable(), "propagate", contract=contract("propagate", channels=3))


def test_the_plugins_layer_must_not_be_where_no_plugin_is_meant(trt, deployable):
    load_plugin(trt)
    graph = deployable.graph_bytes("fp32", "propagate", "trt")
    kind = "propagate_portable"

    with pytest.raises(EngineError, match="it has 1 plugin layers, expected 0.*no GridSample"):
        build_plan(
            trt,
            graph,
            name="propagate",
            kind=kind,
            contract=contract(kind, FRAME_SIZE, CHANNELS, CLASSES),
        )


def test_a_sampler_with_the_words_of_the_graph_is_taken(trt):
    assert build(
        trt,
        portable(),
        "propagate_portable",
        contract=contract("propagate_portable", channels=3),
    )


@pytest.mark.parametrize(
    ("attributes", "read"),
    [
        ({"mode": "nearest"}, "NEAREST, FILL, align_corners=False"),
        ({"padding_mode": "border"}, "LINEAR, CLAMP, align_corners=False"),
        ({"align_corners": 1}, "LINEAR, FILL, align_corners=True"),
    ],
)
def test_a_sampler_that_is_read_otherwise_is_refused(trt, attributes, read):
    with pytest.raises(EngineError, match=f"GridSample 'sampler' is read as {read}, expected"):
        build(
            trt,
            portable(**attributes),
            "propagate_portable",
            contract=contract("propagate_portable", channels=3),
        )


def test_opset_20s_word_for_bilinear_is_refused_where_it_is_read_as_nearest(trt):
    def built():
        return build(
            trt,
            portable(mode="linear"),
            "propagate_portable",
            contract=contract("propagate_portable", channels=3),
        )

    if trt.__version__.startswith("10.3"):
        with pytest.raises(EngineError, match="read as NEAREST"):
            built()
    else:
        assert built()


def test_too_little_workspace_is_told_with_the_reason(trt):
    with pytest.raises(
        EngineError,
        match="could not build the fp32 task engine within 0 MB of workspace: could not find any",
    ):
        build(trt, make_model("task"), "task", workspace_mb=0)


def test_the_builder_is_told_what_the_platform_says(trt, monkeypatch):
    seen = {}
    builder = trt.Builder
    original = builder.build_serialized_network

    def spy(self, network, config):
        seen.update(vars(config))
        return original(self, network, config)

    monkeypatch.setattr(builder, "build_serialized_network", spy)
    build(trt, make_model("task"), "task", workspace_mb=3)

    assert seen["flags_cleared"] == {trt.BuilderFlag.TF32}
    assert seen["limits"] == {trt.MemoryPoolType.WORKSPACE: 3 << 20}
    assert seen["profiling_verbosity"] is trt.ProfilingVerbosity.DETAILED


@pytest.mark.parametrize(
    ("known", "taken"),
    [
        (b"", b""),
        (b"from before", b"from before"),
        (b"damaged", b""),
        (b"of another device", b""),
    ],
)
def test_timings_are_handed_on_and_unfit_ones_begin_anew(trt, monkeypatch, known, taken):
    given = []
    builder = trt.Builder
    original = builder.build_serialized_network

    def spy(self, network, config):
        given.append(config.get_timing_cache().serialize())
        return original(self, network, config)

    monkeypatch.setattr(builder, "build_serialized_network", spy)
    _, timing = build(trt, make_model("task"), "task", timing=known)

    assert given == [taken]
    assert timing == b"measured"


def test_a_long_build_says_how_far_it_is(trt, monkeypatch):
    clock = iter([0.0, 11.0, 12.0])
    monkeypatch.setattr(tensorrt.time, "monotonic", lambda: next(clock))
    lines = []
    build(trt, make_model("task"), "task", progress=lines.append)

    # Steps at 11 s and 12 s: one line in ten seconds.
    assert lines == ["fp32 task: Building engine 1 of 2, 11 s"]


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), BrokenPipeError("stderr is closed")])
def test_what_stops_a_build_comes_out_of_it(trt, monkeypatch, reason):
    monkeypatch.setattr(tensorrt, "_PROGRESS_EVERY_S", 0.0)

    def stop(line: str) -> None:
        raise reason

    with pytest.raises(type(reason)):
        build(trt, make_model("task"), "task", progress=stop)


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("not JSON", {}),
        ("[]", {}),
        ('{"Layers": 3}', {}),
        ('{"Layers": ["conv1", "conv2"]}', {"layers": 2, "types": {}}),
        (
            json.dumps(
                {
                    "Layers": [
                        {
                            "LayerType": "CaskConvolution",
                            "Outputs": [{"Format/Datatype": "Channel major FP16"}],
                        },
                        {"LayerType": "CaskConvolution", "Outputs": None},
                        {"Outputs": [{"Format": "Row major", "Datatype": "Int8"}, "odd"]},
                    ]
                }
            ),
            {
                "layers": 3,
                "types": {"CaskConvolution": 2, "unknown": 1},
                "formats": {"Channel major FP16": 1, "Row major Int8": 1},
            },
        ),
    ],
    ids=["text", "list", "number", "names", "10 and 11"],
)
def test_the_inspectors_words_are_counted_and_odd_ones_left_out(text, summary):
    assert parse_summary(text) == summary


def rtx() -> Any:
    pytest.importorskip("tensorrt_rtx_libs", reason="TensorRT for RTX is not installed")
    return pytest.importorskip("tensorrt_rtx_bindings.tensorrt_rtx")


def public(thing: Any) -> set[str]:
    return {name for name in vars(thing) if not name.startswith("_")}


def test_every_name_of_the_stand_in_is_one_of_tensorrts():
    """Held against TensorRT for RTX, whose names are TensorRT 11's and which needs no GPU."""
    real, fake = rtx(), stand_in.fake_tensorrt("11.1")
    own = {
        "IPluginRegistry": {"loaded"},  # what tests look at
        "ILogger": {"is_made"},
        "IProgressMonitor": {"is_made"},
    }
    classes = {
        "INetworkDefinition": stand_in._Network,
        "ITimingCache": stand_in._TimingCache,
        "IBuilderConfig": stand_in._Config,
        "IHostMemory": stand_in._HostMemory,
        "ParserError": stand_in._ParserError,
        "ICudaEngine": engines.Engine,
        "IExecutionContext": engines.Context,
        "EngineInspector": engines.Inspector,
        "IPluginRegistry": stand_in.IPluginRegistry,
        **{name: thing for name, thing in vars(fake).items() if inspect.isclass(thing)},
    }

    missing = {name for name in public(fake) - ONLY_IN_TENSORRT if not hasattr(real, name)}
    for name, thing in classes.items():
        members = thing.__members__ if hasattr(thing, "__members__") else public(thing)
        wanted = set(members) - own.get(name, set())
        missing |= {f"{name}.{m}" for m in wanted if not hasattr(getattr(real, name), m)}

    assert missing == set()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("kind", ["feature", "flow", "task", "propagate_portable"])
@pytest.mark.filterwarnings("ignore:.*Timing cache:DeprecationWarning")
def test_a_real_parser_and_builder_take_the_graphs(deployable, precision, kind):
    """TensorRT for RTX parses as TensorRT does, and builds for GPUs that are not here."""
    real = rtx()
    plan, _ = build_plan(
        real,
        deployable.graph_bytes(precision, kind, "trt"),
        name=f"{precision} {kind}",
        kind=kind,
        contract=deployable.manifest.contract(precision, kind, "trt"),
    )

    assert len(plan) > 1000


@pytest.mark.filterwarnings("ignore:.*Timing cache:DeprecationWarning")
def test_a_real_parsers_refusal_is_told_with_the_node(deployable):
    with pytest.raises(EngineError, match="could not read the propagate graph: .*Plugin not found"):
        build_plan(
            rtx(),
            deployable.graph_bytes("fp32", "propagate", "trt"),
            name="propagate",
            kind="propagate",
            contract=deployable.manifest.contract("fp32", "propagate", "trt"),
        )
