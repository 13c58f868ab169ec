"""Findings in a sample of labelled frames, in numbers and in words."""

import logging

import numpy as np
import pytest
import yaml

from dff_edge.boxes import TrueBoxes
from dff_edge.bundle.anchors import anchor_sizes
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.data.datasets.findings import Anchors, anchors_for, check_clips, find
from dff_edge.data.datasets.folder import list_clips
from dff_edge.data.datasets.sample import take_sample
from dff_edge.errors import SourceError
from dff_edge.synthetic import StreetScene
from tests.data.datasets.layouts import png, turn_by_exif, write

CLASSES = ("road", "car", "sky")


class Clip:
    """Frames with truths; a frame is street scene ``seeds[i]``, at 48 x 64."""

    name = "drive"

    def __init__(self, truths, seeds=None):
        self.truths, self.opened = truths, []
        self.seeds = seeds or [1] * len(truths)

    def __len__(self):
        return len(self.truths)

    def image(self, index):
        return StreetScene(self.seeds[index], "val", (48, 64), 4).render(0)[0]

    def is_labelled(self, index):
        return self.truths[index] is not None

    def where(self, index):
        return f"labels/{index}.png"

    def labels(self, index):
        self.opened.append(index)
        truth = self.truths[index]
        return truth if isinstance(truth, np.ndarray) else None

    def boxes(self, index):
        truth = self.truths[index]
        return truth if isinstance(truth, TrueBoxes) else None


def labels(*parts):
    """A label map of equal columns."""
    return np.repeat(np.array([parts], np.uint8), 48, axis=0).repeat(64 // len(parts), axis=1)


def boxes(*corners, ignored=(), label=1):
    return TrueBoxes(
        np.array(corners, np.float32).reshape(-1, 4),
        np.full(len(corners), label, np.int32),
        np.array([n in ignored for n in range(len(corners))], np.bool_),
    )


def findings(truths, task="segmentation", classes=CLASSES, seeds=None, **options):
    count = None if classes is None else len(classes)
    sample = take_sample([Clip(truths, seeds)], task, count)
    return {
        found.name: (found.severity, found.text) for found in find(sample, task, classes, **options)
    }


# ---- label maps


def test_sound_data_gives_nothing():
    assert findings([labels(0, 1, 2, 2)] * 3) == {}


def test_a_mask_of_0_and_255_has_no_second_class():
    severity, text = findings([labels(0, 0, 0, 255)] * 3)["one_class"]

    assert severity == "error"
    assert "nothing but 0 and 255, and 255 means that a pixel is not scored (25.0% of them)" in text


@pytest.mark.parametrize("classes", [("road",), ("road", "car"), CLASSES, None])
def test_nor_has_one_of_255_alone(classes):
    severity, text = findings([labels(255)] * 3, classes=classes)["one_class"]

    assert severity == "error"
    assert "hold nothing but 255" in text


def test_one_class_alone_may_be_what_the_frames_show():
    assert list(findings([labels(0)] * 3)) == ["class_missing"]


def test_a_class_that_the_sample_missed_is_looked_for_in_all_labels():
    truths = [labels(0, 255)] * 200
    clip = Clip([*truths, labels(0, 1)])

    sample = take_sample([clip], "segmentation", 3, most=10)

    assert 200 not in clip.opened[:10]
    assert clip.opened[-1] == 200
    assert "one_class" not in {found.name for found in find(sample, "segmentation", CLASSES)}


def test_much_that_is_not_scored_is_a_warning_and_little_a_note():
    truths = [labels(0, 1, 2, 255)] * 3
    some, most = findings(truths), findings([labels(0, 1, 255, 255), labels(2, 0, 255, 255)])

    assert some == {
        "not_scored": ("note", "25.0% of the labelled pixels are 255, which is not scored")
    }
    severity, text = most["not_scored"]
    assert severity == "warning"
    assert text.startswith("50.0% of the labelled pixels are 255")


def test_classes_that_never_occur_are_named():
    severity, text = findings([labels(0, 2)] * 2)["class_missing"]

    assert severity == "warning"
    assert text.endswith("any of 1 of the 3 classes: car")
    assert findings([labels(0, 2, 2, 255)])["class_missing"][1].endswith(
        "car. Was it written as 255, which is not scored?"
    )


def test_labels_of_no_class_are_damage_of_each_frame():
    clip = Clip([labels(0, 3), labels(0, 1), labels(0, 4)])

    sample = take_sample([clip], "segmentation", 3)

    assert sample.opened == 1
    assert [text.split(":")[0] for text in sample.damaged] == ["labels/0.png", "labels/2.png"]


def test_where_classes_are_unknown_their_numbers_are_told():
    severity, text = findings([labels(0, 1, 2, 7)], classes=None)["classes_unknown"]

    assert severity == "note"
    assert text.startswith("labels are 0, 1, 2, 7; name the classes")


def test_frames_of_two_sizes_are_damage():
    class Growing(Clip):
        def image(self, index):
            return np.zeros((48 + index, 64, 3), np.uint8)

    sample = take_sample([Growing([None, labels(0)])], "segmentation", 1)

    assert sample.damaged == [
        "clip 'drive': frame 0 has 64 x 48 pixels and frame 1 64 x 49, expected one size."
    ]


# ---- boxes


def test_boxes_are_counted_by_what_becomes_of_them():
    truth = boxes((1, 1, 9, 9), (-5, 1, 9, 9), (99, 1, 120, 9), (3, 3, 3, 3), ignored=(0,))

    found = findings([truth], task="detection", classes=("a", "b"))

    assert found["boxes_clipped"] == (
        "note",
        "1 of 4 boxes reach past the border, and are clipped there",
    )
    assert found["boxes_flat"] == ("warning", "1 of 4 boxes have no area, and are left out")
    assert found["boxes_ignored"][1].startswith("1 of 4 boxes are ignored (crowds)")
    assert found["boxes_outside"][0] == "warning"
    assert found["boxes_outside"][1].startswith("1 of 4 boxes lie wholly outside")


def test_boxes_that_mostly_lie_outside_are_of_other_pictures():
    truth = boxes((1, 1, 9, 9), (99, 1, 120, 9), (70, 60, 80, 90))

    assert findings([truth], task="detection")["boxes_outside"][0] == "error"


def test_no_box_in_any_frame_is_an_error():
    assert findings([boxes()] * 2, task="detection")["no_boxes"][0] == "error"


def test_anchors_are_held_against_boxes_at_the_network_s_size():
    """Boxes of 4 x 6 px at 48 x 64 are 16 x 12 at 96 x 256."""
    truth = boxes(*[(0, 0, 4, 6)] * 3, (0, 0, 32, 24), (9, 9, 60, 40), ignored=(4,))
    near, far = np.float32([[15, 13], [128, 48]]), np.float32([[64, 64]])

    def found(sizes):
        anchors = Anchors(sizes, (96, 256))
        return findings([truth], "detection", ("a", "b"), anchors=anchors)["anchors"]

    assert found(near) == (
        "note",
        "boxes at 96 x 256 have sides of 14 to 69 px, 14 in the median (roots of their areas), "
        "anchors of 14 to 78; 0% of the boxes overlap no anchor by 0.5, wherever it is put",
    )
    severity, text = found(far)  # of the large one: 64 * 48 / (64 * 64 + 128 * 48 - 64 * 48) = 0.43
    assert severity == "warning"
    assert "100% of the boxes overlap no anchor by 0.5" in text
    setting = text.partition('--set "model.task.rfcn=')[2].rstrip('"')
    fitting = RfcnSettings(**yaml.safe_load(setting))
    assert found(np.float32(anchor_sizes(fitting)))[0] == "note"


def test_anchors_are_proposed_as_a_line_for_a_configuration():
    """Squares of a quarter of a frame of 96 x 96 are 24 px, one and a half cells of 16."""
    shares = np.float32([[0.25, 0.25]] * 4)
    now = Anchors(np.float32([[48, 48]]), (96, 96))

    (found,) = anchors_for(shares, (96, 96), now)

    assert (found.name, found.severity) == ("anchors_proposed", "note")
    assert found.text == (
        "at 96 x 96 px, 1 anchors overlap the boxes by 1.00 in the mean: "
        "rfcn: {anchor_scales: [1.5], anchor_ratios: [1]} (now 1 anchors, 0.25)"
    )
    assert anchors_for(shares[:0], (96, 96), None) == []


# ---- pictures


def test_unrelated_neighbours_are_told_where_pairs_are_made():
    truths, seeds = [labels(0, 1, 2, 2)] * 4, [1, 2, 3, 4]

    severity, text = findings(truths, seeds=seeds)["unrelated_frames"]

    assert severity == "warning"
    assert text.startswith("3 of 3 pairs of neighbouring frames show unrelated pictures (frames 0")
    assert findings(truths, seeds=seeds, pairs=False) == {}
    cut = findings([labels(0, 1, 2, 2)] * 6, seeds=[1, 1, 1, 2, 2, 2])["unrelated_frames"][1]
    assert cut.startswith("1 of 5 pairs of neighbouring frames show other things")


@pytest.mark.parametrize("orientation", [3, 6])
def test_pictures_that_exif_turns_are_told(tmp_path, orientation):
    picture = StreetScene(1, "val", (48, 64), 1).render(0)[0]
    for name in ("a.jpg", "b.jpg"):
        write(tmp_path / "images" / name, picture)
    (tmp_path / "labels").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "labels" / name).write_bytes(png(labels(0, 1, 2, 2), 8))
    turn_by_exif(tmp_path / "images/b.jpg", orientation)

    sample = take_sample(list_clips(tmp_path, {}).clips, "segmentation", 3)

    assert sample.turned == [str(tmp_path / "images/b.jpg")]
    (found,) = find(sample, "segmentation", CLASSES)
    assert (found.name, found.severity) == ("exif_rotation", "warning")
    assert found.text.startswith("1 of 2 pictures are shown turned or mirrored by their EXIF")


# ---- as training and evaluation have it


def test_errors_are_raised_and_warnings_logged(caplog):
    with pytest.raises(SourceError, match="'my data': the label maps hold nothing but 0 and 255"):
        check_clips([Clip([labels(0, 255)])], "my data", "segmentation", CLASSES)
    with pytest.raises(SourceError, match="'my data': labels/0.png: .* of no class, 3 the largest"):
        check_clips([Clip([labels(0, 3)])], "my data", "segmentation", CLASSES)
    with caplog.at_level(logging.WARNING):
        check_clips([Clip([labels(0, 1, 2, 255)])], "my data", "segmentation", (*CLASSES, "tree"))

    (record,) = caplog.records
    assert record.getMessage().startswith("'my data': in none of the 1 frames")


def test_a_sample_is_spread_and_can_be_all():
    clip = Clip([labels(0, 1)] * 10)

    assert take_sample([clip], "segmentation", 2, most=2).opened == 2
    assert clip.opened == [2, 7]
    assert take_sample([clip], "segmentation", 2, most=None).opened == 10
    assert take_sample([clip], "segmentation", 2, most=0).opened == 0
