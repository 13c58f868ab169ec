"""`dff-edge data check`: the same names as every command, and what is told of them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from dff_edge.cli import main
from dff_edge.synthetic import StreetScene
from tests.data.datasets.layouts import (
    SIZE,
    cityscapes,
    coco_video,
    flying_chairs,
    imagenet_image,
    png,
    turn_by_exif,
    vid_snippet,
    write,
)


def check(*arguments, exit_code=0):
    outcome = CliRunner().invoke(main, ["data", "check", *map(str, arguments)])
    assert outcome.exit_code == exit_code, outcome.output
    return outcome.output


def splits(*arguments, exit_code=0):
    content = json.loads(check(*arguments, "--json", "-", exit_code=exit_code))
    assert content["is_usable"] == (exit_code == 0)
    (source,) = content["sources"]
    return {split["name"]: split for split in source["splits"]}


def names(split):
    return {found["name"]: found["severity"] for found in split["findings"]}


def folder(root, values, frames=3):
    """A labelled folder of a drawn street; the labels are columns of ``values``."""
    labels = np.repeat(np.array([values], np.uint8), 48, axis=0).repeat(96 // len(values), axis=1)
    (root / "labels").mkdir(parents=True)
    for n in range(frames):
        write(root / "images" / f"{n}.png", StreetScene(1, "val", (48, 96), 8).render(n)[0])
        (root / "labels" / f"{n}.png").write_bytes(png(labels, 8))
    return root


def config(path, data, classes, task="segmentation", **changes):
    """A training configuration that takes ``data`` for ``classes``."""
    values = {
        "name": "x",
        "model": {
            "feature": {"name": "resnet18", "width": 0.125, "channels": 16},
            "task": {"name": task, "classes": classes, "colours": [[0, 0, 0]] * len(classes)},
            "frame_size": [32, 64],
        },
        "data": {"train": data, **changes},
        "stages": [{"kind": "recognition", "steps": 1, "lr": 0.1}],
    }
    path.write_text(yaml.safe_dump(values))
    return path


def test_what_is_found_is_counted(tmp_path):
    cityscapes(tmp_path, "train")
    cityscapes(tmp_path, "val", ids=np.full(SIZE, 26, np.uint8))

    found = splits(f"cityscapes://{tmp_path}")

    train, val, test = (found[name] for name in ("train", "val", "test"))
    assert (train["clips"], train["frames"], train["labelled"], train["alone"]) == (1, 30, 1, 0)
    assert {name for name, count in val["classes"].items() if count} == {"car"}
    assert "has no folder gtFine/test" in test["error"]
    assert list(splits(f"cityscapes://{tmp_path}?split=val&ids=30")) == ["val"]
    assert len(splits(f"cityscapes://{tmp_path}?ids=30")["val"]["classes"]) == 30


def test_damaged_files_are_named_and_make_it_unusable(tmp_path):
    vid_snippet(tmp_path, "val", "a", 3)
    (tmp_path / "Data/VID/val/a/000001.JPEG").write_bytes(b"\xff\xd8\xff")

    val = splits(f"vid://{tmp_path}", "--open", "all", exit_code=1)["val"]

    texts = [found["text"] for found in val["findings"] if found["name"] == "damaged"]
    assert len(texts) == 2  # as itself, and as the frame before the next
    assert all("000001.JPEG" in text for text in texts)
    assert val["boxes"] == 1
    assert splits(f"vid://{tmp_path}", "--open", "none")["val"]["opened"] == 0


def test_labels_of_another_size_than_the_picture(tmp_path):
    cityscapes(tmp_path, ids=np.full((SIZE[0], SIZE[1] + 2), 7, np.uint8))

    text = check(f"cityscapes://{tmp_path}", exit_code=1)

    assert "gtFine_labelIds.png: the labels are of 34 x 24 pixels, and frame 19" in text


def test_options_and_missing_files(tmp_path):
    path, _ = coco_video(tmp_path)
    whole = splits(f"cocovid://{path}?images=frames")["all"]
    assert (whole["clips"], whole["labelled"], whole["alone"]) == (2, 4, 2)
    (tmp_path / "frames/b/0.jpg").unlink()

    text = check(f"cocovid://{path}?images=frames")

    assert "1 clip, 3 frames, 3 labelled, 1 of them with no frame before" in text
    assert "b/0.jpg is missing" in text
    assert "unknown option 'ids'" in check(f"vid://{tmp_path}?ids=19", exit_code=2)


def test_a_picture_that_exif_shows_turned_is_told(tmp_path):
    path, content = coco_video(tmp_path)
    for image in content["images"]:
        image.update(width=SIZE[0], height=SIZE[1])
        turn_by_exif(tmp_path / "frames" / image["file_name"])
    path.write_text(json.dumps(content))

    text = check(f"cocovid://{path}?images=frames", exit_code=1)

    assert "of 24 x 32 pixels" in text
    assert "EXIF rotation" in text


@pytest.mark.parametrize("damage", [False, True])
def test_flying_chairs(tmp_path, damage):
    flying_chairs(tmp_path / "chairs", [1, 2, 1])
    if damage:
        (tmp_path / "chairs/data/00003_flow.flo").write_bytes(b"PIEH")

    found = splits(f"flyingchairs://{tmp_path / 'chairs'}", exit_code=int(damage))

    assert [split["labelled"] for split in found.values()] == [2, 1]
    assert names(found["train"]) == ({"damaged": "error"} if damage else {})
    assert list(splits(f"flyingchairs://{tmp_path / 'chairs'}?split=val")) == ["val"]


def test_vid_and_det_are_two(tmp_path):
    dog = "n02084071"
    vid_snippet(tmp_path, "train", "a", 3)
    imagenet_image(tmp_path, f"DET/train/ILSVRC2013_train/{dog}/x", [(dog, 1, 1, 30, 22)])
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"\xef\xbb\xbf" + f"train\\ILSVRC2013_train\\{dog}\\x 1\r\n".encode() * 2)

    found = splits(f"vid+det://{tmp_path}?list={listed}")

    assert [(name, split["labelled"]) for name, split in found.items()] == [("vid", 3), ("det", 1)]
    assert found["det"]["problems"] == [
        f"{listed} names 1 images (train/ILSVRC2013_train/{dog}/x) more than once; taken once"
    ]


def test_drawn_streets(tmp_path):
    (found,) = splits("synthetic://street?frames=3&height=48&width=96").values()

    assert (found["labelled"], found["not_scored"]) == (3, 0)


@pytest.mark.parametrize(
    ("name", "exit_code", "message"),
    [
        ("nowhere", 1, "has no folder 'images'"),
        ("imagenet://x", 2, "'imagenet://x' is not labelled data, expected synthetic://street, a"),
        ("cityscapes://", 2, "names no folder, expected cityscapes://ROOT"),
        ("flyingchairs://x?split=test", 2, "no option but '.split=', train or val"),
    ],
)
def test_names_that_mean_nothing(name, exit_code, message):
    assert message.replace(".split", "?split") in check(name, exit_code=exit_code)


def test_a_folder_without_labels_is_told(tmp_path):
    write(tmp_path / "images" / "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "labels").mkdir()

    assert "error: no frame has labels or boxes" in check(tmp_path, exit_code=1)


def test_names_that_a_terminal_would_obey_are_written_out(tmp_path):
    path, content = coco_video(tmp_path)
    content["categories"][0]["name"] = "dog\x1b[2K"
    path.write_text(json.dumps(content))

    text = check(f"cocovid://{path}?images=frames")

    assert "\x1b" not in text
    assert "dog\\x1b[2K 1" in text


# ---- classes


def test_a_mask_of_0_and_255_cannot_be_used(tmp_path):
    root = folder(tmp_path / "binary", [0, 0, 0, 255])

    text = check(root, exit_code=1)

    assert "75.0% of the pixels scored" in text
    assert "error: the label maps hold nothing but 0 and 255" in text


def test_labels_above_the_classes_are_refused(tmp_path):
    root = folder(tmp_path / "four", [0, 1, 2, 3])

    assert names(splits(root)["all"]) == {"classes_unknown": "note"}
    assert names(splits(root, "--classes", "a,b,c,d")["all"]) == {}
    assert names(splits(root, "--classes", "4")["all"]) == {}
    assert "expected 0 to 2, or 255" in check(root, "--classes", "3", exit_code=1)
    text = check(root, "--classes", "a, b, c", exit_code=1)
    assert "25.0% of the pixels have labels of no class, 3 the largest, expected 0 to 2" in text


def test_a_configuration_names_data_and_classes(tmp_path):
    train, val = folder(tmp_path / "train", [0, 1, 2, 3]), folder(tmp_path / "val", [0, 1, 2, 2])
    path = config(tmp_path / "x.yaml", str(train), ["a", "b", "c"], validate_on=str(val))

    content = json.loads(check("--config", path, "--json", "-", exit_code=1))

    assert [(s["source"], s["is_usable"]) for s in content["sources"]] == [
        (str(train), False),
        (str(val), True),
    ]
    assert "It can be used" in check("--config", path, val)


def test_a_detector_s_anchors_and_task_are_held_against_the_data(tmp_path):
    path, _ = coco_video(tmp_path)
    source = f"cocovid://{path}?images=frames"
    detector = config(tmp_path / "d.yaml", source, ["cat", "dog"], "detection")

    found = splits("--config", detector)["all"]

    assert found["boxes"] == 2
    assert names(found)["anchors"] == "warning"  # boxes of 20 x 5 px, anchors of 128 and more
    assert names(found)["anchors_proposed"] == "note"
    assert "note: at 24 x 32 px, 1 anchors overlap the boxes by" in check(source)
    other = config(tmp_path / "s.yaml", source, ["cat", "dog"])
    assert names(splits("--config", other, exit_code=1)["all"]) == {"other_task": "error"}
    named = splits(source, "--classes", "dog,cat", exit_code=1)["all"]
    assert names(named)["other_classes"] == "error"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give SOURCE, or --config"),
        (("folder", "x"), "Expected one SOURCE, got 2: folder, x."),
        (("x", "--classes", "a,a"), "expected each name once"),
        (("x", "--classes", "a,,b"), "expected each name once"),
        (("x", "--classes", "a", "--config", __file__), "--config names the classes already"),
    ],
)
def test_wrong_command_lines(arguments, message):
    assert message in check(*arguments, exit_code=2)


# ---- paths that are no UTF-8


@pytest.mark.parametrize("encoding", ["utf-8", "ascii:strict"])
def test_a_path_that_is_no_utf8_is_printed_and_never_handed_to_native_code(tmp_path, encoding):
    """In a process of its own: it used to end in a segmentation fault."""
    root = folder(tmp_path / os.fsdecode(b"d\xe4ta"), [0, 1, 2, 3])
    write(root / "images" / "z.png", np.zeros((48, 96, 3), np.uint8))
    (root / "labels" / "z.png").write_bytes(b"x")

    done = subprocess.run(
        [sys.executable, "-c", "from dff_edge.cli import main; main()", "data", "check", root],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )

    assert done.returncode == 1, done.stderr
    assert b"z.png is no PNG, whatever its name" in done.stdout
    assert b"Traceback" not in done.stderr


# ---- split


def test_split_prints_the_names_for_training(tmp_path, dff_edge):
    for kind in ("images", "labels"):
        for number in range(10):
            write(tmp_path / "mine" / kind / f"{number}.png", np.zeros((8, 8), np.uint8))

    done = dff_edge("data", "split", tmp_path / "mine", "-o", tmp_path / "parts")

    assert done.exit_code == 0, done.stderr
    assert f"train: {tmp_path / 'parts' / 'train'}\n  8 labelled frames" in done.stdout
    assert f"held out: {tmp_path / 'parts' / 'val'}\n  2 labelled frames" in done.stdout
    assert "  mine, frames 4 to 5\n" in done.stdout
    names = {path.name for path in (tmp_path / "parts" / "val" / "images").rglob("*.png")}
    assert names == {"4.png", "5.png"}


def test_split_as_json_and_by_another_share(tmp_path, dff_edge):
    for kind in ("images", "labels"):
        for number in range(10):
            write(tmp_path / "mine" / kind / f"{number}.png", np.zeros((8, 8), np.uint8))
    words = ("data", "split", tmp_path / "mine", "-o", tmp_path / "parts", "--share", "0.5")

    found = json.loads(dff_edge(*words, "--json", "-").stdout)

    assert found["val"] == {
        "source": str(tmp_path / "parts" / "val"),
        "labelled": 5,
        "clips": ["mine, frames 5 to 9"],
        "classes": {"0": 5},
    }


def test_split_tells_of_a_class_that_is_on_one_side_alone(tmp_path, dff_edge):
    """Of ten labelled frames the fifth and sixth are held out, and only they show class 2."""
    for number in range(10):
        write(tmp_path / "mine" / "images" / f"{number}.png", np.zeros((8, 8, 3), np.uint8))
        labels = np.zeros((8, 8), np.uint8)
        labels[:4] = 2 if number in (4, 5) else 1
        write(tmp_path / "mine" / "labels" / f"{number}.png", labels)

    done = dff_edge("data", "split", tmp_path / "mine", "-o", tmp_path / "parts")

    assert "frames of each class: 0 8, 1 8\n" in done.stdout
    assert "frames of each class: 0 2, 2 2\n" in done.stdout
    assert "warning: nothing of 1 is held out, so that it is not measured" in done.stdout
    assert "warning: nothing of 2 is left to train on" in done.stdout


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        (("--share", "1"), 2, "share"),
        (("--share", "0.9"), 1, "the share is 0.9, expected 0.02 to 0.5"),
        ((), 1, "too few to hold out a share of 0.2"),
    ],
)
def test_split_that_cannot_be(tmp_path, dff_edge, options, exit_code, message):
    for kind in ("images", "labels"):
        write(tmp_path / "mine" / kind / "0.png", np.zeros((8, 8), np.uint8))

    done = dff_edge("data", "split", tmp_path / "mine", "-o", tmp_path / "parts", *options)

    assert done.exit_code == exit_code
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "parts").exists()
