"""Cityscapes in its own layout."""

import numpy as np
import pytest

from dff_edge.data.clips import class_names, open_clips
from dff_edge.data.datasets import DATA_SETS
from dff_edge.errors import SourceError
from tests.data.datasets.layouts import SIZE, cityscapes

SCORED = (  # the 19 by train id, as the data set's authors number them
    "road sidewalk building wall fence pole traffic light traffic sign vegetation terrain sky "
    "person rider car truck bus train motorcycle bicycle"
)


def all_ids():
    """Pixel n of the first row has id n, up to 33; the rest is void."""
    ids = np.zeros(SIZE, np.uint8)
    ids.flat[:34] = np.arange(34)
    ids.flat[40] = 255
    return ids


def test_a_snippet_has_thirty_frames_and_the_twentieth_is_labelled(tmp_path):
    cityscapes(tmp_path, labelled=42, ids=all_ids())

    (clip,) = open_clips(f"cityscapes://{tmp_path}?split=val")

    assert len(clip) == 30
    assert [i for i in range(30) if clip.is_labelled(i)] == [19]
    assert clip.labels(18) is None
    assert clip.image(0)[0, 0, 0] == 10 * 23  # frame 42 - 19 of the sequence
    assert clip.image(19)[0, 0, 0] == 10 * (42 % 25)
    assert clip.boxes(19) is None


def test_train_ids(tmp_path):
    cityscapes(tmp_path, ids=all_ids())
    (clip,) = open_clips(f"cityscapes://{tmp_path}")

    labels = clip.labels(19)

    expected = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11}
    expected |= {25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    assert [int(n) for n in labels.flat[:34]] == [expected.get(n, 255) for n in range(34)]
    assert labels.flat[40] == 255
    assert " ".join(class_names(f"cityscapes://{tmp_path}")) == SCORED


def test_thirty_classes(tmp_path):
    cityscapes(tmp_path, ids=all_ids())
    name = f"cityscapes://{tmp_path}?ids=30"

    (clip,) = open_clips(name)

    assert [int(n) for n in clip.labels(19).flat[:34]] == [255] * 4 + list(range(30))
    classes = class_names(name)
    assert len(set(classes)) == 30
    assert classes[7 - 4] == "road"
    assert classes[33 - 4] == "bicycle"


def test_frames_before_a_gap_do_not_count(tmp_path):
    cityscapes(tmp_path)
    folder = tmp_path / "leftImg8bit_sequence/val/lindau"
    (folder / "lindau_000003_000004_leftImg8bit.png").unlink()

    listing = DATA_SETS["cityscapes"].list(tmp_path, {"split": "val", "ids": "19", "sequence": "1"})

    (clip,) = listing.clips
    assert len(clip) == 25
    assert clip.is_labelled(14)
    assert [p.endswith("000004_leftImg8bit.png is missing") for p in listing.problems] == [True]


def test_labelled_frames_alone(tmp_path):
    cityscapes(tmp_path)
    (tmp_path / "leftImg8bit_sequence").rename(tmp_path / "leftImg8bit")

    (clip,) = open_clips(f"cityscapes://{tmp_path}?sequence=0")

    assert len(clip) == 1
    assert clip.is_labelled(0)
    with pytest.raises(SourceError, match="has no folder leftImg8bit_sequence/val.*dataset.com"):
        open_clips(f"cityscapes://{tmp_path}")


def test_ids_that_do_not_exist_are_refused(tmp_path):
    cityscapes(tmp_path, ids=np.full(SIZE, 34, np.uint8))
    (clip,) = open_clips(f"cityscapes://{tmp_path}")

    with pytest.raises(SourceError, match="has the id 34, expected 0 to 33"):
        clip.labels(19)


def test_a_split_without_the_labelled_frames_is_refused(tmp_path):
    cityscapes(tmp_path)
    (tmp_path / "leftImg8bit_sequence/val/lindau/lindau_000003_000019_leftImg8bit.png").unlink()

    with pytest.raises(SourceError, match="no labelled frame in val: .*000019_leftImg8bit.png is"):
        open_clips(f"cityscapes://{tmp_path}")


def test_pictures_of_no_label_are_told(tmp_path):
    cityscapes(tmp_path)
    folder = tmp_path / "leftImg8bit_sequence/val/lindau"
    (folder / "lindau_000004_000001_leftImg8bit.png").write_bytes(b"x")

    listing = DATA_SETS["cityscapes"].list(tmp_path, {"split": "val", "ids": "19", "sequence": "1"})

    assert listing.problems == [
        f"{folder}: 1 files (lindau_000004_000001_leftImg8bit.png) of no label"
    ]
