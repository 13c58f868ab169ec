"""Reading of ONNX files, and each rule by which one is refused before anything is computed."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.graphs.byte_stream import ByteStream
from dff_edge.bundle.graphs.onnx_file import OnnxFile, Tensor
from dff_edge.bundle.graphs.onnx_reader import read_onnx
from dff_edge.bundle.graphs.protobuf import WireError
from tests.bundle.bundles import make_model
from tests.bundle.graphs.onnx_graphs import model_of, node, with_external_data

RELU = node("Relu", ["x"])


def read(model: onnx.ModelProto | bytes, wanted: set[str] | None = None) -> OnnxFile:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return read_onnx(ByteStream(io.BytesIO(data), len(data)), lambda nodes: wanted or set())


@pytest.mark.parametrize("subnet", ["feature", "flow", "task", "propagate"])
def test_everything_is_read_as_the_onnx_package_reads_it(subnet):
    model = make_model(subnet)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    found = read(model, set(stored))

    assert [n.operator for n in found.nodes] == [n.op_type for n in model.graph.node]
    assert [n.inputs for n in found.nodes] == [tuple(n.input) for n in model.graph.node]
    assert [n.outputs for n in found.nodes] == [tuple(n.output) for n in model.graph.node]
    assert found.opset == model.opset_import[0].version
    assert list(found.inputs) == [value.name for value in model.graph.input]
    assert list(found.outputs) == [value.name for value in model.graph.output]
    for name, tensor in found.tensors.items():
        np.testing.assert_array_equal(tensor.values, stored[name])
    for ours, theirs in zip(found.nodes, model.graph.node, strict=True):
        attributes = {a.name: helper.get_attribute_value(a) for a in theirs.attribute}
        assert ours.attributes == {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in attributes.items()
        }
    assert [f.name for f in found.functions.values()] == [f.name for f in model.functions]


def test_stored_tensors_of_an_attribute_are_read():
    values = np.array([[1.5, -2.0]], np.float32)
    model = model_of(node("Constant", [], value=numpy_helper.from_array(values)))

    (constant,) = read(model).nodes

    assert isinstance(constant.attributes["value"], Tensor)
    np.testing.assert_array_equal(constant.attributes["value"].values, values)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int8", "int32", "int64", "bool"])
@pytest.mark.parametrize("count", [3, 100_000])
def test_tensors_of_all_types_are_read_small_and_large(dtype, count):
    values = (np.arange(count) % 100).astype(dtype).reshape(1, -1)

    found = read(model_of(RELU, stored={"t": values}), {"t"}).tensors["t"]

    assert (found.dtype, found.shape) == (values.dtype, values.shape)
    np.testing.assert_array_equal(found.values, values)


@pytest.mark.parametrize("count", [3, 100_000])
def test_tensors_that_nobody_wants_are_passed_over(count):
    model = model_of(RELU, stored={"t": np.ones(count, np.float32), "u": np.zeros(2, np.int64)})

    found = read(model, {"u"})

    assert (found.tensors["t"].shape, found.tensors["t"].values) == ((count,), None)
    assert found.tensors["u"].values.tolist() == [0, 0]


def test_weights_are_never_held():
    """The largest take hundreds of megabytes, on devices that have little."""
    data = model_of(RELU, stored={"t": np.ones(8_000_000, np.float32)}).SerializeToString()
    stream = ByteStream(io.BytesIO(data), len(data))
    tracemalloc.start()
    read_onnx(stream, lambda nodes: set())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4e6 < len(data)


def test_typed_data_is_read_as_raw_data_is():
    model = model_of(RELU)
    for name, kind, values in (
        ("w", TensorProto.INT8, [-1, 2, -128]),
        ("b", TensorProto.FLOAT, [1.5, -2]),
        ("i", TensorProto.INT64, [-(2**63), 2**63 - 1]),
        ("roi", TensorProto.FLOAT, []),
    ):
        model.graph.initializer.append(helper.make_tensor(name, kind, [len(values)], values))

    found = read(model, {"w", "b", "i", "roi"}).tensors

    assert found["w"].values.tolist() == [-1, 2, -128]
    assert found["b"].values.tolist() == [1.5, -2]
    assert found["i"].values.tolist() == [-(2**63), 2**63 - 1]
    assert found["roi"].values.tolist() == []


def test_a_file_cut_at_any_length_is_refused():
    data = make_model("task").SerializeToString()

    for length in range(len(data) - 1):
        with pytest.raises(WireError):
            read(data[:length])


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"PK\x03\x04 a zip", b"ORTM" * 20])
def test_what_is_not_onnx_is_refused(data):
    with pytest.raises(WireError):
        read(data)


def refused(change: Callable[[onnx.ModelProto], object], reason: str) -> None:
    """See that a sound model is refused when it is changed."""
    model = model_of(RELU, stored={"t": np.ones(3, np.float32)})
    read(model)
    change(model)
    with pytest.raises(WireError, match=reason):
        read(model)


def test_a_model_without_a_graph_is_refused():
    refused(lambda model: model.ClearField("graph"), "holds no graph")


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("model", "training_info"),
        ("model", "metadata_props"),
        ("graph", "sparse_initializer"),
        ("graph", "metadata_props"),
        ("graph", "quantization_annotation"),
        ("node", "metadata_props"),
        ("node", "device_configurations"),
        ("attribute", "floats"),
        ("attribute", "strings"),
        ("attribute", "tensors"),
        ("attribute", "graphs"),
        ("attribute", "g"),
        ("attribute", "sparse_tensor"),
        ("attribute", "type_protos"),
        ("attribute", "ref_attr_name"),
        ("tensor", "string_data"),
        ("tensor", "segment"),
        ("tensor", "metadata_props"),
        ("tensor", "double_data"),
    ],
)
def test_fields_that_no_graph_of_a_bundle_has_are_refused_by_name(message, name):
    def change(model: onnx.ModelProto) -> None:
        place = {
            "model": lambda: model,
            "graph": lambda: model.graph,
            "node": lambda: model.graph.node[0],
            "attribute": lambda: model.graph.node[0].attribute.add(name="a"),
            "tensor": lambda: model.graph.initializer[0],
        }[message]()
        kind = place.DESCRIPTOR.fields_by_name[name]
        if kind.message_type is not None and kind.is_repeated:
            getattr(place, name).add()
        elif kind.message_type is not None:
            getattr(place, name).SetInParent()
        elif kind.is_repeated:
            getattr(place, name).append(b"x" if kind.type == kind.TYPE_BYTES else 1)
        else:
            setattr(place, name, "x")

    refused(change, f"'{name}'")


def test_external_data_is_refused_wherever_it_is():
    refused(lambda m: with_external_data(m.graph.initializer[0]), "tensor 't' .*external data")
    refused(
        lambda m: m.graph.initializer[0].external_data.add(key="location", value="x"),
        "external data",
    )

    def flag_alone(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].data_location = TensorProto.EXTERNAL

    refused(flag_alone, "external data")

    def of_an_attribute(model: onnx.ModelProto) -> None:
        attribute = model.graph.node[0].attribute.add(name="a")
        attribute.type = onnx.AttributeProto.TENSOR
        attribute.t.CopyFrom(model.graph.initializer[0])
        with_external_data(attribute.t)

    refused(of_an_attribute, "attribute 'a' of Relu.*external data")


def test_external_data_in_a_local_function_is_refused():
    model = make_model("propagate")
    with_external_data(model.functions[0].node[0].attribute[0].t)

    with pytest.raises(WireError, match="external data"):
        read(model)


def test_an_attribute_that_does_not_hold_what_its_type_says_is_refused():
    def of_another_type(model: onnx.ModelProto) -> None:
        attribute = model.graph.node[0].attribute.add(name="a")
        attribute.i, attribute.type = 3, onnx.AttributeProto.FLOAT

    def of_two_values(model: onnx.ModelProto) -> None:
        of_another_type(model)
        model.graph.node[0].attribute[0].s = b"x"

    refused(of_another_type, "attribute 'a' of Relu of type 1, with")
    refused(of_two_values, "attribute 'a' of Relu of type 1, with")


def test_two_of_one_name_are_refused():
    def two_tensors(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(model.graph.initializer[0])

    def two_inputs(model: onnx.ModelProto) -> None:
        model.graph.input.append(model.graph.input[0])

    def two_attributes(model: onnx.ModelProto) -> None:
        for _ in range(2):
            model.graph.node[0].attribute.append(helper.make_attribute("a", 1))

    refused(two_tensors, "two tensors of the name 't'")
    refused(two_inputs, "two inputs of the name 'x'")
    refused(two_attributes, "the attribute 'a' twice")


@pytest.mark.parametrize(
    "dims", [[1 << 40], [1 << 20, 1 << 20], [-5], [0, 1 << 62, 1 << 62], [1] * 9]
)
def test_a_tensor_of_absurd_shape_is_refused(dims):
    def change(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    refused(change, "absurd shape|9 axes")


def test_a_tensor_with_other_data_than_its_shape_is_refused():
    def larger(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[0] = 1000

    def of_another_type(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].ClearField("raw_data")
        model.graph.initializer[0].int64_data.extend([0] * 3)

    def twice(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].float_data.extend([0] * 3)

    def out_of_range(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.CopyFrom(helper.make_tensor("t", TensorProto.UINT8, [1], [255]))
        tensor.int32_data[0] = 256

    refused(larger, "of 1000 elements by its shape that holds data for 3")
    refused(of_another_type, "3 elements by its shape that holds data for 0")
    refused(twice, "raw bytes that do not fit")
    model = model_of(RELU, stored={"t": np.ones(3, np.float32)})
    out_of_range(model)
    with pytest.raises(WireError, match="a number that its type cannot hold"):
        read(model, {"t"})


@pytest.mark.parametrize(
    "data_type", [0, TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.DOUBLE, 999]
)
def test_a_tensor_of_a_type_that_no_graph_needs_is_refused(data_type):
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].data_type = data_type

    refused(change, f"of type {data_type}, which is not supported")


@pytest.mark.parametrize("opset", [1, 16, 20, 99])
def test_another_operator_set_is_refused(opset):
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = opset

    refused(change, rf"standard operators at \[{opset}\], expected .* 17")


def test_other_sets_beside_it_are_refused():
    refused(
        lambda m: m.opset_import.append(helper.make_opsetid("", 18)),
        r"standard operators at \[17, 18\]",
    )
    refused(
        lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
        "the domain 'com.microsoft'",
    )


def test_another_ir_version_is_refused():
    def change(model: onnx.ModelProto) -> None:
        model.ir_version = 99

    refused(change, "IR version 99")


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_value_of_symbolic_shape_is_refused(side):
    def change(model: onnx.ModelProto) -> None:
        shape = getattr(model.graph, side)[0].type.tensor_type.shape
        shape.dim[0].dim_param = "batch"

    refused(change, "dim_param")


@pytest.mark.parametrize("side", ["input", "output", "value_info"])
def test_a_value_without_a_shape_is_refused(side):
    def change(model: onnx.ModelProto) -> None:
        value = onnx.ValueInfoProto(name="v")
        value.type.tensor_type.elem_type = TensorProto.FLOAT
        getattr(model.graph, side).append(value)

    refused(change, f"no static tensor shape for its {side} 'v'")


def test_fields_out_of_order_are_refused():
    """Every writer puts them in order; which tensors are looked at is known from the nodes."""
    data = model_of(RELU, stored={"t": np.ones(3, np.float32)}).SerializeToString()
    model = onnx.load_from_string(data)
    nodes, tensors = (
        onnx.GraphProto(node=model.graph.node).SerializeToString(),
        onnx.GraphProto(initializer=model.graph.initializer).SerializeToString(),
    )
    graph = tensors + nodes
    model.ClearField("graph")
    opset = onnx.ModelProto(opset_import=model.opset_import).SerializeToString()

    with pytest.raises(WireError, match="'node' twice in one Graph message, or out of order"):
        read(b"\x08\x08" + b"\x3a" + bytes([len(graph)]) + graph + opset)


def test_a_function_of_another_domain_or_set_is_refused():
    model = make_model("propagate")
    model.functions[0].domain = ""
    with pytest.raises(WireError, match="only the domain 'dff' may hold functions"):
        read(model)
    model = make_model("propagate")
    model.functions[0].opset_import[0].version = 18
    with pytest.raises(WireError, match="'Warp' for another operator set, 18"):
        read(model)


def test_long_names_are_refused():
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].name = "n" * 2000

    refused(change, "text of 2000 bytes in field 'name'")


def test_too_many_values_and_nodes_are_refused():
    wide = node("Concat", ["x"] * 100, axis=1)
    with pytest.raises(WireError, match="Concat node of 100 inputs and 1 outputs, at most 64"):
        read(model_of(wide))
    with pytest.raises(WireError, match="more than 5000 nodes"):
        read(model_of(*[RELU] * 5_001))


def test_a_bomb_of_small_fields_is_refused():
    names = b"\x0a\x00" * 4_000_000  # empty inputs of a node
    with pytest.raises(WireError, match="more than 65536 values in field 'input'"):
        read(nested(0x0A, names))
    empty = b"\x0a\x00" * 1_000_000  # empty nodes
    with pytest.raises(WireError, match="more than 5000 nodes|too many fields"):
        read(nested(None, empty))


def nested(tag: int | None, payload: bytes) -> bytes:
    """A model whose graph is a field, or these bytes."""
    graph = payload if tag is None else bytes([tag]) + varint(len(payload)) + payload
    return b"\x08\x08\x3a" + varint(len(graph)) + graph + b"\x42\x02\x10\x11"


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
