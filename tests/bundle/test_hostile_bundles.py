"""Bundles that mean harm: each is refused at once, or runs in bounded time and memory.

What fuzzing found stands here with its input; `python -m tests.bundle.hostile_bundles` goes on.
"""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.reader import Bundle
from dff_edge.cli import main
from dff_edge.errors import BundleError
from tests.bundle.bundles import OPSET, make_bundle, make_model
from tests.bundle.damaged_bundles import replace_file
from tests.bundle.detection_bundles import make_detection_bundle
from tests.bundle.hostile_bundles import MAX_MEMORY_BYTES, Runner, fuzz_checks, is_clean
from tests.bundle.random_graphs import task_by_chance

MAX_S = 5.0  # of a refusal, which takes milliseconds
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
CHECKS = 400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "b").path


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, outputs, "+".join(outputs), **attributes)


def in_front(model: onnx.ModelProto, *nodes: onnx.NodeProto, **stored: Any) -> None:
    """Put nodes in front of a task graph, which then reads "made"."""
    graph = model.graph
    for own in graph.node:
        own.input[:] = ["made" if name == "features" else name for name in own.input]
    for name, value in stored.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def nested_functions(model: onnx.ModelProto) -> None:
    """Four functions that each call the next thirty times: 810,000 nodes in 3 kB."""
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("dff", 1)]
    for depth in range(4):
        names = ["x", *(f"a{i}" for i in range(29)), "y"]
        calls = [
            helper.make_node(
                f"F{depth + 1}" if depth < 3 else "Relu",
                [names[i]],
                [names[i + 1]],
                domain="dff" if depth < 3 else "",
            )
            for i in range(30)
        ]
        model.functions.append(
            helper.make_function("dff", f"F{depth}", ["x"], ["y"], calls, imports)
        )
    model.opset_import.append(helper.make_opsetid("dff", 1))
    in_front(model, helper.make_node("F0", ["features"], ["made"], domain="dff"))


def smallest_by_minus_one(model: onnx.ModelProto) -> None:
    """The quotient is no int64: the processor stops the process."""
    in_front(
        model,
        node("Div", ["smallest", "minus_one"], ["quotient"]),
        node("Cast", ["quotient"], ["as_float"], to=FLOAT),
        node("Add", ["features", "as_float"], ["made"]),
        smallest=np.int64(-(2**63)),
        minus_one=np.int64(-1),
    )


def division_by_what_is_computed(model: onnx.ModelProto) -> None:
    """The numbers of the places, the first of which is zero."""
    in_front(
        model,
        node("Reshape", ["features", "flat"], ["row"]),
        node("TopK", ["row", "one"], ["value", "place"], axis=0),
        node("Sub", ["place", "place"], ["zero"]),
        node("Div", ["place", "zero"], ["quotient"]),
        node("Gather", ["row", "quotient"], ["found"]),
        node("Add", ["features", "found"], ["made"]),
        flat=np.array([-1]),
        one=np.array([1]),
    )


def endless_loop(model: onnx.ModelProto) -> None:
    values = [
        helper.make_tensor_value_info("turn", INT64, []),
        helper.make_tensor_value_info("go", BOOL, []),
        helper.make_tensor_value_info("held", FLOAT, [1, 2, 4, 8]),
    ]
    on = [helper.make_tensor_value_info("still", BOOL, []), values[2]]
    body = helper.make_graph([node("Identity", ["go"], ["still"])], "body", values, on)
    in_front(
        model,
        node("Loop", ["", "go_on", "features"], ["made"], body=body),
        go_on=np.bool_(True),
    )


def choice(model: onnx.ModelProto) -> None:
    shape = helper.make_tensor_value_info("a", FLOAT, [1, 2, 4, 8])
    branch = helper.make_graph([node("Identity", ["features"], ["a"])], "branch", [], [shape])
    in_front(
        model,
        node("If", ["truth"], ["made"], then_branch=branch, else_branch=branch),
        truth=np.bool_(True),
    )


def tower_of_tiles(model: onnx.ModelProto) -> None:
    nodes = [node("Tile", [f"t{i}", "ten"], [f"t{i + 1}"]) for i in range(12)]
    nodes[0].input[0] = "features"
    cut = node("Slice", ["t12", "from", "to"], ["made"])
    in_front(
        model,
        *nodes,
        cut,
        ten=np.array([1, 10, 10, 1]),
        **{"from": np.zeros(4, np.int64), "to": np.array([1, 2, 4, 8])},
    )


def constant_of_much(model: onnx.ModelProto) -> None:
    in_front(
        model,
        node("ConstantOfShape", ["much"], ["zeros"]),
        node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        node("Add", ["features", "zero"], ["made"]),
        much=np.array([1 << 31]),
    )


def expanded(model: onnx.ModelProto) -> None:
    in_front(
        model,
        node("Expand", ["features", "much"], ["large"]),
        node("Slice", ["large", "from", "to", "axes"], ["made"]),
        much=np.array([1 << 24, 2, 4, 8]),
        **{"from": np.array([0]), "to": np.array([1]), "axes": np.array([0])},
    )


def resized(model: onnx.ModelProto) -> None:
    in_front(
        model,
        node("Resize", ["features", "", "scales"], ["large"], mode="nearest"),
        node("Slice", ["large", "from", "to"], ["made"]),
        scales=np.array([1, 1e4, 1e5, 1], np.float32),
        **{"from": np.zeros(4, np.int64), "to": np.array([1, 2, 4, 8])},
    )


def exploding_places(model: onnx.ModelProto) -> None:
    in_front(
        model,
        node("NonZero", ["features"], ["places"]),
        node("Cast", ["places"], ["numbers"], to=FLOAT),
        node("ReduceMax", ["numbers"], ["most"], keepdims=0),
        node("Add", ["features", "most"], ["made"]),
    )


def scan(model: onnx.ModelProto) -> None:
    row = helper.make_tensor_value_info("row", FLOAT, [2, 4, 8])
    out = helper.make_tensor_value_info("out", FLOAT, [2, 4, 8])
    body = helper.make_graph([node("Identity", ["row"], ["out"])], "body", [row], [out])
    in_front(model, node("Scan", ["features"], ["made"], body=body, num_scan_inputs=1))


def giant_text(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = "n" * 50_000_000


def giant_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("note", "n" * 50_000_000))


def outer_product(model: onnx.ModelProto) -> None:
    """Of 64 numbers with themselves, of the 4,096 with themselves, 16,777,216 ..."""
    nodes, name = [node("Reshape", ["features", "flat"], ["v0"])], "v0"
    for turn in range(3):
        wide = f"wide{turn}"
        nodes.append(node("Reshape", [name, "column"], [f"c{turn}"]))
        nodes.append(node("Add", [name, f"c{turn}"], [wide]))
        nodes.append(node("Reshape", [wide, "flat"], [f"v{turn + 1}"]))
        name = f"v{turn + 1}"
    nodes.append(node("Slice", [name, "from", "to", "axes"], ["some"]))
    nodes.append(node("Reshape", ["some", "back"], ["made"]))
    in_front(
        model,
        *nodes,
        flat=np.array([-1]),
        column=np.array([-1, 1]),
        back=np.array([1, 2, 4, 8]),
        **{"from": np.array([0]), "to": np.array([64]), "axes": np.array([0])},
    )


def cut_at_no_number(model: onnx.ModelProto) -> None:
    """Found by fuzzing: ends of a Slice that are floats, one of them NaN."""
    in_front(
        model,
        node("Slice", ["features", "from", "to", "axes"], ["made"]),
        **{
            "from": np.array([np.nan], np.float32),
            "to": np.array([1], np.int64),
            "axes": np.array([0], np.int64),
        },
    )


def pooled_from_nothing(model: onnx.ModelProto) -> None:
    """Found by fuzzing: a segmentation fault of ONNX Runtime 1.32, RoiAlign on empty maps."""
    in_front(
        model,
        node("Slice", ["features", "from", "to", "axes"], ["none"]),
        node("Transpose", ["none"], ["planes"], perm=[1, 2, 3, 0]),
        node(
            "RoiAlign",
            ["planes", "regions", "places"],
            ["found"],
            sampling_ratio=2,
            spatial_scale=0.0625,
        ),
        node("ReduceSum", ["found"], ["sum"], keepdims=1),
        node("Add", ["features", "sum"], ["made"]),
        regions=np.zeros((3, 4), np.float32),
        places=np.zeros(3, np.int64),
        **{"from": np.array([1]), "to": np.array([2]), "axes": np.array([0])},
    )


def pooled_from_what_may_be_nothing(model: onnx.ModelProto) -> None:
    """The same where it is for NonMaxSuppression to say whether the maps are empty."""
    in_front(
        model,
        node("Reshape", ["features", "as_boxes"], ["boxes"]),
        node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "score"], ["chosen"]),
        node("Slice", ["chosen", "one", "two", "one"], ["classes"]),
        node("Gather", ["features", "classes"], ["rows"]),
        node("ReduceSum", ["rows"], ["sum"], keepdims=1),
        node("Reshape", ["sum", "one"], ["number"]),
        node("Add", ["features", "number"], ["made"]),
        as_boxes=np.array([1, 16, 4]),
        scores=np.zeros((1, 1, 16), np.float32),
        most=np.array([4]),
        iou=np.array([0.5], np.float32),
        score=np.array([1], np.float32),
        one=np.array([1]),
        two=np.array([2]),
    )


GRAPHS: dict[Callable[[onnx.ModelProto], None], str] = {
    nested_functions: "has local functions",
    smallest_by_minus_one: "divides integers by stored ones of 1 and more",
    division_by_what_is_computed: "an integer divisor stored",
    endless_loop: "holds 'g'",
    choice: "holds 'g'",
    scan: "holds 'g'",
    tower_of_tiles: "operator 'Tile'",
    constant_of_much: "operator 'ConstantOfShape'",
    expanded: "operator 'Expand'",
    resized: "operator 'Resize'",
    exploding_places: "operator 'NonZero'",
    giant_text: "bytes",
    giant_attribute: "bytes",
    outer_product: "bytes in one value|absurd",
    cut_at_no_number: "its ends stored, int64",
    pooled_from_nothing: "defines 'none' of shape .*, of nothing",
    pooled_from_what_may_be_nothing: "the Gather node 'rows' that reads rows of which there may",
}


@pytest.mark.parametrize(
    ("change", "reason"), GRAPHS.items(), ids=lambda own: getattr(own, "__name__", "")
)
def test_a_hostile_graph_is_refused_at_once(folder, change, reason):
    model = make_model("task")
    change(model)
    replace_file(folder, "task.onnx", model.SerializeToString())
    started = time.process_time()

    with pytest.raises(BundleError, match=reason):
        Bundle.open(folder)
    assert time.process_time() - started < MAX_S


def test_a_command_tells_it_and_ends(folder):
    model = make_model("task")
    smallest_by_minus_one(model)
    replace_file(folder, "task.onnx", model.SerializeToString())

    done = CliRunner().invoke(main, ["run", str(folder), "synthetic://street?frames=2"])

    assert done.exit_code == 1
    assert "task.onnx has the Div node 'quotient', which divides integers by stored" in done.output


def test_a_large_file_that_is_listed_is_not_read(folder):
    with (folder / "notes.bin").open("wb") as file:
        file.truncate(2 << 30)
    fields = json.loads((folder / "manifest.json").read_text())
    fields["files"]["notes.bin"] = {"sha256": "a" * 64, "bytes": 1 << 30}
    (folder / "manifest.json").write_text(json.dumps(fields))
    started = time.process_time()

    with pytest.raises(BundleError, match="files that are graphs, unlike 'notes.bin'"):
        Bundle.open(folder)
    assert time.process_time() - started < MAX_S


def test_a_large_file_in_the_place_of_a_graph_is_hashed_piece_by_piece(folder):
    with (folder / "task.onnx").open("wb") as file:
        file.truncate(1 << 27)
    fields = json.loads((folder / "manifest.json").read_text())
    fields["files"]["task.onnx"]["bytes"] = 1 << 27
    (folder / "manifest.json").write_text(json.dumps(fields))
    tracemalloc.start()

    with pytest.raises(BundleError, match="'task.onnx' has the digest"):
        Bundle.open(folder)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 23


MANIFESTS = {
    "a key of 90,000 is there twice": (
        "{" + ",".join(f'"{i}":1' for i in range(90_000)) + ',"89999":2}',
        "the key '89999' twice",
    ),
    "300,000 records that lack everything": (
        '{"schema_version":3,"parity":[' + ",".join(["{}"] * 300_000) + "]}",
        "more than 1000 values in one list",
    ),
    "many lists of many": (
        '{"schema_version":3,"a":[' + ",".join(["[" + ",".join("1" * 900) + "]"] * 400) + "]}",
        "more than 30000 in all",
    ),
    "very deep": ('{"a":' + "[" * 400_000 + "]" * 400_000 + "}", "nests too deeply"),
    "a number of 5,000 digits": ('{"schema_version":' + "9" * 5000 + "}", "is not JSON"),
    "a version of 4,000 digits": ('{"schema_version":' + "9" * 4000 + "}", r"9\.\.\., this dff-"),
}


@pytest.mark.parametrize(("text", "reason"), MANIFESTS.values(), ids=MANIFESTS)
def test_a_hostile_manifest_is_refused_at_once(folder, text, reason):
    (folder / "manifest.json").write_text(text)
    started = time.process_time()

    with pytest.raises(BundleError, match=reason) as caught:
        Bundle.open(folder)
    assert time.process_time() - started < MAX_S
    assert len(str(caught.value)) < 4000


def test_a_folder_of_very_many_files_is_refused(folder):
    (folder / "x").mkdir()
    for number in range(1500):
        (folder / f"{number}").touch()

    with pytest.raises(BundleError, match="holds more than 1000 files"):
        Bundle.open(folder)


def test_damage_is_refused_or_makes_another_sound_bundle(folder, tmp_path):
    detector = make_detection_bundle(tmp_path / "d").path

    counts, problems = fuzz_checks([folder, detector], seconds=60, seed=1, rounds=CHECKS)

    assert problems == []
    assert sum(counts.values()) == CHECKS
    assert sum(n for (_, outcome), n in counts.items() if outcome == "refused") > CHECKS // 2


def test_what_opens_runs_or_fails_in_bounded_time_and_memory(folder):
    """Graphs of allowed operators, made at random; most of them run."""
    bundle = Bundle.open(folder)
    runner, outcomes = Runner(), []
    for seed in range(12):
        replace_file(folder, "task.onnx", task_by_chance(bundle, random.Random(seed)))
        outcome, took_s = runner.attempt(folder)
        assert is_clean(outcome, took_s), (seed, outcome, took_s)
        outcomes.append(outcome)
    peak = runner.peak_bytes
    runner.close()

    assert outcomes.count("ran") > 4
    assert peak < MAX_MEMORY_BYTES
