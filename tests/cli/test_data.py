"""`dff-edge data check`."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from dff_edge.cli import main
from dff_edge.cli.data import NAMES
from dff_edge.report.data_check import CHECKED
from tests.runtime.datasets.layouts import SIZE, cityscapes, coco_video, flying_chairs, vid_snippet


def check(*arguments, exit_code=0):
    outcome = CliRunner().invoke(main, ["data", "check", *map(str, arguments)])
    assert outcome.exit_code == exit_code, outcome.output
    return outcome.output


def as_json(*arguments, exit_code=0):
    return json.loads(check(*arguments, "--json", "-", exit_code=exit_code))


def test_names_are_those_that_can_be_checked():
    assert NAMES == CHECKED


def test_what_is_found_is_counted(tmp_path):
    cityscapes(tmp_path, "train")
    cityscapes(tmp_path, "val", ids=np.full(SIZE, 26, np.uint8))

    found = as_json("cityscapes", tmp_path)

    train, val, test = found["splits"]
    assert found["is_usable"]
    assert (train["clips"], train["frames"], train["labelled"], train["alone"]) == (1, 30, 1, 0)
    assert {name for name, count in val["classes"].items() if count} == {"car"}
    assert "has no folder gtFine/test" in test["error"]


def test_damaged_files_are_named_and_make_it_unusable(tmp_path):
    vid_snippet(tmp_path, "val", "a", 3)
    (tmp_path / "Data/VID/val/a/000001.JPEG").write_bytes(b"\xff\xd8\xff")

    found = as_json("vid", tmp_path, "--open", "all", exit_code=1)

    val = found["splits"][1]
    assert val["damaged"] == 2  # as itself, and as the frame before the next
    assert "000001.JPEG" in val["problems"][0]
    assert val["boxes"] == 1
    assert as_json("vid", tmp_path, "--open", "none")["is_usable"]


def test_frames_of_two_sizes_are_damaged(tmp_path):
    ids = np.full((SIZE[0], SIZE[1] + 2), 7, np.uint8)
    cityscapes(tmp_path, ids=ids)

    assert "and its labels are (24, 34)" in check("cityscapes", tmp_path, exit_code=1)


def test_options_and_missing_files(tmp_path):
    path, _ = coco_video(tmp_path)
    (whole,) = as_json("cocovid", path, "--option", "images=frames")["splits"]
    assert (whole["clips"], whole["labelled"], whole["alone"]) == (2, 4, 2)
    (tmp_path / "frames/b/0.jpg").unlink()

    text = check("cocovid", path, "--option", "images=frames")

    assert "1 clips, 3 frames, 3 labelled, 1 of them with no frame before" in text
    assert "b/0.jpg is missing" in text
    assert "unknown option 'ids'" in check("vid", tmp_path, "--option", "ids=19", exit_code=1)


@pytest.mark.parametrize("damage", [False, True])
def test_flying_chairs(tmp_path, damage):
    flying_chairs(tmp_path / "chairs", [1, 2, 1])
    if damage:
        (tmp_path / "chairs/data/00003_flow.flo").write_bytes(b"PIEH")

    found = as_json("flyingchairs", tmp_path / "chairs", exit_code=int(damage))

    assert [split["labelled"] for split in found["splits"]] == [2, 1]
    assert found["splits"][0]["damaged"] == int(damage)


def test_nothing_there(tmp_path):
    text = check("folder", tmp_path, exit_code=1)

    assert "has no folder 'images'" in text
    assert "It cannot be used as it is." in text
