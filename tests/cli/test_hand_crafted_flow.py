"""Shallow feature flow on the command line: --flow of export and evaluate."""

from __future__ import annotations

import json

import pytest

CLIPS = "synthetic://street?split=val&clips=1&frames=4&height=64&width=128"


def test_exported_bundle_scores_as_its_checkpoint_with_the_same_flow(
    dff_edge, checkpoint_path, tmp_path
):
    bundle = tmp_path / "bundle"
    done = dff_edge("export", checkpoint_path, "-o", bundle, "--flow", "farneback")
    assert done.exit_code == 0, done.output
    assert json.loads(dff_edge("inspect", bundle, "--json", "-").stdout)["flow"] == "farneback"
    common = ["--source", CLIPS, "--max-interval", 3, "--json", "-"]

    scores = [
        json.loads(dff_edge("evaluate", model, *common, *options).stdout)
        for model, options in ((bundle, []), (checkpoint_path, ["--flow", "farneback"]))
    ]

    assert [score["flow"] for score in scores] == ["farneback"] * 2
    assert scores[0]["miou_at_distance"] == pytest.approx(scores[1]["miou_at_distance"], abs=5e-3)


def test_flow_beside_what_has_its_own_or_none_is_refused(dff_edge, bundle_path, checkpoint_path):
    for model, options, why in (
        (bundle_path, [], "a bundle has its own"),
        (checkpoint_path, ["--copy-features"], "there is none"),
    ):
        done = dff_edge("evaluate", model, "--source", CLIPS, "--flow", "dis-fast", *options)
        assert done.exit_code == 2
        assert why in done.stderr


def test_flows_are_those_of_the_runtime():
    from dff_edge.cli.options import FLOWS
    from dff_edge.names import HAND_CRAFTED_FLOWS

    assert FLOWS == ("network", *HAND_CRAFTED_FLOWS)
