"""CVAT for video 1.1: tracks of boxes beside a video file."""

import numpy as np
import pytest

from dff_edge.data.clips import class_names, open_clips
from dff_edge.data.datasets import DATA_SETS
from dff_edge.errors import SourceError
from tests.runtime.sources.videos import read_all, scene, write_video

META = """<task><name>flight</name><size>12</size><mode>interpolation</mode>
<start_frame>0</start_frame><stop_frame>11</stop_frame><frame_filter></frame_filter>
<labels><label><name>drone</name></label><label><name>bird</name></label></labels>
<original_size><width>64</width><height>48</height></original_size>
<source>flight.mp4</source></task>"""
TRACKS = """
<track id="0" label="bird" source="manual">
  <box frame="2" keyframe="1" outside="0" occluded="0" xtl="4" ytl="8" xbr="20" ybr="16"/>
  <box frame="6" keyframe="1" outside="0" occluded="1" xtl="12" ytl="8" xbr="28" ybr="24">
    <attribute name="far">yes</attribute></box>
  <box frame="8" keyframe="1" outside="1" occluded="0" xtl="50" ytl="8" xbr="60" ybr="24"/>
</track>
<track id="1" label="drone">
  <box frame="10" keyframe="1" outside="0" occluded="0" xtl="1" ytl="2" xbr="3" ybr="4"/>
</track>"""


def export(root, tracks=TRACKS, meta=META):
    write_video(root / "flight.mp4", scene(12), options={"g": "5"})
    path = root / "annotations.xml"
    path.write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
        f"<meta>{meta}</meta>{tracks}</annotations>"
    )
    return path


def test_tracks(tmp_path):
    """Between two boxes CVAT interpolates; an outside one ends the track, the last one stays."""
    path = export(tmp_path)
    frames, _ = read_all(tmp_path / "flight.mp4")

    (clip,) = open_clips(f"cvat://{path}")

    assert class_names(f"cvat://{path}") == ("drone", "bird")
    assert len(clip) == 12
    assert all(clip.is_labelled(n) for n in range(12))
    found = {n: clip.boxes(n).boxes.tolist() for n in range(12)}
    assert found == {
        **dict.fromkeys((0, 1, 8, 9), []),
        2: [[4, 8, 20, 16]],
        3: [[6, 8, 22, 18]],
        4: [[8, 8, 24, 20]],
        5: [[10, 8, 26, 22]],
        6: [[12, 8, 28, 24]],
        7: [[12, 8, 28, 24]],
        10: [[1, 2, 3, 4]],
        11: [[1, 2, 3, 4]],
    }
    assert clip.boxes(5).labels.tolist() == [1]
    assert clip.boxes(11).labels.tolist() == [0]
    assert clip.boxes(5).size == (48, 64)
    assert np.array_equal(clip.image(7), frames[7].image)


def test_only_the_frames_of_the_task_are_labelled(tmp_path):
    """Every third from 2 on; frames are numbered as in the video."""
    meta = (
        META.replace("<start_frame>0", "<start_frame>2")
        .replace("<stop_frame>11", "<stop_frame>8")
        .replace("<frame_filter>", "<frame_filter>step=3")
        .replace("task>", "job>")
    )

    (clip,) = open_clips(f"cvat://{export(tmp_path, meta=meta)}")

    assert [n for n in range(12) if clip.is_labelled(n)] == [2, 5, 8]
    assert clip.boxes(5).boxes.tolist() == [[10, 8, 26, 22]]


def test_another_place_of_the_video(tmp_path):
    path = export(tmp_path)
    (tmp_path / "flight.mp4").rename(tmp_path / "moved.mp4")

    assert len(open_clips(f"cvat://{path}?video=moved.mp4")[0]) == 12
    with pytest.raises(SourceError, match=r"There is no video .*flight\.mp4', which .* is of"):
        open_clips(f"cvat://{path}")


def test_a_source_that_leads_elsewhere_is_its_name_alone(tmp_path):
    meta = META.replace("<source>", "<source>/srv/../uploads/")

    assert len(open_clips(f"cvat://{export(tmp_path, meta=meta)}")) == 1


def test_what_is_left_out_is_told(tmp_path):
    polygon = '<polygon frame="2" outside="0" points="1,2;3,4"/></track>'
    rotated = TRACKS.replace('xtl="1"', 'xtl="1" rotation="30.5"').replace("</track>", polygon, 1)
    meta = META.replace("<stop_frame>11", "<stop_frame>13")

    listing = DATA_SETS["cvat"].list(export(tmp_path, rotated, meta), {})

    assert "shapes other than boxes are left out: 1 <polygon>" in listing.problems[0]
    assert "1 boxes are rotated; read as upright" in listing.problems[1]
    assert "has labels of 2 others (12 to 13" in listing.problems[2]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</annotations>", "", "is damaged"),
        ("annotations>", "root>", "begins with <root>, expected <annotations>"),
        ("task>", "project>", "Of a project, export each task by itself"),
        ("<version>", '<image id="0"/><version>', "has annotations of images"),
        ("<name>bird", "<name>drone", "labels drone, drone, expected a name each"),
        ('label="bird"', 'label="kite"', "track 0 has the label 'kite', expected one of drone"),
        ('xtl="4"', 'xtl="nan"', r"track 0: the box of frame 2 is \[nan, 8.0"),
        ('xtl="4"', "", "track 0: a <box> has no 'xtl'"),
        ("<stop_frame>11", "<stop_frame>99999999999", "it is of frames 0 to 99999999999"),
        ("<annotations>", "<!DOCTYPE a><annotations>", "declares a document type"),
    ],
)
def test_files_that_are_no_export_are_refused(tmp_path, old, new, message):
    path = export(tmp_path)
    path.write_text(path.read_text().replace(old, new))

    with pytest.raises(SourceError, match=message):
        open_clips(f"cvat://{path}")
