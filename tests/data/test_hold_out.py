"""Which frames are held out: whole clips, or blocks; nothing is lost and nothing twice."""

import json

import numpy as np
import pytest

from dff_edge.data.clips import open_clips
from dff_edge.data.hold_out import ClipPart, choose_parts, hold_out
from dff_edge.errors import ConfigError
from dff_edge.opencv import cv2


def held(parts):
    return [(part.clip, part.start, part.stop) for part in parts if part.is_held_out]


def test_of_many_clips_every_fifth_is_held_out_whole():
    parts = choose_parts([[0, 3]] * 10, [4] * 10, 0.2)

    assert [part[:3] for part in parts] == [(clip, 0, 4) for clip in range(10)]
    assert held(parts) == [(2, 0, 4), (7, 0, 4)]


def test_of_one_video_blocks_are_held_out_in_two_places():
    """60 labelled frames in blocks of 6, the third and the eighth of them."""
    parts = choose_parts([range(60)], [60], 0.2)

    assert held(parts) == [(0, 12, 18), (0, 42, 48)]


def test_blocks_end_at_their_last_labelled_frame():
    """So that the frames before a labelled one, which its pairs need, are in its part."""
    parts = choose_parts([range(9, 100, 10)], [105], 0.2)

    assert [part[1:3] for part in parts] == [(0, 20), (20, 40), (40, 60), (60, 80), (80, 105)]


def test_of_uneven_clips_blocks_are_held_out():
    """The second of two clips would be nine tenths of all."""
    parts = choose_parts([range(6), range(54)], [6, 54], 0.5)

    assert sum(stop - start for _, start, stop in held(parts)) == 30


@pytest.mark.parametrize("share", [0.1, 0.2, 0.34, 0.5])
@pytest.mark.parametrize("lengths", [(60,), (7, 53), (20, 0, 20, 20), (1,) * 30])
def test_each_frame_is_in_one_part_and_the_share_is_about_right(share, lengths):
    parts = choose_parts([range(length) for length in lengths], lengths, share)

    seen = [(part.clip, i) for part in parts for i in range(part.start, part.stop)]
    assert seen == [(clip, i) for clip, length in enumerate(lengths) for i in range(length)]
    count = sum(stop - start for _, start, stop in held(parts))
    assert count / len(seen) == pytest.approx(share, abs=max(0.1, share / 2))


@pytest.mark.parametrize("share", [0.01, 0.6])
def test_shares_without_sense_are_refused(share):
    with pytest.raises(ConfigError, match=rf"share is {share}, expected 0\.02 to 0\.5"):
        choose_parts([range(60)], [60], share)


def test_too_few_frames_are_refused():
    with pytest.raises(
        ConfigError, match="there are 1 labelled frames, too few to hold out a share of 0.2"
    ):
        choose_parts([[0], []], [1, 9], 0.2)


def test_part_of_a_clip_is_the_frames_of_the_whole():
    (clip,) = open_clips("synthetic://street?clips=1&frames=6&height=32&width=64")

    part = ClipPart(clip, 2, 5)

    assert (len(part), part.name) == (3, f"{clip.name}:2")
    for i in range(3):
        assert np.array_equal(part.image(i), clip.image(2 + i))
        assert np.array_equal(part.labels(i), clip.labels(2 + i))
        assert np.array_equal(part.boxes(i).boxes, clip.boxes(2 + i).boxes)
        assert part.where(i) == clip.where(2 + i)
        assert part.is_labelled(i)
    assert np.array_equal(part.flow(2, 0)[0], clip.flow(4, 2)[0])
    with pytest.raises(IndexError):
        part.image(3)


def test_clips_of_a_video_that_lacks_frames_are_divided_as_one_video(tmp_path):
    """Every 15th frame of a video is there, and each is a clip: blocks of them are held out."""
    names = [f"v/{frame:06d}.png" for frame in range(0, 300, 15)]
    (tmp_path / "v").mkdir()
    for name in names:
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 6, 3), np.uint8))
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    box = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 3, 3]}
    content = {
        "images": images,
        "annotations": [box],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    clips = open_clips(f"cocovid://{tmp_path / 'boxes.json'}")
    assert [len(clip) for clip in clips] == [1] * 20

    divided = hold_out(clips, 0.2)

    blocks = choose_parts([range(20)], [20], 0.2)
    held_out = [i for part in blocks if part.is_held_out for i in range(part.start, part.stop)]
    assert divided.held_out == [clips[i] for i in held_out]
    assert held_out == [8, 9, 10, 11]  # neighbours, not every fifth
    assert divided.train == [clip for i, clip in enumerate(clips) if i not in held_out]


def test_clips_are_divided():
    clips = open_clips("synthetic://street?clips=2&frames=10&height=32&width=64")

    divided = hold_out(clips, 0.5)

    assert sum(map(len, divided.train)) == sum(map(len, divided.held_out)) == 10
    assert divided.train == [clips[0]]  # whole clips are not wrapped
