"""dff-edge export: the options that change what is exported."""

from __future__ import annotations

import json
import re

import pytest

CLIPS = "synthetic://street?split=val&clips=1&frames=3&height=64&width=128"


def test_other_frame_size_is_that_of_the_graphs(dff_edge, checkpoint_path, tmp_path):
    """The same weights on frames of 96x160: the clips are stretched to those, and scored."""
    bundle = tmp_path / "bundle"

    done = dff_edge("export", checkpoint_path, "-o", bundle, "--frame-size", "96x160")

    assert done.exit_code == 0, done.output
    described = json.loads(dff_edge("inspect", bundle, "--json", "-").stdout)
    assert described["frame_size"] == [96, 160]
    common = ["--source", CLIPS, "--max-interval", 2, "--json", "-"]
    scored = dff_edge("evaluate", bundle, *common)
    assert scored.exit_code == 0, scored.output
    assert len(json.loads(scored.stdout)["miou_at_distance"]) == 2


@pytest.mark.parametrize(
    ("size", "code", "why"),
    [
        ("96x150", 1, r"frame_size.1 is 150, expected: .*multiple of 16"),
        ("16x160", 1, r"frame_size.0 is 16, expected: .*32"),
        ("96", 2, "'96' is no size of frames, expected HEIGHTxWIDTH"),
        ("96xwide", 2, "'96xwide' is no size"),
    ],
)
def test_sizes_that_the_networks_do_not_take_are_refused(
    dff_edge, checkpoint_path, tmp_path, size, code, why
):
    done = dff_edge("export", checkpoint_path, "-o", tmp_path / "b", "--frame-size", size)

    assert done.exit_code == code
    assert re.search(why, " ".join(done.stderr.split())), done.stderr
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("policy", ["idle", "adaptive:0.05"])
def test_the_default_of_a_bundle_is_a_key_interval(dff_edge, checkpoint_path, tmp_path, policy):
    done = dff_edge("export", checkpoint_path, "-o", tmp_path / "b", "--policy", policy)

    assert done.exit_code == 2
    assert "is for runs; a bundle's default is a key interval" in done.stderr
    assert not (tmp_path / "b").exists()
