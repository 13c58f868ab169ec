"""COCO's JSON as tools write it, and what is refused in it."""

import json
import math

import pytest

from dff_edge.data.datasets.coco_json import read_coco
from dff_edge.errors import SourceError
from tests.data.datasets.layouts import coco_video


def read(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    return read_coco(path)


def without_videos(names, categories=None, annotations=()):
    """A file as annotation tools for pictures write it."""
    return {
        "info": {"description": ""},
        "licenses": [{"id": 0, "name": "", "url": ""}],
        "images": [
            {"id": n + 1, "file_name": name, "width": 32, "height": 24, "date_captured": 0}
            for n, name in enumerate(names)
        ],
        "annotations": list(annotations),
        "categories": categories or [{"id": 1, "name": "car", "supercategory": ""}],
    }


def frames(content):
    """Names of the files of each video, in order."""
    return {name: [image.file for image in images] for name, images, _ in content.videos}


# ---- with videos


def test_classes_are_in_the_order_of_ids_from_0_and_with_gaps(tmp_path):
    categories = [{"id": 90, "name": "c"}, {"id": 0, "name": "a"}, {"id": 7, "name": "b"}]

    assert read(tmp_path, without_videos(["x.jpg"], categories)).classes == ("a", "b", "c")


@pytest.mark.parametrize("kind", [str, float, lambda value: f"id-{value}"])
def test_ids_may_be_text(tmp_path, kind):
    _, content = coco_video(tmp_path)
    expected = read(tmp_path, content)
    for name, keys in (
        ("videos", ["id"]),
        ("images", ["id", "video_id"]),
        ("annotations", ["id", "image_id", "category_id"]),
        ("categories", ["id"]),
    ):
        for entry in content[name]:
            entry.update({key: kind(entry[key]) for key in keys})

    found = read(tmp_path, content)

    assert frames(found) == frames(expected)
    assert set(found.classes) == {"cat", "dog"}
    boxes = [sorted(objects) for objects in found.objects.values()]
    assert len(boxes) == 1
    assert len(boxes[0]) == 2


def test_other_names_of_fields(tmp_path):
    """``frame_index`` of TAO, ``file_name`` of videos of MOT converters, frames from 1."""
    _, content = coco_video(tmp_path)
    for image in content["images"]:
        image["frame_index"] = image.pop("frame_id") + 1
    for video in content["videos"]:
        video["file_name"] = f"{video.pop('name')}.mp4"

    assert frames(read(tmp_path, content)) == {
        "a.mp4": ["a/0.jpg", "a/1.jpg", "a/2.jpg"],
        "b.mp4": ["b/0.jpg"],
    }


def test_frames_without_a_number_take_that_of_their_names(tmp_path):
    _, content = coco_video(tmp_path)
    for image in content["images"]:
        del image["frame_id"]

    videos = {video.name: video.images for video in read(tmp_path, content).videos}

    assert [image.frame for image in videos["a"]] == [0, 1, 2]


def test_crowds_and_what_is_to_be_ignored(tmp_path):
    _, content = coco_video(tmp_path)
    content["annotations"] = [
        {"id": 1, "image_id": 10, "category_id": 3, "bbox": [0, 0, 3, 3], "iscrowd": 1},
        {"id": 2, "image_id": 10, "category_id": 3, "bbox": [0, 0, 4, 4], "ignore": 1},
        {"id": 3, "image_id": 10, "category_id": 3, "bbox": [0, 0, 5, 5], "ignore": 0},
    ]

    assert [found.is_ignored for found in read(tmp_path, content).objects[10]] == [
        True,
        True,
        False,
    ]


def test_annotations_that_repeat_another_are_left_out_and_counted(tmp_path):
    _, content = coco_video(tmp_path)
    content["annotations"].append({**content["annotations"][0], "id": 3})

    found = read(tmp_path, content)

    assert len(found.objects[20]) == 2
    assert found.problems == ["1 annotations repeat another one, box and class; left out"]


def test_boxes_that_are_rotated_are_told(tmp_path):
    _, content = coco_video(tmp_path)
    content["annotations"][0]["attributes"] = {"occluded": False, "rotation": 31.5}

    assert "1 boxes are rotated (attributes.rotation)" in read(tmp_path, content).problems[0]


def test_a_file_that_was_written_to_is_read_anew(tmp_path):
    first = without_videos(["a_1.jpg"])
    assert list(frames(read(tmp_path, first))) == ["a_1.jpg"]

    assert list(frames(read(tmp_path, without_videos(["other_1.jpg"])))) == ["other_1.jpg"]


# ---- without videos


def test_pictures_numbered_as_cvat_does_are_a_video(tmp_path):
    names = ["frame_000011.PNG", "frame_000009.PNG", "frame_000010.PNG"]

    found = read(tmp_path, without_videos(names))

    assert frames(found) == {"frame_": sorted(names)}
    assert [image.frame for image in found.videos[0][1]] == [9, 10, 11]
    assert found.problems == [
        "it has no 'videos': 3 pictures make 1 videos by the numbers in their names, and 0 "
        "pictures stand alone"
    ]


def test_folders_and_prefixes_keep_videos_apart(tmp_path):
    names = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "b/left_1.jpg", "b/left_2.jpg"]

    assert frames(read(tmp_path, without_videos(names))) == {
        "a": ["a/1.jpg", "a/2.jpg"],
        "b": ["b/1.jpg", "b/2.jpg"],
        "b/left_": ["b/left_1.jpg", "b/left_2.jpg"],
    }


def test_names_as_roboflow_makes_them(tmp_path):
    names = [f"drive_mp4-000{n}_jpg.rf.{n}b2c4d6e8f0a1b2c3d4e5f60718293a4.jpg" for n in (2, 1)]
    categories = [
        {"id": 0, "name": "drones", "supercategory": "none"},
        {"id": 1, "name": "drone", "supercategory": "drones"},
        {"id": 2, "name": "bird", "supercategory": "drones"},
    ]
    box = {"id": 0, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0}

    found = read(tmp_path, without_videos(names, categories, [box]))

    assert found.classes == ("drone", "bird")
    assert found.objects[1][0].label == 0
    assert frames(found) == {"drive_mp4-": sorted(names)}
    assert "category 0, 'drones', stands for all others and has no box: no class" in found.problems


def test_a_first_category_with_boxes_is_a_class(tmp_path):
    categories = [
        {"id": 0, "name": "drones", "supercategory": "none"},
        {"id": 1, "name": "drone", "supercategory": "drones"},
    ]
    box = {"id": 0, "image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4]}

    assert read(tmp_path, without_videos(["x.jpg"], categories, [box])).classes == (
        "drones",
        "drone",
    )


def test_augmented_copies_are_no_video(tmp_path):
    names = [f"a-{n:04}_jpg.rf.{letter * 32}.jpg" for n in (1, 2) for letter in "ab"]

    found = read(tmp_path, without_videos(names))

    assert sorted(frames(found)) == sorted(names)
    assert "4 pictures make 0 videos" in found.problems[0]


def test_names_as_label_studio_makes_them(tmp_path):
    names = ["images\\cb0618f6-drive_2.png", "images\\0a1b2c3d-drive_1.png"]

    assert frames(read(tmp_path, without_videos(names))) == {
        "images/drive_": ["images/0a1b2c3d-drive_1.png", "images/cb0618f6-drive_2.png"]
    }


def test_names_without_a_number_stand_alone(tmp_path):
    assert frames(read(tmp_path, without_videos(["cat.jpg", "dog.jpg"]))) == {
        "cat.jpg": ["cat.jpg"],
        "dog.jpg": ["dog.jpg"],
    }


def test_an_empty_list_of_videos_is_none(tmp_path):
    content = {**without_videos(["a1.jpg", "a2.jpg"]), "videos": []}

    assert frames(read(tmp_path, content)) == {"a": ["a1.jpg", "a2.jpg"]}


# ---- refused


def image(n=0, **fields):
    return lambda content: content["images"][n].update(fields)


def annotation(n=0, **fields):
    return lambda content: content["annotations"][n].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "has no list 'images', expected images, annotations, categ"),
        (
            lambda c: c["images"][0].pop("id"),
            r"images\[0\] has no 'id'; it has file_name, video_id",
        ),
        (lambda c: c["images"][0].pop("file_name"), r"images\[0\] \(id 30\) has no 'file_name'"),
        (lambda c: c["images"][0].pop("video_id"), r"images\[0\] \(id 30\) has no 'video_id'"),
        (image(video_id=9), r"images\[0\] \(id 30\): video_id is 9, expected the id of one of"),
        (image(video_id=None), "video_id is None, expected a number or a text"),
        (image(frame_id=0), r"\(id 10\) and images\[0\] \(id 30\) are both frame 0 of video a"),
        (image(frame_id="x"), r"images\[0\] \(id 30\): frame_id is 'x', expected a whole number"),
        (image(frame_id=math.inf), "frame_id is inf, expected a number or a text"),
        (image(frame_id=True), "frame_id is True, expected a number or a text"),
        (image(width="wide", height=3), "width is 'wide', expected a whole number"),
        (image(file_name="../x.jpg"), "file_name is '../x.jpg', expected a path below the folder"),
        (image(file_name="..\\..\\media\\x.jpg"), "expected a path below the folder"),
        (image(file_name="/data/upload/x.jpg"), "expected a path below the folder"),
        (image(file_name="http://host/x.jpg"), "expected a path below the folder"),
        (image(file_name=""), "file_name is '', expected a text"),
        (image(file_name=7), "file_name is 7, expected a text"),
        (
            image(id=10),
            r"images\[1\] \(id 10\): id is 10, expected another than that of images\[0\]",
        ),
        (image(file_name="a/0.jpg"), r"images\[1\] .* 'a/0.jpg', expected another than that of im"),
        (image(3, file_name="a/0.jpg"), r"images\[3\] .* 'a/0.jpg', expected another than that of"),
        (
            lambda c: c["videos"].append({"id": 1, "name": "z"}),
            r"videos\[2\] .* id is 1, expected an",
        ),
        (lambda c: c.update(videos={}), r"videos is \{\}, expected a list"),
        (
            lambda c: c["categories"].append({"id": 7, "name": "bird"}),
            r"categories\[2\] \(id 7\): id is 7, expected another than that of 'dog'",
        ),
        (
            lambda c: c["categories"].append({"id": 8, "name": "dog"}),
            r"categories\[2\] \(id 8\): name is 'dog', expected another than that of a category",
        ),
        (lambda c: c["annotations"][0].pop("bbox"), r"annotations\[0\] \(id 1\) has no 'bbox'"),
        (
            annotation(bbox=[1, 2, 3]),
            r"annotations\[0\] \(id 1\): bbox is \[1, 2, 3\], expected four",
        ),
        (annotation(bbox=[1, "2", 3, 4]), "bbox is .*'2'.*, expected four finite numbers"),
        (annotation(bbox=[1, True, 3, 4]), "expected four finite numbers"),
        (annotation(bbox=[1, math.nan, 3, 4]), "bbox is .*nan.*, expected four finite numbers"),
        (annotation(bbox=[1, 2, math.inf, 4]), "expected four finite numbers"),
        (annotation(bbox=[1, 2, 3, 10**400]), "expected four finite numbers"),
        (annotation(bbox=None), "bbox is None, expected four finite numbers"),
        (annotation(category_id=8), "category_id is 8, expected the id of a category: 3, 7"),
        (annotation(category_id=None), "category_id is None, expected a number or a text"),
        (annotation(image_id=8), r"annotations\[0\] .* image_id is 8, expected the id of one of"),
        (annotation(iscrowd="yes"), "iscrowd is 'yes', expected 0 or 1"),
        (lambda c: c.update(images=[5]), r"images\[0\] is 5, expected an object with fields"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_entry_and_field(tmp_path, change, message):
    _, content = coco_video(tmp_path)
    change(content)

    with pytest.raises(SourceError, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"images": [' + "[" * 900 + "]" * 900 + '], "annotations": [], "categories": []}',
        '{"images": [], "annotations": [{"id": ' + "9" * 5000 + '}], "categories": []}',
        "[]",
        "\x00",
    ],
    ids=["lists", "objects", "an entry", "number", "list", "zero"],
)
def test_hostile_json_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)

    with pytest.raises(SourceError, match="x.json'"):
        read_coco(tmp_path / "x.json")


def test_many_boxes_of_one_image_take_no_quadratic_time(tmp_path):
    boxes = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [n, 0, 1, 1]} for n in range(50_000)
    ]

    assert len(read(tmp_path, without_videos(["x.jpg"], None, boxes)).objects[1]) == 50_000


def test_a_byte_order_mark_is_passed_over(tmp_path):
    text = json.dumps(without_videos(["a1.jpg"]))
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + text.encode())

    assert list(frames(read_coco(tmp_path / "x.json"))) == ["a1.jpg"]


def test_many_categories_take_no_quadratic_time(tmp_path):
    categories = [{"id": n, "name": f"c{n}"} for n in range(100_000)]

    assert len(read(tmp_path, without_videos(["x.jpg"], categories)).classes) == 100_000


def test_a_first_category_with_boxes_of_an_id_as_text_is_a_class(tmp_path):
    categories = [
        {"id": "0", "name": "drones", "supercategory": "none"},
        {"id": "1", "name": "drone", "supercategory": "drones"},
    ]
    box = {"id": 0, "image_id": 1, "category_id": "0", "bbox": [1, 2, 3, 4]}

    assert len(read(tmp_path, without_videos(["x.jpg"], categories, [box])).classes) == 2
