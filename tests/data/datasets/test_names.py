"""Names of data sets."""

from pathlib import Path

import pytest

from dff_edge.data.clips import open_clips
from dff_edge.data.datasets import parse_data_name
from dff_edge.data.datasets.names import FOLDER
from dff_edge.errors import ConfigError


def test_root_and_options():
    name = parse_data_name("cityscapes://data/cs?ids=30")

    assert name.root == Path("data/cs")
    assert name.options == {"split": "val", "ids": "30", "sequence": "1"}
    assert parse_data_name("vid:///data/vid").root == Path("/data/vid")


def test_values_may_be_paths():
    name = parse_data_name("det:///data/det?split=train&list=/my/lists/det.txt")

    assert name.root == Path("/data/det")
    assert name.options == {"split": "train", "list": "/my/lists/det.txt"}


@pytest.mark.parametrize("text", ["synthetic://street", "rtsp://x"])
def test_other_names_are_none_of_ours(text):
    assert parse_data_name(text) is None


@pytest.mark.parametrize("text", ["frames/", "cityscapes:x", "frames?split=val"])
def test_what_is_no_name_is_a_labelled_folder(text):
    name = parse_data_name(text)

    assert (name.kind, name.root, name.options) == (FOLDER, Path(text), {})
    assert name.classes() is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cityscapes://", "names no folder, expected cityscapes://ROOT"),
        ("cityscapes://x?split=dev", "split is 'dev', expected train or val or test"),
        ("cityscapes://x?frames=3", "unknown option 'frames', expected split, ids, sequence"),
        ("vid://x?split=test", "split is 'test', expected train or val"),
        ("vid://x?split=val&split=val", "gives split twice"),
        ("imagenet://x", "is not labelled data, expected .*vid://ROOT"),
    ],
)
def test_names_that_mean_nothing_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        open_clips(text)
