"""Data divided on disk: both parts are readable, and together they are the whole."""

import json

import cv2
import numpy as np
import pytest

from dff_edge.data.clips import open_clips
from dff_edge.data.split import split_data
from dff_edge.errors import ConfigError, SinkError


def folder_of(root, clips):
    """A labelled folder; the grey of a picture is its number, every second one is labelled."""
    number = 0
    for name, frames in clips.items():
        for kind in ("images", "labels"):
            (root / kind / name).mkdir(parents=True)
        for i in range(frames):
            number += 1
            picture = np.full((8, 8, 3), number, np.uint8)
            cv2.imwrite(str(root / "images" / name / f"{i:03d}.png"), picture)
            if i % 2:
                labels = np.full((8, 8), number % 3, np.uint8)
                cv2.imwrite(str(root / "labels" / name / f"{i:03d}.png"), labels)
    return str(root)


def coco_of(root, count, **changes):
    """Three frames a video, a box in each whose x is the number of the image."""
    (root / "pictures").mkdir(parents=True)
    content = {
        "info": {"by": "me"},
        "videos": [{"id": v, "name": f"v{v}"} for v in range(count)],
        "images": [],
        "categories": [{"id": 7, "name": "cone"}, {"id": 9, "name": "barrel"}],
        "annotations": [],
    }
    for number in range(3 * count):
        name = f"v{number // 3}_{number % 3}.png"
        picture = np.full((8, 128, 3), number, np.uint8)
        cv2.imwrite(str(root / "pictures" / name), picture)
        image = {"id": str(number), "file_name": name, "video_id": number // 3}
        content["images"].append(image | {"frame_id": number % 3})
        box = {"id": number, "image_id": float(number), "category_id": 7}
        content["annotations"].append(box | {"bbox": [number, 1, 2, 3]})
    (root / "boxes.json").write_text(json.dumps(content | changes))
    return f"cocovid://{root / 'boxes.json'}?images=pictures"


def greys(source):
    return [[int(clip.image(i)[0, 0, 0]) for i in range(len(clip))] for clip in open_clips(source)]


def test_whole_clips_of_a_folder(tmp_path):
    source = folder_of(tmp_path / "data", {f"c{n}": 4 for n in range(5)})

    train, held_out = split_data(source, tmp_path / "parts", 0.2)

    assert train.source == str(tmp_path / "parts" / "train")
    assert (train.labelled, held_out.labelled) == (8, 2)
    assert held_out.clips == ("c2",)
    assert greys(held_out.source) == [[9, 10, 11, 12]]
    assert greys(train.source) == [[n + i for i in range(4)] for n in (1, 5, 13, 17)]
    for clip in open_clips(train.source):
        assert [clip.is_labelled(i) for i in range(4)] == [False, True] * 2
        assert (clip.labels(1) == clip.image(1)[0, 0, 0] % 3).all()


def test_blocks_of_one_video(tmp_path):
    source = folder_of(tmp_path / "data", {".": 20})

    train, held_out = split_data(source, tmp_path / "parts", 0.2)

    assert (train.labelled, held_out.labelled) == (8, 2)
    assert held_out.clips == ("data, frames 8 to 11",)
    assert greys(held_out.source) == [[9, 10, 11, 12]]
    together = sorted(sum(greys(train.source), []) + sum(greys(held_out.source), []))
    assert together == list(range(1, 21))


def test_videos_in_cocos_format(tmp_path):
    """Ids are written as text and with a fraction, as some tools do."""
    source = coco_of(tmp_path / "data", 5)

    train, held_out = split_data(source, tmp_path / "parts", 0.2)

    assert greys(held_out.source) == [[6, 7, 8]]
    assert greys(train.source) == [[n, n + 1, n + 2] for n in (0, 3, 9, 12)]
    for part, images in ((train, 12), (held_out, 3)):
        assert part.labelled == images
        for clip in open_clips(part.source):
            for i in range(3):
                assert clip.boxes(i).boxes[0, 0] == clip.image(i)[0, 0, 0]
    content = json.loads((tmp_path / "parts" / "val.json").read_text())
    assert content["info"] == {"by": "me"}
    assert [video["name"] for video in content["videos"]] == ["v2"]
    assert len(content["categories"]) == 2  # both parts have the classes of the whole


def test_parts_may_be_moved_with_their_data(tmp_path):
    source = coco_of(tmp_path / "all" / "data", 5)
    _, held_out = split_data(source, tmp_path / "all" / "parts", 0.2)

    (tmp_path / "all").rename(tmp_path / "moved")

    assert greys(held_out.source.replace("/all/", "/moved/")) == [[6, 7, 8]]


def test_pictures_without_videos(tmp_path):
    """Numbers at the end of names make a video, of which a block is held out."""
    source = coco_of(tmp_path / "data", 5, videos=[])
    path = tmp_path / "data" / "boxes.json"
    content = json.loads(path.read_text())
    for number, image in enumerate(content["images"]):
        del image["video_id"], image["frame_id"]
        (tmp_path / "data" / "pictures" / image["file_name"]).rename(
            tmp_path / "data" / "pictures" / f"f{number}.png"
        )
        image["file_name"] = f"f{number}.png"
    path.write_text(json.dumps(content))

    train, held_out = split_data(source, tmp_path / "parts", 0.2)

    assert greys(held_out.source) == [[6, 7, 8]]
    assert sum(map(len, greys(train.source))) == 12
    assert held_out.clips == ("f, frames 6 to 8",)


@pytest.mark.parametrize(
    "source",
    ["synthetic://street", "camvid://somewhere", "cityscapes://x?split=train", "cvat://x.xml"],
)
def test_other_data_is_refused(tmp_path, source):
    with pytest.raises(ConfigError, match="cannot be divided, expected a labelled folder or coco"):
        split_data(source, tmp_path / "parts", 0.2)


def test_video_files_stay_in_their_place(tmp_path):
    """Frames are in the files, and nothing is read of them."""
    source = coco_of(tmp_path / "data", 5).replace("?images=pictures", "?videos=films")

    train, held_out = split_data(source, tmp_path / "parts", 0.2)

    assert train.source == f"cocovid://{tmp_path / 'parts' / 'train.json'}?videos=../data/films"
    assert held_out.clips == ("v2",)


def test_a_part_of_a_file_is_refused(tmp_path):
    source = coco_of(tmp_path / "data", 5) + "&every=2"

    with pytest.raises(ConfigError, match="given with every=, expected none: a whole file is div"):
        split_data(source, tmp_path / "parts", 0.2)


def test_folder_with_files_is_refused(tmp_path):
    source = folder_of(tmp_path / "data", {".": 20})
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "mine").touch()

    with pytest.raises(SinkError, match="parts' is not an empty folder"):
        split_data(source, tmp_path / "parts", 0.2)


def test_where_links_cannot_be_made_files_are_copied(tmp_path, monkeypatch):
    source = folder_of(tmp_path / "data", {".": 20})

    def refuse(*_arguments, **_options):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)

    train, held_out = split_data(source, tmp_path / "parts", 0.2)

    assert sum(map(len, greys(train.source))) + sum(map(len, greys(held_out.source))) == 20
