"""The bounded list of ways to run a bundle."""

import pytest

from dff_edge.cli.run import command as run_command
from dff_edge.plan.candidates import (
    Candidate,
    Screened,
    Setup,
    engines_here,
    outdone,
    policies,
    setups,
)
from dff_edge.runtime.keys import BACKGROUND, IN_ORDER


def test_engines_that_are_installed(without):
    assert "onnxruntime" in engines_here()
    without("onnxruntime")
    assert "onnxruntime" not in engines_here()
    assert "cuda" not in engines_here()


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        # A slower engine, in both kinds of frames.
        ({("int8", "a"): (10, 2), ("int8", "b"): (12, 3)}, {("int8", "b"): ("int8", "a")}),
        # Each is better at one kind.
        ({("int8", "a"): (10, 2), ("int8", "b"): (20, 1)}, {}),
        # Within noise.
        ({("int8", "a"): (10, 2), ("int8", "b"): (10.5, 2.1)}, {}),
        # Half precision that is no faster than what it approximates; faster integers stay.
        (
            {("fp32", "a"): (10, 2), ("fp16", "a"): (11, 2.1), ("int8", "a"): (5, 1)},
            {("fp16", "a"): ("fp32", "a")},
        ),
        # fp32 is slower, and stays: it is the most accurate.
        ({("fp32", "a"): (30, 9), ("int8", "a"): (5, 1)}, {}),
        # The better one is none that is left out itself.
        (
            {("int8", "b"): (12, 2.4), ("int8", "c"): (15, 3), ("int8", "a"): (10, 2)},
            {("int8", "b"): ("int8", "a"), ("int8", "c"): ("int8", "a")},
        ),
        # Never all of a circle, and nothing because of what is left out itself.
        (
            {("fp32", "a"): (30, 9), ("fp32", "b"): (10, 2), ("fp16", "a"): (20, 5)},
            {("fp32", "a"): ("fp32", "b"), ("fp16", "a"): ("fp32", "b")},
        ),
    ],
)
def test_what_nobody_would_choose(times, expected):
    assert outdone({graphs: Screened(*found) for graphs, found in times.items()}) == expected


def test_setups_are_bounded_whatever_the_number_of_cores():
    assert {s.threads for s in setups([("fp32", "onnxruntime")], 1)} == {1}
    assert {s.threads for s in setups([("fp32", "onnxruntime")], 2)} == {1, 2}
    many = setups([("fp32", "onnxruntime"), ("int8", "openvino")], 64)
    assert {s.threads for s in many} == {1, 32, 64}
    assert len(many) == len(set(many)) == 2 * 2 * 3
    assert {s.threads for s in setups([("fp32", "tensorrt")], 64)} == {None}


def test_policies_of_each_key_mode():
    in_order, behind = (Setup("int8", "onnxruntime", 2, keys) for keys in (IN_ORDER, BACKGROUND))
    assert list(policies(in_order, 0.0)) == [f"fixed:{n}" for n in (1, 2, 3, 5, 10, 20, 30)]
    # Shorter intervals than the features take are what idle is.
    assert list(policies(behind, 7.5)) == ["idle", "fixed:10", "fixed:20", "fixed:30"]
    assert list(policies(behind, 99.0)) == ["idle"]


@pytest.mark.parametrize("keys", [IN_ORDER, BACKGROUND])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_options_are_those_of_the_command_that_runs_it(tmp_path, engine, keys):
    candidate = Candidate(Setup("int8", engine, 2, keys), "fixed:20")
    with run_command.make_context("run", [str(tmp_path), "0", *candidate.options()]) as context:
        taken = {name: context.params[name] for name in ("precision", "engine", "threads", "keys")}
        assert taken == candidate.setup._asdict() | {"keys": str(keys)}
        assert context.params["policy"] == "fixed:20"


def test_per_frame_inference_is_every_frame_a_key_frame_in_order():
    in_order, behind = (Setup("int8", "onnxruntime", 2, keys) for keys in (IN_ORDER, BACKGROUND))
    assert Candidate(in_order, "fixed:1").is_per_frame
    assert not Candidate(in_order, "fixed:2").is_per_frame
    assert not Candidate(behind, "idle").is_per_frame
    assert Candidate(behind, "idle").interval is None
