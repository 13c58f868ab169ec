"""Training pairs by name."""

import json

import numpy as np
import pytest

from dff_edge.data.clips import open_clips
from dff_edge.data.datasets.imagenet import CLASSES as IMAGENET
from dff_edge.data.datasets.imagenet import DET_LIST
from dff_edge.errors import ConfigError, SourceError
from dff_edge.synthetic import CLASSES
from dff_edge.trainer.config import DataConfig
from dff_edge.trainer.data import (
    ClipPairs,
    StillPairs,
    SyntheticPairs,
    check_training_data,
    open_pairs,
)
from dff_edge.trainer.models import ModelConfig
from tests.data.datasets.layouts import imagenet_image, vid_snippet, write
from tests.trainer.data.same import equal

CLASS_COUNT = len(CLASSES)


def opened(uri, class_count=CLASS_COUNT, frame_size=(64, 128), **data):
    return open_pairs(
        DataConfig(train=uri, group=2, **data),
        seed=5,
        frame_size=frame_size,
        class_count=class_count,
        length=4,
        max_distance=3,
    )


def test_synthetic_pairs_by_name():
    pairs = opened("synthetic://street?split=val")
    arguments = {"seed": 5, "frame_size": (64, 128), "length": 4, "group": 2, "max_distance": 3}

    assert len(pairs) == 4
    assert equal(pairs[1], SyntheticPairs(split="val", **arguments)[1])


def test_folder_by_name(folder):
    video = opened(str(folder), class_count=5, frame_size=(32, 64))
    stills = opened(str(folder), class_count=5, frame_size=(32, 64), motion="synthetic")

    assert isinstance(video, ClipPairs)
    assert isinstance(stills, StillPairs)
    assert video[1]["flow_px"].isnan().all()
    assert stills.knows_flow
    assert not video.knows_flow
    assert not equal(video[1], opened(str(folder), 5, (32, 64), augment={"colour": 0})[1])


def test_parts_of_frames_are_cut_of_video_only(folder):
    settings = {"seed": 5, "frame_size": (64, 64), "class_count": 5, "length": 4, "crop": (32, 32)}
    video = open_pairs(DataConfig(train=str(folder)), max_distance=3, **settings)

    assert tuple(video[1]["key"].shape[2:]) == (32, 32)
    for changes in ({"train": str(folder), "motion": "synthetic"}, {}):
        with pytest.raises(ConfigError, match=r"crop is \[32, 32\], expected none with"):
            open_pairs(DataConfig(**changes), max_distance=3, **settings)


def test_a_share_of_video_beside_synthetic_motion(folder):
    settings = {"class_count": 5, "frame_size": (32, 64)}
    made = {"motion": "driving", "augment": {"shrink": 0.9}}
    mixed = opened(str(folder), **settings, **made, video_share=0.5)
    parts = [opened(str(folder), **settings, **made), None]
    parts[1] = ClipPairs(
        open_clips(str(folder)),
        seed=5,
        group=2,
        length=4,
        max_distance=1,
        augment=DataConfig(**made).augment,
        **settings,
    )

    kinds = [[equal(mixed[n], part[n]) for part in parts] for n in range(12)]

    assert parts[0].drives
    assert len(mixed) == 4
    assert all(sum(kind) == 1 for kind in kinds)
    assert 0 < sum(kind[1] for kind in kinds) < 12
    alone = open_pairs(
        DataConfig(train=str(folder), **made, video_share=0.5),
        seed=5,
        length=4,
        max_distance=3,
        for_flow=True,
        **settings,
    )
    assert isinstance(alone, StillPairs)  # of video nobody knows the flow


def test_a_share_of_video_needs_other_pairs_beside():
    with pytest.raises(ValueError, match=r"video_share is 0\.5 with motion: none"):
        DataConfig(video_share=0.5)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("synthetic://street?split=dev", "split is 'dev', expected one of train"),
        ("synthetic://street?clips=3", "is not training data, expected synthetic://street with no"),
        ("synthetic://road", "is not training data, expected synthetic://street"),
        ("rtsp://x", "is not labelled data"),
    ],
)
def test_names_that_mean_nothing_are_refused(uri, message):
    with pytest.raises(ConfigError, match=message):
        opened(uri)


def test_another_number_of_classes_is_refused():
    with pytest.raises(ConfigError, match=r"has 8 classes \(sky, .*the model 3\. Set model\.task"):
        opened("synthetic://street", class_count=3)


@pytest.mark.parametrize("uri", ["synthetic://street", "flyingchairs://chairs"])
def test_what_moves_takes_no_other_motion(uri):
    with pytest.raises(ConfigError, match=r"data.motion is 'synthetic' .* expected none"):
        opened(uri, motion="synthetic")


@pytest.mark.parametrize("uri", ["flyingchairs://", "flyingchairs://x?split=test"])
def test_names_of_chairs_are_checked(uri):
    with pytest.raises(ConfigError, match=r"expected flyingchairs://ROOT with no option but"):
        opened(uri)


@pytest.mark.parametrize(("split", "shade"), [("train", 10), ("val", 200)])
def test_split_of_a_name_without_one(tmp_path, split, shade):
    for name, grey in (("train", 10), ("val", 200)):
        write(tmp_path / name / "0016E5_07959.png", np.full((32, 64, 3), grey, np.uint8))
        write(tmp_path / f"{name}annot" / "0016E5_07959.png", np.full((32, 64), 3, np.uint8))

    pairs = open_pairs(
        DataConfig(train=f"camvid://{tmp_path}", group=2, augment={"enlarge": 1, "colour": 0}),
        seed=5,
        frame_size=(32, 64),
        class_count=11,
        length=4,
        max_distance=0,
        split=split,
    )

    assert pairs[0]["current"].unique().tolist() == [shade]
    assert np.unique(open_clips(f"camvid://{tmp_path}")[0].image(0)).tolist() == [200]


# ---- what is looked at before a run


def model(classes, task="segmentation"):
    return ModelConfig.model_validate(
        {
            "feature": {"name": "resnet18", "width": 0.125, "channels": 8},
            "task": {"name": task, "classes": classes, "colours": [[0, 0, 0]] * len(classes)},
            "frame_size": [32, 64],
        }
    )


def test_labels_of_more_classes_than_the_model_s_are_refused(folder):
    data = DataConfig(train=str(folder))

    check_training_data(data, model(["a", "b", "c", "d", "e"]), trains_pairs=False)
    with pytest.raises(SourceError, match=r"png: .* of no class, 4 the largest, expected 0 to 2"):
        check_training_data(data, model(["a", "b", "c"]), trains_pairs=False)


def test_neighbours_are_looked_at_where_pairs_are_made_of_them(folder, caplog):
    """The folder's frames are of random blocks, unlike each other."""
    classes = model(["a", "b", "c", "d", "e"])

    check_training_data(DataConfig(train=str(folder)), classes, trains_pairs=False)
    check_training_data(
        DataConfig(train=str(folder), motion="synthetic"), classes, trains_pairs=True
    )
    assert not caplog.records
    check_training_data(DataConfig(train=str(folder)), classes, trains_pairs=True)

    (record,) = caplog.records
    assert "2 of 2 pairs of neighbouring frames show unrelated pictures" in record.getMessage()


def test_both_of_vid_and_det_are_looked_at(tmp_path, caplog):
    dog = "n02084071"
    vid_snippet(tmp_path, "train", "a", 3)
    imagenet_image(tmp_path, f"DET/train/ILSVRC2013_train/{dog}/x", [(dog, 90, 1, 99, 22)])
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / DET_LIST).write_text(f"train/ILSVRC2013_train/{dog}/x\n")
    data, detector = DataConfig(train=f"vid+det://{tmp_path}"), model(IMAGENET, "detection")

    with pytest.raises(SourceError, match=r"'det://.*1 of 1 boxes lie wholly outside"):
        check_training_data(data, detector, trains_pairs=True)
    assert any("overlap no anchor by 0.5" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("uri", ["synthetic://street", "flyingchairs://nowhere"])
def test_what_is_drawn_and_what_has_flow_alone_is_not_looked_at(uri):
    check_training_data(DataConfig(train=uri), model(["a"]), trains_pairs=True)


# ---- amounts


def labelled_pictures(folder, count, **boxes):
    """Pictures in COCO's format; one of them has a box where that is asked for."""
    for number in range(count):
        write(folder / f"{number}.png", np.zeros((48, 96, 3), np.uint8))
    one = {"id": 0, "image_id": boxes.get("at"), "category_id": 0, "bbox": [2, 3, 40, 30]}
    content = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(count)],
        "categories": [{"id": 0, "name": "cone"}],
        "annotations": [one] * bool(boxes),
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return f"cocovid://{folder / 'boxes.json'}"


def checked(uri, batch_size=4, **data):
    task = {"name": "detection", "classes": ["cone"], "colours": [[0, 0, 0]]}
    check_training_data(
        DataConfig(train=uri, **data),
        ModelConfig.model_validate({"task": task, "frame_size": [64, 128]}),
        trains_pairs=False,
        batch_size=batch_size,
    )


def test_fewer_frames_than_a_batch_are_refused(tmp_path):
    uri = labelled_pictures(tmp_path, 5, at=1)

    checked(uri, batch_size=5)
    with pytest.raises(ConfigError, match="has 5 labelled frames to train on, fewer than the 6 of"):
        checked(uri, batch_size=6)
    with pytest.raises(ConfigError, match="has 4 labelled .* set batch_size to 4 or less"):
        checked(uri, batch_size=5, hold_out=0.2)


def test_frames_without_any_box_are_refused_however_many(tmp_path):
    """A sample of 50 of them would only have been warned of; a single box is enough."""
    with pytest.raises(SourceError, match="no box in any of its 60 frames to train on, .* cone"):
        checked(labelled_pictures(tmp_path, 60))
    checked(labelled_pictures(tmp_path, 60, at=1))


def test_what_is_held_out_is_not_trained_on(tmp_path):
    """The grey of a frame is its number; of ten blocks the third and the eighth are held out."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for number in range(60):
        write(tmp_path / "images" / f"{number}.png", np.full((48, 96, 3), 4 * number, np.uint8))
        write(tmp_path / "labels" / f"{number}.png", np.resize(np.uint8([0, 1]), (48, 96)))
    augment = {"enlarge": 1, "colour": 0}
    settings = {"hold_out": 0.2, "augment": augment}
    data = DataConfig(train=str(tmp_path), group=8, **settings)
    pairs = open_pairs(data, seed=0, frame_size=(48, 96), class_count=2, length=60, max_distance=3)

    batches = [pairs[n] for n in range(60)]

    used = [int(frame.float().mean()) // 4 for b in batches for frame in (*b["key"], *b["current"])]
    assert set(used) == set(range(60)) - set(range(12, 18)) - set(range(42, 48))
