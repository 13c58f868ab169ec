"""Graphs that would take too long or too much memory are refused before they run."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from dff_edge.bundle.graphs.onnx_check import check_onnx, cost_problem
from dff_edge.errors import BundleError
from tests.bundle.bundles import make_model
from tests.bundle.graphs.onnx_graphs import NAME, check, model_of, node

FLOAT = TensorProto.FLOAT
MAX_CHECK_S = 5.0  # far above the milliseconds it takes; a hang is what it must catch
PIXELS = 32 * 64


def too_much(model: onnx.ModelProto, what: str) -> None:
    """See that a tiny file that asks for much is told by what it asks for."""
    data = model.SerializeToString()
    assert len(data) < 100_000
    started = time.process_time()
    problem = cost_problem(check_onnx(data, NAME).summary, PIXELS)
    assert time.process_time() - started < MAX_CHECK_S
    assert problem is not None
    assert what in problem


def test_a_product_of_two_long_vectors_is_refused():
    """A megabyte each, and all their sums a terabyte."""
    sides = {"a": (FLOAT, (1 << 18, 1)), "b": (FLOAT, (1, 1 << 18))}
    y = {"y": (FLOAT, (1 << 18, 1 << 18))}
    with pytest.raises(BundleError, match="the value 'y' with an absurd shape"):
        check(model_of(node("Add", ["a", "b"]), inputs=sides, outputs=y))
    small = node("Slice", ["m", "from", "to", "axes"])
    stored = {"from": np.array([0]), "to": np.array([1]), "axes": np.array([0])}
    for operator in ("Add", "MatMul"):
        too_much(
            model_of(
                node(operator, ["a", "b"], ["m"]),
                small,
                inputs=sides,
                outputs={"y": (FLOAT, (1, 1 << 18))},
                stored=stored,
            ),
            "bytes in one value",
        )


def test_a_tower_of_doublings_is_refused():
    nodes = [node("Concat", ["x", "x"], ["v1"], axis=0)]
    nodes += [node("Concat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], axis=0) for i in range(1, 40)]
    nodes.append(node("Slice", ["v40", "from", "to", "axes"]))
    stored = {"from": np.array([0]), "to": np.array([1]), "axes": np.array([0])}

    too_much(model_of(*nodes, stored=stored), "bytes in one value")


def test_much_padding_is_refused():
    conv = node("Conv", ["x", "w"], ["m"], pads=[60000] * 4)
    small = node("Slice", ["m", "from", "to", "axes"])
    stored = {
        "w": np.ones((1, 1, 1, 1), np.float32),
        "from": np.array([0]),
        "to": np.array([1]),
        "axes": np.array([2]),
    }
    model = model_of(
        conv,
        small,
        inputs={"x": (FLOAT, (1, 1, 4, 4))},
        outputs={"y": (FLOAT, (1, 1, 1, 120004))},
        stored=stored,
    )

    too_much(model, "bytes in one value")


def test_a_window_that_takes_much_memory_of_its_own_is_refused():
    conv = node("Conv", ["x", "w"], pads=[64] * 4)
    model = model_of(
        conv,
        inputs={"x": (FLOAT, (1, 1, 1000, 1000))},
        outputs={"y": (FLOAT, (1, 1, 1000, 1000))},
        stored={"w": np.zeros((1, 1, 129, 129), np.float32)},
    )

    assert "bytes in one value" in str(cost_problem(check(model).summary, PIXELS))


def test_many_values_that_are_each_small_enough_are_refused():
    nodes = [node("Relu", ["x"], [f"v{i}"]) for i in range(400)]
    side = {"x": (FLOAT, (1, 1 << 20))}
    model = model_of(*nodes, node("Relu", ["x"]), inputs=side, outputs={"y": side["x"]})

    too_much(model, "bytes in all its values")


def test_one_weight_used_again_and_again_is_refused():
    rows = (FLOAT, (2000, 512))
    nodes = [node("MatMul", ["x", "w"], ["v0"])]
    nodes += [node("MatMul", [f"v{i}", "w"], [f"v{i + 1}"]) for i in range(30)]
    weight = {"w": np.zeros((512, 512), np.float32)}
    model = model_of(
        *nodes, node("Relu", ["v30"]), inputs={"x": rows}, outputs={"y": rows}, stored=weight
    )

    problem = cost_problem(check(model).summary, PIXELS)

    assert problem is not None
    assert f"needs {31 * 2000 * 512**2 + 2000 * 512} steps of work" in problem


def test_boxes_that_are_all_compared_with_all_are_refused():
    count = 40_000
    model = model_of(
        node("NonMaxSuppression", ["boxes", "scores", "most", "limit", "score"], ["chosen"]),
        node("GatherND", ["scores", "chosen"], ["found"]),
        node("ScatterND", ["scores", "chosen", "found"]),
        inputs={"boxes": (FLOAT, (1, count, 4)), "scores": (FLOAT, (1, 1, count))},
        outputs={"y": (FLOAT, (1, 1, count))},
        stored={
            "most": np.array([count]),
            "limit": np.array([1], np.float32),
            "score": np.array([-1], np.float32),
        },
    )

    with pytest.raises(BundleError, match="compares at most 536870912 pairs of boxes"):
        check(model)


def test_what_the_toolkit_makes_is_not_out_of_proportion():
    for subnet in ("feature", "flow", "task", "propagate"):
        assert cost_problem(check(make_model(subnet)).summary, PIXELS) is None
