"""ImageNet VID and DET in their own layout."""

import pytest

from dff_edge.data.clips import class_names, open_clips
from dff_edge.data.datasets import DATA_SETS
from dff_edge.data.datasets.imagenet import CLASSES, read_boxes
from dff_edge.data.datasets.truth import true_boxes
from dff_edge.errors import ConfigError, SourceError
from dff_edge.runtime.sources.images import read_image
from tests.data.datasets.layouts import SIZE, imagenet_image, turn_by_exif, vid_snippet

# As WordNet 3.0 has them, in its order.
NAMES = {
    "n01503061": "bird",
    "n01662784": "turtle",
    "n01674464": "lizard",
    "n01726692": "snake",
    "n02062744": "whale",
    "n02084071": "dog",
    "n02118333": "fox",
    "n02121808": "domestic cat",
    "n02129165": "lion",
    "n02129604": "tiger",
    "n02131653": "bear",
    "n02324045": "rabbit",
    "n02342885": "hamster",
    "n02355227": "squirrel",
    "n02374451": "horse",
    "n02391049": "zebra",
    "n02402425": "cattle",
    "n02411705": "sheep",
    "n02419796": "antelope",
    "n02484322": "monkey",
    "n02503517": "elephant",
    "n02509815": "red panda",
    "n02510455": "giant panda",
    "n02691156": "airplane",
    "n02834778": "bicycle",
    "n02924116": "bus",
    "n02958343": "car",
    "n03790512": "motorcycle",
    "n04468005": "train",
    "n04530566": "watercraft",
}
DOG, CAR, PERSON = "n02084071", "n02958343", "n00007846"  # the last is in DET alone


def test_snippets(tmp_path):
    vid_snippet(tmp_path, "train", "ILSVRC2015_train_00139005", 4)
    vid_snippet(tmp_path, "train", "ILSVRC2015_train_00139006", 2)

    clips = open_clips(f"vid://{tmp_path}?split=train")

    assert [len(clip) for clip in clips] == [4, 2]
    assert abs(int(clips[0].image(3)[0, 0, 0]) - 30) <= 1
    boxes = clips[0].boxes(3)
    assert boxes.boxes.tolist() == [[3, 2, 13, 12]]  # of 3..12 and 2..11, both counted
    assert [CLASSES[label] for label in boxes.labels] == ["dog"]
    assert not boxes.ignored.any()
    assert clips[0].labels(3) is None
    assert class_names(f"vid://{tmp_path}") == CLASSES


def test_val_has_no_parts(tmp_path):
    vid_snippet(tmp_path, "val", "ILSVRC2015_val_00000000", 2)

    (clip,) = open_clips(f"vid://{tmp_path}")

    assert clip.name == "ILSVRC2015_val_00000000"


def test_the_thirty_classes():
    """In the order of the data set, which is the alphabet's but for two."""
    assert len(CLASSES) == 30
    assert CLASSES.index("airplane") == 0
    assert CLASSES.index("dog") == 8
    assert CLASSES.index("domestic cat") == 9
    assert CLASSES.index("zebra") == 29
    assert sorted(CLASSES) == sorted(NAMES.values())


def test_every_class_has_its_wordnet_id(tmp_path):
    objects = [(wordnet_id, 1, 1, 4, 4) for wordnet_id in NAMES]
    imagenet_image(tmp_path, "DET/val/a", objects)

    boxes = read_boxes(tmp_path / "Annotations/DET/val/a.xml")

    assert [CLASSES[label] for label in boxes.labels] == list(NAMES.values())


def test_exif_rotation_is_passed_over(tmp_path):
    """Boxes are of the pixels as they are stored."""
    imagenet_image(tmp_path, "DET/val/a", [(DOG, 30, 2, 43, 9)])
    path = tmp_path / "Data/DET/val/a.JPEG"
    turn_by_exif(path)
    assert read_image(path).shape[:2] == SIZE[::-1]  # what a source of pictures gives

    (clip,) = open_clips(f"det://{tmp_path}")

    assert clip.image(0).shape[:2] == SIZE


def test_evenly_spread_frames(tmp_path):
    """Of 300 frames the official list has 10, 30, 50 and so on; of 30, that is every other."""
    vid_snippet(tmp_path, "val", "a", 30)

    (clip,) = open_clips(f"vid://{tmp_path}?frames=15")

    assert [i for i in range(30) if clip.is_labelled(i)] == list(range(1, 30, 2))
    with pytest.raises(ConfigError, match="frames is '0', expected a whole number"):
        open_clips(f"vid://{tmp_path}?frames=0")


def test_a_snippet_with_a_gap_is_left_out_and_said(tmp_path, caplog):
    vid_snippet(tmp_path, "val", "a", 4)
    vid_snippet(tmp_path, "val", "b", 4)
    (tmp_path / "Data/VID/val/a/000002.JPEG").unlink()

    (clip,) = open_clips(f"vid://{tmp_path}")

    assert clip.name == "b"
    assert "a/000002.JPEG is missing; the snippet is left out" in caplog.text


def test_frames_without_annotation_are_not_labelled(tmp_path):
    vid_snippet(tmp_path, "val", "a", 3)
    (tmp_path / "Annotations/VID/val/a/000001.xml").unlink()

    listing = DATA_SETS["vid"].list(tmp_path, {"split": "val"})

    assert [listing.clips[0].is_labelled(i) for i in range(3)] == [True, False, True]
    assert listing.clips[0].boxes(1) is None
    assert len(listing.problems) == 1


def test_det_trains_on_the_official_list(tmp_path):
    """Folders do not tell: cars lie in those of sedans, dogs in those of breeds or of 2014."""
    sedan, person = (f"train/ILSVRC2013_train/{folder}/1" for folder in ("n04166281", PERSON))
    imagenet_image(tmp_path, f"DET/{sedan}", [(PERSON, 0, 0, 5, 5), (CAR, 1, 2, 31, 23)])
    imagenet_image(tmp_path, f"DET/{person}", [(PERSON, 0, 0, 5, 5)])
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets/DET_train_30classes.txt").write_text(f"{sedan} 1\n")

    (clip,) = open_clips(f"det://{tmp_path}?split=train")

    assert len(clip) == 1
    assert clip.boxes(0).boxes.tolist() == [[1, 2, 32, 24]]
    assert [CLASSES[label] for label in clip.boxes(0).labels] == ["car"]


def test_det_without_the_list_says_where_it_is_from(tmp_path):
    imagenet_image(tmp_path, f"DET/train/ILSVRC2013_train/{DOG}/1", [(DOG, 0, 0, 5, 5)])

    with pytest.raises(SourceError, match=r"ImageSets.*cannot be read.*msracver/Deep-Feature-Flow"):
        open_clips(f"det://{tmp_path}?split=train")


def test_det_val_is_all_of_it(tmp_path):
    imagenet_image(tmp_path, "DET/val/a", [(DOG, 0, 0, 5, 5)])
    imagenet_image(tmp_path, "DET/val/b", [(PERSON, 0, 0, 5, 5)])

    clips = open_clips(f"det://{tmp_path}")

    assert [len(clip.boxes(0)) for clip in clips] == [1, 0]


def test_det_by_a_list(tmp_path):
    imagenet_image(tmp_path, "DET/train/ILSVRC2014_train_0000/x", [(DOG, 0, 0, 5, 5)])
    imagenet_image(tmp_path, "DET/train/ILSVRC2014_train_0000/y", [(DOG, 0, 0, 5, 5)])
    (tmp_path / "mine.txt").write_text(
        "train/ILSVRC2014_train_0000/y 1\ntrain/ILSVRC2014_train_0000/z 1\n"
    )
    options = {"split": "train", "list": str(tmp_path / "mine.txt")}

    listing = DATA_SETS["det"].list(tmp_path, options)

    assert [clip.name for clip in listing.clips] == ["y"]
    assert listing.problems == [
        f"{tmp_path / 'Data/DET/train/ILSVRC2014_train_0000/z.JPEG'} is missing"
    ]
    (tmp_path / "mine.txt").write_text("train/../../secret 1\n")
    with pytest.raises(SourceError, match=r"names 'train/\.\./\.\./secret', expected paths below"):
        DATA_SETS["det"].list(tmp_path, options)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("<annotation>", "", "is damaged"),
        ("<xmin>1</xmin>", "", "<object> has no <bndbox/xmin>"),
        ("<xmin>1</xmin>", "<xmin>left</xmin>", "is damaged: could not convert"),
        ("<xmax>8</xmax>", "<xmax>inf</xmax>", "an object's box is .*inf.*, expected pixels"),
        ("<xmax>8</xmax>", "<xmax>nan</xmax>", "an object's box is .*nan.*, expected pixels"),
        ("<width>32</width>", f"<width>{'9' * 5000}</width>", "is damaged"),
        ("<width>32</width>", "", "has no <size/width>"),
        (
            "<annotation>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>",
            "type or entities",
        ),
    ],
)
def test_damaged_annotations_are_refused(tmp_path, before, after, message):
    imagenet_image(tmp_path, "x", [(DOG, 1, 2, 8, 9)])
    path = tmp_path / "Annotations/x.xml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))

    with pytest.raises(SourceError, match=message):
        read_boxes(path)


def test_a_missing_folder_says_where_the_data_is_from(tmp_path):
    with pytest.raises(SourceError, match=r"has no folder Data/VID/val\..*image-net.org"):
        open_clips(f"vid://{tmp_path}")


def test_boxes_are_those_of_the_file_and_clipped_with_the_picture(tmp_path):
    """Maxima are inclusive in the file; some reach past the border, and one has no width."""
    objects = [(DOG, -2, 1, 5, 40), (DOG, 5, 5, 4, 9), (DOG, 40, 1, 50, 9)]
    imagenet_image(tmp_path, "DET/val/x", objects)
    (clip,) = open_clips(f"det://{tmp_path}")

    fitted = true_boxes(clip, 0, SIZE, 30)

    assert clip.boxes(0).boxes.tolist() == [[-2, 1, 6, 41], [5, 5, 5, 10], [40, 1, 51, 10]]
    assert fitted.boxes.boxes.tolist() == [[0, 1, 6, 24]]
    assert (fitted.clipped, fitted.outside, fitted.flat) == (1, 1, 1)


def test_a_size_that_is_not_the_picture_s_is_refused(tmp_path):
    imagenet_image(tmp_path, "DET/val/x", [(DOG, 1, 1, 5, 9)])
    path = tmp_path / "Annotations/DET/val/x.xml"
    path.write_text(path.read_text().replace("<width>32<", "<width>64<"))
    (clip,) = open_clips(f"det://{tmp_path}")

    with pytest.raises(SourceError, match=r"x\.xml: the labels are of 64 x 24 pixels, and frame 0"):
        true_boxes(clip, 0, SIZE, 30)
    path.write_text(path.read_text().replace("<width>64<", "<width>0<"))  # as some tools write it
    assert len(true_boxes(clip, 0, SIZE, 30).boxes) == 1
