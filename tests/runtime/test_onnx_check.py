"""Each rule of the ONNX check, and damage at random."""

from __future__ import annotations

import random
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dff_edge.runtime.engine import TensorSpec
from dff_edge.runtime.errors import BundleError
from dff_edge.runtime.onnx_check import check_onnx
from tests.runtime.bundles import IR_VERSION, OPSET, make_model

NAME = "feature.onnx"
FUZZ_ROUNDS = 1500
MAX_CHECK_S = 5.0  # far above the milliseconds it takes; a hang is what it must catch


def check(model: onnx.ModelProto) -> object:
    return check_onnx(model.SerializeToString(), NAME)


def external(tensor: onnx.TensorProto) -> None:
    """Move a tensor's data to another file, as onnx would."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def tiny_model(*nodes: onnx.NodeProto, functions: object = ()) -> onnx.ModelProto:
    """A graph x -> y with the given nodes; not all of these would run."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("x", "y")]
    graph = helper.make_graph(list(nodes), "tiny", values[:1], values[1:])
    return helper.make_model(
        graph,
        functions=list(functions),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def branch(*nodes: onnx.NodeProto, initializers: object = ()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "branch", [], [], list(initializers))


def tensor(values: object = (1.0, 2.0), name: str = "t") -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), name)


def local_function(name: str, *nodes: onnx.NodeProto, domain: str = "dff") -> onnx.FunctionProto:
    return helper.make_function(
        domain, name, ["x"], ["y"], list(nodes), [helper.make_opsetid("", OPSET)]
    )


def call(name: str) -> onnx.NodeProto:
    return helper.make_node(name, ["x"], ["y"], domain="dff")


def test_inputs_outputs_and_operators_of_a_sound_graph_are_told():
    summary = check(make_model("feature", (32, 64), 8))

    assert summary.inputs == {"frame": TensorSpec("frame", np.dtype(np.uint8), (1, 32, 64, 3))}
    assert summary.outputs == {
        "features": TensorSpec("features", np.dtype(np.float32), (1, 2, 4, 8))
    }
    assert summary.opset == OPSET
    assert summary.operators["Conv"] == 2


def test_operators_of_local_functions_are_counted():
    summary = check(make_model("propagate"))

    assert summary.operators["dff::Warp"] == 1
    assert summary.operators["GridSample"] == 1


def test_typed_data_passes_as_raw_data_does():
    model = make_model("task")
    del model.graph.initializer[:]
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.INT8, [3], [-1, 2, -128]))
    model.graph.initializer.append(helper.make_tensor("b", TensorProto.FLOAT, [2], [1, 2]))
    model.graph.initializer.append(helper.make_tensor("roi", TensorProto.FLOAT, [0], []))

    assert check(model).operators["MatMul"] == 1


def test_quantised_operators_of_the_runtime_are_allowed():
    node = helper.make_node("QLinearAdd", ["x"], ["y"], domain="com.microsoft")

    assert check(tiny_model(node)).operators["com.microsoft::QLinearAdd"] == 1


def test_a_file_cut_at_any_length_is_refused():
    data = make_model("task").SerializeToString()

    for length in range(len(data) - 1):
        with pytest.raises(BundleError, match=NAME):
            check_onnx(data[:length], NAME)


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"PK\x03\x04 a zip", b"ORTM" * 20])
def test_what_is_not_onnx_is_refused(data):
    with pytest.raises(BundleError, match="Export or copy the bundle again"):
        check_onnx(data, NAME)


def test_a_model_without_a_graph_is_refused():
    model = make_model("task")
    model.ClearField("graph")

    with pytest.raises(BundleError, match="holds no graph"):
        check(model)


def test_external_data_of_an_initializer_is_refused():
    model = make_model("feature")
    external(model.graph.initializer[0])

    with pytest.raises(BundleError, match=r"tensor 'mean' \(initializer\).*external data"):
        check(model)


def test_external_entries_without_the_external_flag_are_refused():
    model = make_model("feature")
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")

    with pytest.raises(BundleError, match="external data"):
        check(model)


def test_the_external_flag_without_entries_is_refused():
    model = make_model("feature")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL

    with pytest.raises(BundleError, match="external data"):
        check(model)


def test_external_data_of_an_attribute_is_refused():
    node = helper.make_node("Constant", [], ["y"], value=tensor())
    external(node.attribute[0].t)

    with pytest.raises(BundleError, match=r"attribute 'value' of Constant.*external data"):
        check(tiny_model(node))


def test_external_data_of_a_list_of_tensors_is_refused():
    node = helper.make_node("Constant", [], ["y"], values=[tensor(), tensor()])
    external(node.attribute[0].tensors[1])

    with pytest.raises(BundleError, match="external data"):
        check(tiny_model(node))


def test_external_data_in_a_subgraph_is_refused():
    weights = tensor()
    external(weights)
    inner = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch(initializers=[weights]), else_branch=branch()
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch(inner), else_branch=branch())

    with pytest.raises(BundleError, match="external data"):
        check(tiny_model(node))


def test_external_data_in_a_local_function_is_refused():
    model = make_model("propagate")
    external(model.functions[0].node[0].attribute[0].t)

    with pytest.raises(BundleError, match="external data"):
        check(model)


def test_external_data_in_a_default_attribute_of_a_function_is_refused():
    weights = tensor()
    external(weights)
    function = local_function("F", helper.make_node("Relu", ["x"], ["y"]))
    function.attribute_proto.append(helper.make_attribute("value", weights))

    with pytest.raises(BundleError, match="external data"):
        check(tiny_model(call("F"), functions=[function]))


def test_a_sparse_initializer_is_refused():
    model = make_model("task")
    sparse = model.graph.sparse_initializer.add()
    external(sparse.values)

    with pytest.raises(BundleError, match="sparse initializer"):
        check(model)


def test_a_sparse_attribute_is_refused():
    node = helper.make_node("Constant", [], ["y"])
    attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    external(attribute.sparse_tensor.values)

    with pytest.raises(BundleError, match="'sparse_value' of a kind that is not supported"):
        check(tiny_model(node))


@pytest.mark.parametrize("domain", ["evil", "com.microsoft.nchwc", "ai.onnx.contrib"])
def test_an_operator_of_another_domain_is_refused(domain):
    node = helper.make_node("Run", ["x"], ["y"], domain=domain)

    with pytest.raises(BundleError, match=f"'Run' of the domain '{domain}', which is not allowed"):
        check(tiny_model(node))


def test_an_operator_that_loads_other_files_is_refused():
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")

    with pytest.raises(BundleError, match="'com.microsoft::EPContext', which is not allowed"):
        check(tiny_model(node))


def test_a_foreign_operator_in_a_subgraph_is_refused():
    inner = helper.make_node("Run", ["x"], ["y"], domain="evil")
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch(inner), else_branch=branch())

    with pytest.raises(BundleError, match="domain 'evil'"):
        check(tiny_model(node))


def test_a_function_that_replaces_a_standard_operator_is_refused():
    function = local_function("Relu", helper.make_node("Abs", ["x"], ["y"]), domain="")

    with pytest.raises(BundleError, match="only the domain 'dff' may hold functions"):
        check(tiny_model(call("F"), functions=[function]))


def test_a_call_without_its_function_is_refused():
    with pytest.raises(BundleError, match="'dff::Warp' without a function of that name"):
        check(tiny_model(call("Warp")))


def test_a_plugin_needs_no_function_where_it_is_named_and_only_that_one():
    data = tiny_model(call("DffWarp")).SerializeToString()
    hidden = tiny_model(call("F"), functions=[local_function("F", call("DffWarp"))])

    assert check_onnx(data, NAME, plugins=["DffWarp"]).operators["dff::DffWarp"] == 1
    for plugins in ([], ["Warp"]):
        with pytest.raises(BundleError, match="'dff::DffWarp' without a function of that name"):
            check_onnx(data, NAME, plugins=plugins)
    with pytest.raises(BundleError, match="'dff::DffWarp' without a function of that name"):
        check_onnx(hidden.SerializeToString(), NAME, plugins=["DffWarp"])


def test_a_function_that_calls_itself_is_refused():
    with pytest.raises(BundleError, match="nests local functions more than 4 deep"):
        check(tiny_model(call("F"), functions=[local_function("F", call("F"))]))


def test_a_long_chain_of_functions_is_refused():
    chain = [local_function(f"F{i}", call(f"F{i + 1}")) for i in range(6)]
    chain.append(local_function("F6", helper.make_node("Relu", ["x"], ["y"])))

    with pytest.raises(BundleError, match="nests local functions more than 4 deep"):
        check(tiny_model(call("F0"), functions=chain))


def test_deep_subgraphs_are_refused():
    graph = branch()
    for _ in range(10):
        graph = branch(helper.make_node("If", ["c"], ["y"], then_branch=graph))

    with pytest.raises(BundleError, match="nests subgraphs more than 4 deep"):
        check(tiny_model(helper.make_node("If", ["c"], ["y"], then_branch=graph)))


@pytest.mark.parametrize(
    "dims", [[1 << 40], [1 << 20, 1 << 20], [-5], [0, 1 << 62, 1 << 62], [1] * 9]
)
def test_a_tensor_of_absurd_shape_is_refused(dims):
    model = make_model("task")
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)

    with pytest.raises(BundleError, match="absurd shape|9 axes"):
        check(model)


def test_a_tensor_with_less_data_than_its_shape_is_refused():
    model = make_model("task", channels=8, classes=3)
    model.graph.initializer[0].dims[0] = 1000

    with pytest.raises(BundleError, match="of 3000 elements by its shape that holds data for 24"):
        check(model)


def test_a_tensor_with_data_of_another_type_is_refused():
    model = make_model("task")
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].int64_data.extend([0] * 24)

    with pytest.raises(BundleError, match="24 elements by its shape that holds data for 0"):
        check(model)


@pytest.mark.parametrize("data_type", [0, TensorProto.STRING, TensorProto.COMPLEX64, 999])
def test_a_tensor_of_a_type_that_no_graph_needs_is_refused(data_type):
    model = make_model("task")
    model.graph.initializer[0].data_type = data_type

    with pytest.raises(BundleError, match=f"of type {data_type}, which is not supported"):
        check(model)


def test_absurd_shapes_of_intermediate_values_are_refused():
    model = make_model("task")
    model.graph.value_info.append(
        helper.make_tensor_value_info("m", TensorProto.FLOAT, [1 << 30, 1 << 30])
    )

    with pytest.raises(BundleError, match="value 'm' with an absurd shape"):
        check(model)


@pytest.mark.parametrize(
    ("name", "value"), [("strides", [0, 4]), ("dilations", [-1, 1]), ("kernel_shape", [1 << 40, 1])]
)
def test_attributes_that_crash_kernels_are_refused(name, value):
    node = helper.make_node("Conv", ["x", "w"], ["y"], **{name: value})

    with pytest.raises(BundleError, match=f"{name} {min(value) if min(value) < 1 else value[0]}"):
        check(tiny_model(node))


@pytest.mark.parametrize("opset", [1, 16, 20, 99])
def test_another_operator_set_is_refused(opset):
    model = make_model("task")
    model.opset_import[0].version = opset

    with pytest.raises(BundleError, match=rf"standard operators at \[{opset}\], expected .* 17"):
        check(model)


def test_two_versions_of_the_operator_set_are_refused():
    model = make_model("task")
    model.opset_import.append(helper.make_opsetid("ai.onnx", 18))

    with pytest.raises(BundleError, match=r"standard operators at \[17, 18\]"):
        check(model)


def test_another_ir_version_is_refused():
    model = make_model("task")
    model.ir_version = 99

    with pytest.raises(BundleError, match="IR version 99"):
        check(model)


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_value_of_symbolic_shape_is_refused(side):
    model = make_model("task")
    getattr(model.graph, side)[0].type.tensor_type.shape.dim[0].dim_param = "batch"

    with pytest.raises(BundleError, match=f"no static tensor shape for its {side}"):
        check(model)


def test_training_information_is_refused():
    model = make_model("task")
    model.training_info.add()

    with pytest.raises(BundleError, match="'training_info'"):
        check(model)


@pytest.mark.parametrize("subnet", ["flow", "propagate"])
def test_random_damage_never_hangs_nor_raises_anything_else(subnet):
    rng = random.Random(20)
    sound = make_model(subnet).SerializeToString()
    refused = 0
    for _ in range(FUZZ_ROUNDS):
        data = bytearray(sound)
        for _ in range(rng.randint(1, 4)):
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
        started = time.monotonic()
        try:
            check_onnx(bytes(data), NAME)
        except BundleError:
            refused += 1
        assert time.monotonic() - started < MAX_CHECK_S
    # Damage within weights passes: it changes numbers, not the structure. Digests find it.
    assert refused > FUZZ_ROUNDS // 4


def test_random_structure_damage_is_refused():
    """Flips in a file without weights nearly all hit structure; none may pass as another graph."""
    rng = random.Random(21)
    sound = make_model("task", channels=1, classes=1).SerializeToString()
    expected = check_onnx(sound, NAME)
    for _ in range(FUZZ_ROUNDS):
        data = bytearray(sound)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            found = check_onnx(bytes(data), NAME)
        except BundleError:
            continue
        same_parse = onnx.load_from_string(bytes(data))
        assert [v.name for v in same_parse.graph.input] == list(found.inputs)
        assert [v.name for v in same_parse.graph.output] == list(found.outputs)
    assert expected.inputs


def test_a_bomb_of_small_fields_is_refused_in_bounded_time():
    graph = b"\x0a\x00" * 5_000_000
    length = len(graph)
    prefix = bytearray(b"\x08\x08\x42\x02\x10\x11\x3a")  # IR 8, opset 17, a graph
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    started = time.monotonic()

    with pytest.raises(BundleError, match="too many fields"):
        check_onnx(bytes(prefix) + graph, NAME)
    assert time.monotonic() - started < 4 * MAX_CHECK_S
