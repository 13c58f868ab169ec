"""Video in COCO's format."""

import json
import pickle

import numpy as np
import pytest

from dff_edge.data.clips import class_names, open_clips
from dff_edge.data.datasets import DATA_SETS
from dff_edge.errors import ConfigError, SourceError
from dff_edge.report.data_check import check_data
from tests.data.datasets.layouts import coco_video, picture, write
from tests.runtime.sources.videos import read_all, scene, write_video


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


def test_many_videos_that_lack_frames_are_told_in_one_line_and_once(tmp_path, caplog):
    path, content = coco_video(tmp_path)
    content["videos"] = [{"id": n, "name": name} for n, name in enumerate("pqrs")]
    content["images"] = []
    for n, name in enumerate(f"{video}/{frame}.jpg" for video in "pqrs" for frame in (0, 9)):
        write(tmp_path / "frames" / name, picture(n))
        content["images"].append(
            {"id": n, "file_name": name, "video_id": n // 2, "frame_id": n % 2 * 9}
        )
    content["annotations"] = []
    path.write_text(json.dumps(content))

    for _ in range(2):
        open_clips(f"cocovid://{path}?images=frames")

    (record,) = caplog.records
    assert "4 videos (p, q, r, ...) lack frames between others" in record.getMessage()
    assert "the rest makes 8 clips" in record.getMessage()


def test_what_is_no_file_or_no_json_is_refused(tmp_path):
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        open_clips(f"cocovid://{tmp_path / 'none.json'}")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(SourceError, match="is no JSON"):
        open_clips(f"cocovid://{tmp_path / 'text.json'}")
    path, _ = coco_video(tmp_path)
    with pytest.raises(SourceError, match="There is no folder .*none', expected the frames"):
        open_clips(f"cocovid://{path}?images=none")


def coco_files(root, frames=12, labelled=(0, 4, 11), **changes):
    """One labelled video file of moving texture, and another of which nothing is labelled."""
    images = scene(frames)
    (root / "clips").mkdir()
    write_video(root / "clips" / "a.mp4", images, options={"g": "5", "bf": "2"})
    content = {
        "categories": [{"id": 1, "name": "drone"}],
        "videos": [{"id": 1, "name": "a", "file_name": "a.mp4"}],
        "images": [
            {"id": n, "file_name": f"a/{n}.jpg", "video_id": 1, "frame_id": n, **changes}
            for n in labelled
        ],
        "annotations": [{"id": 1, "image_id": 4, "category_id": 1, "bbox": [2, 3, 10, 4]}],
    }
    path = root / "labels.json"
    path.write_text(json.dumps(content))
    return path, content


@pytest.mark.parametrize("videos", ["clips", "clips/a.mp4"])
def test_frames_of_video_files(tmp_path, videos):
    path, _ = coco_files(tmp_path)
    frames, _ = read_all(tmp_path / "clips/a.mp4")

    (clip,) = open_clips(f"cocovid://{path}?videos={videos}")

    assert (clip.name, len(clip)) == ("a", 12)
    assert [n for n in range(12) if clip.is_labelled(n)] == [0, 4, 11]
    assert clip.boxes(4).boxes.tolist() == [[2, 3, 12, 7]]
    assert len(clip.boxes(0)) == 0
    assert clip.boxes(3) is None
    for n in (4, 3, 11, 0):  # what is between labelled frames is there too
        assert np.array_equal(clip.image(n), frames[n].image)
    assert np.array_equal(pickle.loads(pickle.dumps(clip)).image(7), frames[7].image)


@pytest.mark.parametrize("place", ["images=frames", "videos=clips"])
def test_parts_of_a_file(tmp_path, place):
    path, content = coco_video(tmp_path)
    content["videos"] = [
        {**video, "file_name": f"{video['name']}.mp4"} for video in content["videos"]
    ]
    path.write_text(json.dumps(content))
    (tmp_path / "clips").mkdir()
    for name in "ab":
        write_video(tmp_path / "clips" / f"{name}.mp4", scene(4))

    def opened(parts):
        clips = open_clips(f"cocovid://{path}?{place}&{parts}")
        return {clip.name: [n for n in range(len(clip)) if clip.is_labelled(n)] for clip in clips}

    assert opened("only=a") == {"a": [0, 1, 2]}
    assert opened("without=[ax]") == {"b": [0]}
    assert opened("only=a,b&without=b") == {"a": [0, 1, 2]}
    assert opened("only=a&every=2") == {"a": [1]}
    with pytest.raises(
        SourceError, match=r"no video 'c\*' \(without=\), expected names such as a, b"
    ):
        opened("without=c*")
    with pytest.raises(ConfigError, match="every is '0', expected a whole number from 1 up"):
        opened("every=0")


def test_labels_beyond_the_end_of_a_video_file_are_left_out_and_told(tmp_path):
    path, _ = coco_files(tmp_path, labelled=(0, 4, 12, 13))

    listing = DATA_SETS["cocovid"].list(path, {"videos": "clips"})

    (clip,) = listing.clips
    assert len(clip) == 12
    assert [n for n in range(12) if clip.is_labelled(n)] == [0, 4]
    assert listing.problems == [
        f"{tmp_path / 'clips/a.mp4'} has 12 frames, and labels.json has labels of 2 others "
        "(12 to 13, counted from 0): they are left out. Is it the video that was labelled?"
    ]


def test_labels_of_a_video_of_another_size_are_refused(tmp_path):
    path, _ = coco_files(tmp_path, width=128, height=96)

    (report,) = check_data(f"cocovid://{path}?videos=clips")

    assert not report.is_usable
    assert "frame 0: the labels are of 128 x 96 pixels" in report.findings[0].text


def test_a_missing_video_file_is_left_out(tmp_path):
    path, content = coco_files(tmp_path)
    content["videos"].append({"id": 2, "name": "b", "file_name": "b.mp4"})
    content["images"].append({"id": 90, "file_name": "b/0.jpg", "video_id": 2, "frame_id": 0})
    (tmp_path / "clips/c.mp4").write_bytes(b"no video")
    content["videos"].append({"id": 3, "name": "c", "file_name": "c.mp4"})
    content["images"].append({"id": 91, "file_name": "c/0.jpg", "video_id": 3, "frame_id": 0})
    path.write_text(json.dumps(content))

    listing = DATA_SETS["cocovid"].list(path, {"videos": "clips"})

    assert [clip.name for clip in listing.clips] == ["a"]
    assert listing.problems[0] == f"{tmp_path / 'clips/b.mp4'} is missing; the video is left out"
    assert "c.mp4' cannot be opened as a video" in listing.problems[1]


def test_names_of_video_files_that_lead_elsewhere_are_refused(tmp_path):
    path, content = coco_files(tmp_path)
    content["videos"][0]["file_name"] = "../a.mp4"
    path.write_text(json.dumps(content))

    with pytest.raises(
        SourceError, match=r"videos\[0\].*expected a path below the folder of the v"
    ):
        open_clips(f"cocovid://{path}?videos=clips")


def test_wrong_places_of_video_files_are_refused(tmp_path):
    path, content = coco_files(tmp_path)

    with pytest.raises(ConfigError, match="images= and videos=, expected one"):
        open_clips(f"cocovid://{path}?videos=clips&images=clips")
    with pytest.raises(SourceError, match="There is no .*none', expected the folder of the video"):
        open_clips(f"cocovid://{path}?videos=none")
    content["videos"][0]["file_name"] = "b.mp4"
    path.write_text(json.dumps(content))
    with pytest.raises(SourceError, match=r"no video that can be read: .*b\.mp4 is missing"):
        open_clips(f"cocovid://{path}?videos=clips")
    content["videos"].append({"id": 2, "name": "c", "file_name": "c.mp4"})
    path.write_text(json.dumps(content))
    with pytest.raises(SourceError, match="has 2 videos, and .* is one file"):
        open_clips(f"cocovid://{path}?videos=clips/a.mp4")
