"""Labelled folders with habits of people and tools: what belongs together, and what is told."""

import os

import cv2
import numpy as np
import pytest

from dff_edge.data.datasets.folder import list_clips
from dff_edge.errors import SourceError
from tests.data.datasets.layouts import png, write


@pytest.fixture
def root(tmp_path):
    (tmp_path / "labels").mkdir()
    return tmp_path


def picture(root, name):
    path = root / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes())


def label(root, name, value=1):
    path = root / "labels" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(np.full((4, 6), value), 8))


def test_labels_with_an_upper_case_suffix_are_found(root):
    picture(root, "a.JPG")
    label(root, "a.PNG")

    (clip,) = list_clips(root, {}).clips

    assert clip.is_labelled(0)
    assert clip.labels(0).tolist() == [[1] * 6] * 4


def test_bits_and_palettes_are_read_as_numbers(root):
    picture(root, "a.png")
    picture(root, "b.png")
    values = np.arange(24).reshape(4, 6) % 2
    (root / "labels/a.png").write_bytes(png(values, 1))
    (root / "labels/b.png").write_bytes(png(values, 8, 3, bytes([0, 0, 0, 128, 0, 0] * 128)))

    (clip,) = list_clips(root, {}).clips

    np.testing.assert_array_equal(clip.labels(0), values)
    np.testing.assert_array_equal(clip.labels(1), values)


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_two_files_of_one_stem_are_refused(root, folder):
    picture(root, "a.png")
    label(root, "a.png")
    (root / folder / ("a.jpg" if folder == "images" else "a.PNG")).write_bytes(b"x")

    with pytest.raises(SourceError, match=rf"{folder}' holds both 'a\.\w+' and 'a\.\w+', expected"):
        list_clips(root, {})


def test_a_picture_and_a_folder_of_one_stem_are_two(root):
    picture(root, "a.png")
    picture(root, "a/b.png")

    assert [clip.name for clip in list_clips(root, {}).clips] == [root.name, "a"]


def test_what_belongs_to_nothing_is_told(root):
    picture(root, "a.png")
    picture(root, "clip/b.png")
    picture(root, "clip/deeper/c.png")
    (root / "images/lost.png").symlink_to("nowhere.png")
    label(root, "a.png")
    label(root, "z.png")
    label(root, "y.png")
    label(root, "other/b.png")
    (root / "labels/a.jpg").write_bytes(b"x")

    listing = list_clips(root, {})

    images, labels = root / "images", root / "labels"
    assert sorted(listing.problems) == sorted(
        [
            f"{images}: 1 names (lost.png) of no file, left out",
            f"{labels}: 1 files (a.jpg) are no PNG, so no labels",
            f"{labels}: 2 label PNGs (y.png first) of no picture: {images} has none of the stem",
            f"{images / 'clip'}: 1 folders (deeper) in a clip's folder, ignored",
            f"{labels}: 1 folders (other) with no folder in {images}",
        ]
    )
    assert [(clip.name, len(clip), clip.truths) for clip in listing.clips] == [
        (root.name, 1, {0: "a.png"}),
        ("clip", 1, {}),
    ]


def test_links_to_files_and_folders_are_followed(root, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    write(store / "frames" / "1.png", np.full((4, 6, 3), 9, np.uint8))
    (root / "images").mkdir()
    (root / "images/drive").symlink_to(store / "frames")
    (root / "images/circle").symlink_to("circle")
    (root / "images/1.png").symlink_to(store / "frames" / "1.png")

    clips = list_clips(root, {}).clips

    assert [(clip.name, int(clip.image(0)[0, 0, 0])) for clip in clips] == [
        (root.name, 9),
        ("drive", 9),
    ]


def test_names_that_are_no_utf8(tmp_path):
    root = tmp_path / os.fsdecode(b"d\xe4ta")
    name = os.fsdecode(b"\xfc.png")
    picture(root, name)
    label(root, name, 2)

    (clip,) = list_clips(root, {}).clips

    assert clip.image(0).shape == (4, 6, 3)
    assert clip.labels(0).tolist() == [[2] * 6] * 4
    assert not clip.is_turned(0)


def test_a_folder_that_cannot_be_read_is_refused(root, monkeypatch):
    picture(root, "a.png")

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refused)

    with pytest.raises(SourceError, match="images' cannot be read: Permission denied"):
        list_clips(root, {})
