"""Video in COCO's format."""

import json

import pytest

from dff_edge.data.clips import class_names, open_clips
from dff_edge.data.datasets import DATA_SETS
from dff_edge.errors import SourceError
from tests.data.datasets.layouts import coco_video


def test_videos(tmp_path):
    path, _ = coco_video(tmp_path)

    first, second = open_clips(f"cocovid://{path}?images=frames")

    assert [len(first), len(second)] == [3, 1]
    assert [int(first.image(n)[0, 0, 0]) for n in range(3)] == [0, 10, 20]
    boxes = first.boxes(1)
    assert boxes.boxes.tolist() == [[2, 3, 12, 7], [0, 0, 32, 24]]
    assert boxes.labels.tolist() == [1, 0]  # by the order of the categories' ids
    assert boxes.ignored.tolist() == [False, True]
    assert first.boxes(0).boxes.shape == (0, 4)
    assert class_names(f"cocovid://{path}") == ("cat", "dog")


def test_a_video_without_its_frames_is_left_out(tmp_path):
    path, _ = coco_video(tmp_path)
    (tmp_path / "frames/b/0.jpg").unlink()

    listing = DATA_SETS["cocovid"].list(path, {"images": "frames"})

    assert [clip.name for clip in listing.clips] == ["a"]
    assert listing.problems == [f"{tmp_path / 'frames/b/0.jpg'} is missing; the video is left out"]


def test_a_video_with_missing_frames_is_several_clips(tmp_path, caplog):
    path, content = coco_video(tmp_path)
    for image in content["images"]:
        image["frame_id"] += 5 * (image["frame_id"] > 0)  # 0, 6, 7
    path.write_text(json.dumps(content))

    clips = open_clips(f"cocovid://{path}?images=frames")

    assert (
        "lacks frames between others; pairs over these gaps are left out, the rest makes 2"
        in caplog.text
    )
    assert [(clip.name, len(clip)) for clip in clips] == [("a:0", 1), ("a:6", 2), ("b", 1)]
    assert clips[0].boxes(0).boxes.shape == (0, 4)
    assert clips[1].boxes(0).boxes.tolist() == [[2, 3, 12, 7], [0, 0, 32, 24]]
    assert [int(clips[1].image(n)[0, 0, 0]) for n in range(2)] == [10, 20]


def test_what_is_no_file_or_no_json_is_refused(tmp_path):
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        open_clips(f"cocovid://{tmp_path / 'none.json'}")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(SourceError, match="is no JSON"):
        open_clips(f"cocovid://{tmp_path / 'text.json'}")
    path, _ = coco_video(tmp_path)
    with pytest.raises(SourceError, match="There is no folder .*none', expected the frames"):
        open_clips(f"cocovid://{path}?images=none")
