"""Each rule of the check of whole graphs, hostile ones, and damage at random."""

from __future__ import annotations

import random
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dff_edge.bundle.graphs.onnx_check import check_onnx
from dff_edge.bundle.graphs.onnx_reader import MAX_NODES
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import BundleError
from tests.bundle.bundles import OPSET, make_model
from tests.bundle.graphs.onnx_graphs import NAME, check, model_of, node

FUZZ_ROUNDS = 1500
MAX_CHECK_S = 5.0  # far above the milliseconds it takes; a hang is what it must catch
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def local_function(
    name: str, *nodes: onnx.NodeProto, domain: str = "dff", inputs: tuple[str, ...] = ("x",)
) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", OPSET)]
    return helper.make_function(domain, name, list(inputs), ["y"], list(nodes), imports)


def call(name: str, inputs: tuple[str, ...] = ("x",)) -> onnx.NodeProto:
    return helper.make_node(name, inputs, ["y"], name, domain="dff")


def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "branch", [], [helper.make_empty_tensor_value_info("b")])


def test_inputs_outputs_and_operators_of_a_sound_graph_are_told():
    summary = check(make_model("feature", (32, 64), 8)).summary

    assert summary.inputs == {"frame": TensorSpec("frame", np.dtype(np.uint8), (1, 32, 64, 3))}
    assert summary.outputs == {
        "features": TensorSpec("features", np.dtype(np.float32), (1, 2, 4, 8))
    }
    assert summary.opset == OPSET
    assert summary.operators["Conv"] == 2
    assert summary.dtypes == {np.dtype(np.uint8), np.dtype(np.float32)}


def test_operators_of_the_warp_are_counted():
    summary = check(make_model("propagate")).summary

    assert summary.operators["dff::Warp"] == 1
    assert summary.operators["GridSample"] == 1


@pytest.mark.parametrize(
    ("operator", "domain"),
    [
        ("Run", "evil"),
        ("EPContext", "com.microsoft"),
        ("QLinearConv", ""),
        ("Relu", "ai.onnx"),
        ("Tile", ""),
        ("Expand", ""),
        ("ConstantOfShape", ""),
        ("Resize", ""),
        ("NonZero", ""),
        ("Range", ""),
        ("Loop", ""),
        ("Scan", ""),
        ("If", ""),
        ("Tanh", ""),
        ("SequenceEmpty", ""),
        ("StringConcat", ""),
        ("Einsum", ""),
        ("RandomNormal", ""),
    ],
)
def test_an_operator_that_nothing_writes_is_refused(operator, domain):
    bad = helper.make_node(operator, ["x"], ["y"], domain=domain)

    with pytest.raises(
        BundleError, match=f"'.*{operator}', which is not allowed|a kind that is no"
    ):
        check(model_of(bad))


def test_a_subgraph_is_refused_before_it_is_looked_at():
    bad = node("If", ["x"], then_branch=branch(), else_branch=branch())

    with pytest.raises(BundleError, match="holds 'g', which no graph of a bundle needs"):
        check(model_of(bad))


# ---- names


def test_what_is_read_must_have_been_given():
    with pytest.raises(
        BundleError, match="the Relu node .* reads 'later', which nothing before it"
    ):
        check(model_of(node("Relu", ["later"]), node("Relu", ["x"], ["later"])))


@pytest.mark.parametrize("taken", ["x", "t", "y"], ids=["an input", "a tensor", "a value"])
def test_a_name_that_stands_for_two_values_is_refused(taken):
    """Which of them is meant, parsers decide each for themselves."""
    nodes = [node("Relu", ["x"]), node("Abs", ["x"], [taken])]

    with pytest.raises(BundleError, match=f"the Abs node .* defines '{taken}', a name that is"):
        check(model_of(*nodes, stored={"t": np.float32(1)}))


def test_an_input_with_a_stored_value_is_refused():
    with pytest.raises(BundleError, match="an input that defines 'x', a name that is taken"):
        check(model_of(node("Relu", ["x"]), stored={"x": np.zeros((1, 4), np.float32)}))


def test_an_output_without_a_name_is_refused():
    with pytest.raises(BundleError, match="defines '', a name that is taken or empty"):
        check(model_of(node("Relu", ["x"], [""])))


# ---- what is told of values


def test_told_shapes_are_compared_with_computed_ones():
    """Engines plan memory by what is told."""
    model = model_of(node("Relu", ["x"], ["m"]), node("Relu", ["m"]))
    model.graph.value_info.append(helper.make_tensor_value_info("m", FLOAT, [1, 3]))
    with pytest.raises(BundleError, match=r"declares the value m: float32 \(1, 3\), and computes"):
        check(model)
    outputs = {"y": (INT64, (1, 4))}
    with pytest.raises(BundleError, match=r"y: int64 \(1, 4\), and computes float32 \(1, 4\) as"):
        check(model_of(node("Relu", ["x"]), outputs=outputs))
    with pytest.raises(BundleError, match="the value y.*and computes none"):
        check(model_of(node("Relu", ["x"], ["z"])))


def test_a_stored_output_is_refused():
    """Not every parser takes one."""
    with pytest.raises(BundleError, match="has a stored tensor as its output"):
        check(model_of(stored={"y": np.zeros((1, 4), np.float32)}))


def test_values_of_nothing_are_refused():
    """Kernels read them all the same."""
    stored = {"from": np.array([4]), "to": np.array([9]), "axes": np.array([1])}
    with pytest.raises(BundleError, match=r"defines 'y' of shape \(1, 0\), of nothing"):
        check(model_of(node("Slice", ["x", "from", "to", "axes"]), stored=stored))
    with pytest.raises(BundleError, match="stores the tensor 't' of shape"):
        check(model_of(node("Relu", ["x"]), stored={"t": np.zeros((0, 3), np.float32)}))
    with pytest.raises(BundleError, match="an input that defines 'x' of shape"):
        check(model_of(node("Relu", ["x"]), inputs={"x": (FLOAT, (1, 0))}))


def suppressed(*behind: onnx.NodeProto, outputs: object) -> onnx.ModelProto:
    """Rows of which there may be none, and what reads them."""
    return model_of(
        node("NonMaxSuppression", ["boxes", "scores", "most", "limit", "score"], ["rows"]),
        *behind,
        inputs={"boxes": (FLOAT, (1, 6, 4)), "scores": (FLOAT, (1, 2, 6))},
        outputs=outputs,
        stored={
            "most": np.array([3]),
            "limit": np.array([0.5], np.float32),
            "score": np.array([0], np.float32),
            "one": np.array([1]),
            "shape": np.array([18]),
            "zero": np.array([0]),
            "places": np.zeros((6, 3), np.int64),
        },
    )


@pytest.mark.parametrize(
    ("behind", "reason"),
    [
        (node("Reshape", ["rows", "shape"]), "the Reshape node .* rows of which there may be none"),
        (node("Identity", ["rows"]), "the Identity node .* rows of which there may be none"),
        (node("Gather", ["boxes", "rows"]), "the Gather node .* rows of which there may be none"),
        (node("Slice", ["rows", "zero", "one", "zero"]), "cuts no rows of which there may be"),
        (node("GatherND", ["rows", "places"]), "has places in its data"),
        (node("GatherND", ["scores", "rows"]), "rows of which there may be none as its output"),
    ],
    ids=["reshape", "identity", "gather", "slice", "from rows", "output"],
)
def test_rows_of_which_there_may_be_none_have_few_readers(behind, reason):
    with pytest.raises(BundleError, match=reason):
        check(suppressed(behind, outputs={"y": (FLOAT, (6,))}))


# ---- functions and the plugin


def test_only_the_warp_may_be_a_function():
    relu = node("Relu", ["x"])
    with pytest.raises(
        BundleError, match=r"has local functions \['F'\], expected at most 'dff::Wa"
    ):
        check(model_of(call("F"), functions=[local_function("F", relu)]))
    with pytest.raises(BundleError, match="only the domain 'dff' may hold functions"):
        check(model_of(relu, functions=[local_function("Relu", relu, domain="")]))
    functions = [local_function("Warp", relu)]
    assert check(model_of(call("Warp"), functions=functions)).summary.operators["Relu"] == 1
    with pytest.raises(BundleError, match="expected at most .* and none in a graph for TensorRT"):
        check(model_of(call("Warp"), functions=functions), flavour="trt")


def test_a_function_calls_no_other():
    """Thirty calls in each of four functions are 810,000 nodes; itself, without end."""
    for nodes in ([call("Warp")], [call("DffWarp")]):
        with pytest.raises(BundleError, match="uses the operator 'dff::"):
            check(model_of(call("Warp"), functions=[local_function("Warp", *nodes)]), plugin=True)


def test_nodes_of_functions_count_at_every_call():
    body = [node("Relu", ["x"], ["a0"])]
    body += [node("Relu", [f"a{i}"], [f"a{i + 1}"]) for i in range(199)]
    function = local_function("Warp", *body, node("Relu", ["a199"]))
    calls = [helper.make_node("Warp", ["x"], [f"y{i}"], domain="dff") for i in range(100)]

    with pytest.raises(BundleError, match="computes more than 5000 nodes"):
        check(model_of(*calls, functions=[function]))


def test_a_call_without_its_function_or_with_other_arguments_is_refused():
    with pytest.raises(BundleError, match="uses the operator 'dff::Warp', which is not allowed"):
        check(model_of(call("Warp")))
    function = local_function("Warp", node("Relu", ["x"]))
    with pytest.raises(BundleError, match="Warp node 'Warp' that does not fit the function"):
        check(model_of(call("Warp", ("x", "x")), functions=[function]))
    empty = local_function("Warp", node("Relu", ["x"], ["z"]))
    with pytest.raises(BundleError, match="whose function does not compute its outputs"):
        check(model_of(call("Warp"), functions=[empty]))


def test_the_plugin_is_allowed_where_it_is_named_alone():
    maps = {"features": (FLOAT, (1, 2, 4, 8)), "flow": (FLOAT, (1, 2, 4, 2))}
    warp = helper.make_node(
        "DffWarp",
        ["features", "flow", "features"],
        ["y"],
        "warp",
        domain="dff",
        plugin_version="1",
        plugin_namespace="",
        channels_last=1,
        scale_step=1.0,
    )
    model = model_of(warp, inputs=maps, outputs={"y": maps["features"]})

    found = check(model, flavour="trt", plugin=True)

    assert found.summary.operators["dff::DffWarp"] == 1
    with pytest.raises(BundleError, match="uses the operator 'dff::DffWarp', which is not allowed"):
        check(model, flavour="trt")
    model.graph.input[1].type.tensor_type.shape.dim[3].dim_value = 3
    with pytest.raises(BundleError, match="DffWarp node 'warp', which reads features, flow and sc"):
        check(model, flavour="trt", plugin=True)


# ---- damage


def test_a_file_cut_at_any_length_is_refused():
    data = make_model("task").SerializeToString()

    for length in range(len(data) - 1):
        with pytest.raises(BundleError, match=NAME):
            check_onnx(data[:length], NAME)


def test_what_is_refused_is_told_without_what_a_terminal_obeys():
    bad = helper.make_node("Relu\x1b[2J", ["x"], ["y"])

    with pytest.raises(BundleError) as caught:
        check(model_of(bad))
    assert "Relu\\x1b[2J" in str(caught.value)


def flip(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    kind = rng.randrange(4)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at] = rng.choice([0x00, 0x7F, 0x80, 0xFF])
    elif kind == 2:
        del data[at : at + rng.randint(1, 16)]
    else:
        data[at:at] = rng.randbytes(rng.randint(1, 16))


@pytest.mark.parametrize("subnet", ["flow", "propagate"])
def test_random_damage_never_hangs_nor_raises_anything_else(subnet):
    rng = random.Random(20)
    sound = make_model(subnet).SerializeToString()
    refused = 0
    for _ in range(FUZZ_ROUNDS):
        data = bytearray(sound)
        for _ in range(rng.randint(1, 4)):
            flip(data, rng)
        started = time.process_time()
        try:
            check_onnx(bytes(data), NAME)
        except BundleError:
            refused += 1
        assert time.process_time() - started < MAX_CHECK_S
    # Damage within weights passes: it changes numbers, not the structure. Digests find it.
    assert refused > FUZZ_ROUNDS // 4


def test_random_structure_damage_is_refused():
    """Flips in a file without weights nearly all hit structure; none may pass as another graph."""
    rng = random.Random(21)
    sound = make_model("task", channels=1, classes=1).SerializeToString()
    expected = check_onnx(sound, NAME).summary
    for _ in range(FUZZ_ROUNDS):
        data = bytearray(sound)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            found = check_onnx(bytes(data), NAME).summary
        except BundleError:
            continue
        same_parse = onnx.load_from_string(bytes(data))
        assert [v.name for v in same_parse.graph.input] == list(found.inputs)
        assert [v.name for v in same_parse.graph.output] == list(found.outputs)
    assert expected.inputs


def test_large_graphs_are_checked_in_bounded_time():
    count = MAX_NODES - 2
    nodes = [node("Relu", ["x"], ["v0"])]
    nodes += [node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    data = model_of(*nodes, node("Relu", [f"v{count}"])).SerializeToString()
    started = time.process_time()

    assert check_onnx(data, NAME).summary.operators["Relu"] == count + 2
    assert time.process_time() - started < MAX_CHECK_S
