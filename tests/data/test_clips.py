"""Labelled clips by name: synthetic scenes and folders with sparse labels."""

import cv2
import numpy as np
import pytest

from dff_edge.data.clips import class_names, open_clips
from dff_edge.errors import ConfigError, FrameError, SourceError
from dff_edge.synthetic import BOX_CLASSES, CLASSES, Box, StreetScene, true_boxes
from dff_edge.uri import IMAGE_SUFFIXES
from tests.data.datasets.layouts import turn_by_exif


@pytest.fixture
def folder(tmp_path):
    """Three frames, the last labelled, named so that plain order would be wrong."""
    return write_clip(tmp_path / "data", ["f2.png", "f10.png", "f1.png"], labelled=["f10"])


def write_clip(root, names, labelled, clip=""):
    """Frame i in natural order is grey i; labels hold 0, 1 and the void 255."""
    images, labels = root / "images" / clip, root / "labels" / clip
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for value, name in enumerate(sorted(names, key=lambda name: int(name[1:].split(".")[0]))):
        cv2.imwrite(str(images / name), np.full((5, 7, 3), value, np.uint8))
    for stem in labelled:
        truth = np.zeros((5, 7), np.uint8)
        truth[:, 3:], truth[0] = 1, 255
        cv2.imwrite(str(labels / f"{stem}.png"), truth)
    return root


# ---- synthetic


def test_synthetic_options():
    clips = open_clips("synthetic://street?split=test&clips=2&frames=3&seed=5&height=48&width=64")

    assert [clip.name for clip in clips] == ["test-5", "test-6"]
    assert [len(clip) for clip in clips] == [3, 3]
    scene = StreetScene(6, "test", (48, 64), 3)
    assert np.array_equal(clips[1].image(2), scene.render(2)[0])
    assert np.array_equal(clips[1].labels(2), scene.render(2)[1])
    assert clips[1].is_labelled(2)
    for ours, theirs in zip(clips[1].flow(2, 0), scene.flow(2, 0), strict=True):
        assert np.array_equal(ours, theirs)


def test_synthetic_defaults():
    (clip,) = open_clips("synthetic://street")

    assert (clip.name, len(clip), clip.image(0).shape) == ("val-0", 20, (256, 512, 3))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("synthetic://road", "'road', expected synthetic://street"),
        ("synthetic://street/x", "'street/x', expected synthetic://street"),
        ("synthetic://street?speed=3", "unknown option 'speed', expected split, seed, clips"),
        ("synthetic://street?motion=fast", "motion is 'fast', expected steady or mixed"),
        ("synthetic://street?split=dev", "split is 'dev', expected one of train, val, test"),
        ("synthetic://street?seed=x", "seed is 'x', expected a whole number from 0 up"),
        ("synthetic://street?seed=-1", "seed is '-1', expected a whole number from 0 up"),
        ("synthetic://street?clips=0", "clips is '0', expected a whole number from 1 up"),
        ("synthetic://street?frames=1&frames=2", "gives frames twice"),
        ("synthetic://street?height=8", r"height=8': size is \(8, 512\), expected height and"),
        ("rtsp://camera", "'rtsp://camera' is not labelled data, expected synthetic://street, a"),
    ],
)
def test_names_that_mean_nothing_are_refused(uri, message):
    with pytest.raises(ConfigError, match=message):
        open_clips(uri)


def test_classes_are_known_of_synthetic_data_only():
    assert class_names("synthetic://street?split=test") == CLASSES
    assert class_names("some/folder") is None


def test_step_takes_every_nth_frame_of_the_scene():
    uri = "synthetic://street?split=test&clips=1&frames={}&step={}&height=32&width=64"
    (every,), (third,) = open_clips(uri.format(7, 1)), open_clips(uri.format(3, 3))

    assert len(third) == 3
    for index in range(3):
        np.testing.assert_array_equal(third.image(index), every.image(3 * index))
        np.testing.assert_array_equal(third.labels(index), every.labels(3 * index))
    np.testing.assert_array_equal(third.flow(2, 1)[0], every.flow(6, 3)[0])


# ---- folders


def test_folder_in_natural_order_with_sparse_labels(folder):
    (clip,) = open_clips(str(folder))

    assert (clip.name, len(clip)) == ("data", 3)
    assert [int(clip.image(index)[0, 0, 0]) for index in range(3)] == [0, 1, 2]
    assert clip.image(0).shape == (5, 7, 3)
    assert [clip.is_labelled(index) for index in range(3)] == [False, False, True]
    assert clip.labels(0) is None
    assert clip.labels(2).dtype == np.uint8
    assert clip.labels(2)[0].tolist() == [255] * 7
    assert clip.labels(2)[1].tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert clip.flow(1, 0) is None


def test_exif_rotation_of_a_folder_is_passed_over(tmp_path):
    """As its labels are of the picture as it is stored."""
    write_clip(tmp_path, ["f0.jpg"], labelled=["f0"])
    turn_by_exif(tmp_path / "images" / "f0.jpg")

    (clip,) = open_clips(str(tmp_path))

    assert clip.image(0).shape[:2] == clip.labels(0).shape == (5, 7)


def test_folders_inside_are_clips_of_their_own_in_natural_order(tmp_path):
    for name in ("s10", "s2"):
        write_clip(tmp_path, ["a1.png", "a2.png"], labelled=["a1"], clip=name)
    (tmp_path / "images" / "empty").mkdir()
    (tmp_path / "images" / ".hidden").mkdir()
    cv2.imwrite(str(tmp_path / "images" / ".hidden" / "x.png"), np.zeros((5, 7), np.uint8))

    clips = open_clips(str(tmp_path))

    assert [(clip.name, len(clip), clip.is_labelled(0)) for clip in clips] == [
        ("s2", 2, True),
        ("s10", 2, True),
    ]


def test_labels_of_one_clip_are_not_those_of_another(tmp_path):
    write_clip(tmp_path, ["a1.png"], labelled=["a1"], clip="s1")
    write_clip(tmp_path, ["a1.png"], labelled=[], clip="s2")

    assert [clip.is_labelled(0) for clip in open_clips(str(tmp_path))] == [True, False]


def test_other_and_hidden_files_are_passed_over(folder):
    (folder / "images" / "notes.txt").write_text("x")
    (folder / "images" / "._f3.png").write_bytes(b"x")

    assert len(open_clips(str(folder))[0]) == 3


@pytest.mark.parametrize("suffix", [".jpg", ".PNG", ".bmp"])
def test_images_of_every_kind_that_sources_read(tmp_path, suffix):
    assert suffix.lower() in IMAGE_SUFFIXES
    write_clip(tmp_path, ["a1.png"], labelled=["a1"])
    _, data = cv2.imencode(suffix.lower(), np.full((5, 7, 3), 90, np.uint8))
    (tmp_path / "images" / f"a2{suffix}").write_bytes(data.tobytes())

    (clip,) = open_clips(str(tmp_path))

    assert len(clip) == 2
    assert clip.image(1)[2, 2].tolist() == [90, 90, 90]


def test_damaged_frame_is_an_error_that_names_the_file(folder):
    (folder / "images" / "f2.png").write_bytes((folder / "images" / "f1.png").read_bytes()[:40])

    with pytest.raises(FrameError, match=r"f2\.png': it is cut off"):
        open_clips(str(folder))[0].image(1)


@pytest.mark.parametrize("missing", ["images", "labels"])
def test_folder_of_another_layout_is_refused(folder, missing):
    (folder / missing).rename(folder / "other")

    with pytest.raises(SourceError, match=f"data' has no folder '{missing}'. Labelled data is"):
        open_clips(str(folder))


def test_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(SourceError, match="nowhere' has no folder 'images'"):
        open_clips(str(tmp_path / "nowhere"))


def test_folder_without_images_is_refused(tmp_path):
    write_clip(tmp_path, [], labelled=[])

    with pytest.raises(
        SourceError, match=r"images' holds no images \(\.bmp, .*, nor do its folders"
    ):
        open_clips(str(tmp_path))


def test_boxes_of_a_synthetic_clip_are_those_of_the_scene():
    uri = "synthetic://street?split=test&frames=9&step=2&seed=5&height=64&width=128"
    (clip,) = open_clips(uri)
    scene = StreetScene(5, "test", (64, 128), 18)

    boxes = [clip.boxes(index) for index in range(len(clip))]

    assert sum(len(truth) for truth in boxes) > 5
    for index, truth in enumerate(boxes):
        seen = scene.boxes(2 * index)
        assert truth.boxes.tolist() == [list(box.xyxy) for box in seen]
        named = [CLASSES.index(BOX_CLASSES[label]) for label in truth.labels]
        assert named == [box.label for box in seen]


def test_objects_that_are_hardly_seen_are_ignored():
    class Scene:
        def boxes(self, index):
            vehicle = CLASSES.index("vehicle")
            return [
                Box(vehicle, 1, (0, 0, 4, 4), 16),
                Box(vehicle, 2, (0, 0, 3, 40), 120),  # too thin
                Box(vehicle, 3, (0, 0, 40, 3), 120),
                Box(vehicle, 4, (0, 0, 40, 40), 15),  # too little of it
            ]

    assert true_boxes(Scene(), 0).ignored.tolist() == [False, True, True, True]


def test_folders_of_label_maps_have_no_boxes(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "0.png"), np.zeros((4, 4, 3), np.uint8))
    assert open_clips(str(tmp_path))[0].boxes(0) is None


def test_classes_go_by_the_task():
    assert class_names("synthetic://street", "detection") == BOX_CLASSES
    assert class_names("some/folder", "detection") is None
