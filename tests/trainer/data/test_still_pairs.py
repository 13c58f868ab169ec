"""Pairs of single pictures: shapes, truth, and that item n is a function of the seed and n."""

import cv2
import numpy as np
import pytest
import torch

from dff_edge.data.clips import open_clips
from dff_edge.errors import ConfigError
from dff_edge.trainer.config import AugmentConfig
from dff_edge.trainer.data import StillPairs
from dff_edge.trainer.data.motion import draw_motion
from dff_edge.trainer.data.pairs import IGNORED
from dff_edge.trainer.data.still_pairs import sample
from tests.trainer.data.same import equal


def still_pairs(folder, **changes):
    arguments = {
        "seed": 5,
        "frame_size": (32, 64),
        "class_count": 5,
        "length": 20,
        "group": 12,
        "max_distance": 9,
        "augment": AugmentConfig(colour=0),
    }
    return StillPairs(open_clips(str(folder)), **(arguments | changes))


def test_what_a_batch_holds(folder):
    item = still_pairs(folder)[0]

    assert {name: (tuple(value.shape), value.dtype) for name, value in item.items()} == {
        "key": ((12, 3, 32, 64), torch.uint8),
        "current": ((12, 3, 32, 64), torch.uint8),
        "labels": ((12, 32, 64), torch.uint8),
        "same": ((12,), torch.bool),
        "flow_px": ((12, 2, 4, 8), torch.float32),
    }
    assert set(item["labels"].unique().tolist()) == {0, 1, 2, 3, 4}
    assert item["flow_px"].isfinite().float().mean() > 0.6


def test_frames_are_one_at_distance_0_only(folder):
    pairs = still_pairs(folder)
    items = [pairs[n] for n in range(4)]

    equal_frames = torch.cat([(i["key"] == i["current"]).flatten(1).all(1) for i in items])
    same = torch.cat([item["same"] for item in items])
    still = torch.cat([(item["flow_px"].abs() < 1e-6).flatten(1).all(1) for item in items])

    assert 0 < same.sum() < len(same) / 3
    assert torch.equal(same, equal_frames)
    assert torch.equal(same, still)


def test_flow_is_in_pixels_of_the_frame(monkeypatch, folder):
    monkeypatch.setattr(
        "dff_edge.trainer.data.motion.Motion.flow",
        lambda self, stride: np.full((32 // stride, 64 // stride, 2), 8, np.float32),
    )

    assert (still_pairs(folder)[0]["flow_px"] == 8).all()


def test_labels_are_the_current_frames(folder):
    """Blue is 50 times the label, up to the exposure and to what lies between two pixels."""
    pairs = still_pairs(folder, class_count=5, max_distance=30)
    wrong = dict.fromkeys(("current", "key"), 0.0)
    for n in range(4):
        item = pairs[n]
        for name in wrong:
            error = (item[name][:, 0].float() - item["labels"].float() * 50).abs()
            wrong[name] += (error > 30).float().mean().item() / 4

    assert wrong["current"] < 0.15
    assert wrong["key"] > 2 * wrong["current"]


def test_items_are_a_function_of_seed_and_number(folder):
    pairs = still_pairs(folder, augment=AugmentConfig())
    first = pairs[3]
    pairs[1]

    assert equal(first, pairs[3])
    assert not equal(first, pairs[4])
    assert not equal(first, still_pairs(folder, seed=6, augment=AugmentConfig())[3])


def test_data_without_labels_is_refused(folder):
    for path in (folder / "labels").iterdir():
        path.unlink()

    with pytest.raises(ConfigError, match="the training data has no labelled frame"):
        still_pairs(folder)


def test_a_patch_over_the_first_pixels_does_not_blur_the_picture():
    """A step over a patch's border is a leap that says nothing of the picture's scale."""
    picture = np.random.default_rng(3).integers(0, 256, (40, 60, 3), np.uint8)
    places = np.stack(np.meshgrid(np.arange(60) + 0.5, np.arange(40) + 0.5), axis=-1)
    leaping = places.copy()
    leaping[0, 0] += 30

    sampled = sample(picture, leaping)

    assert (sampled[1:] == picture[1:]).all()
    assert (sampled[0, 1:] == picture[0, 1:]).all()


def test_a_view_from_afar_is_of_means():
    picture = np.random.default_rng(3).integers(0, 256, (40, 60, 3), np.uint8)
    places = np.stack(np.meshgrid(np.arange(30) * 2 + 1.0, np.arange(20) * 2 + 1.0), axis=-1)

    means = picture.reshape(20, 2, 30, 2, 3).mean(axis=(1, 3))
    assert np.abs(sample(picture, places) - means).max() <= 0.5


def test_reduced_pictures_are_scored_where_they_are(folder):
    """Blue is 50 times the label there; labels and flow say nothing of what is outside."""
    augment = AugmentConfig(enlarge=1, shrink=0.5, colour=0)
    item = still_pairs(folder, class_count=5, group=40, max_distance=0, augment=augment)[0]

    labels = item["labels"].numpy()
    scored = labels != IGNORED
    assert 0.3 < scored.mean() < 0.8
    for image, own, inside in zip(item["current"].numpy(), labels, scored, strict=True):
        flat = cv2.erode(own, np.ones((9, 9))) == cv2.dilate(own, np.ones((9, 9)))
        error = np.abs(image[0].astype(int) - own.astype(int) * 50)
        assert (error[flat & inside] <= 2 + 0.04 * 255).all()
    known = item["flow_px"].isfinite().all(1)
    assert 0.2 < known.float().mean() < 0.8


def test_a_camera_drives_in_most_pairs_and_in_none_of_one_frame(folder, monkeypatch):
    drawn = []

    def draw(rng, *, drives, **settings):
        drawn.append((drives, settings["distance"]))
        return draw_motion(rng, drives=drives, **settings)

    monkeypatch.setattr("dff_edge.trainer.data.still_pairs.draw_motion", draw)
    pairs = still_pairs(folder, drives=True, max_distance=4, group=60)

    pairs[0], pairs[1]

    moving = [drives for drives, distance in drawn if distance]
    assert not any(drives for drives, distance in drawn if not distance)
    assert 0.6 < np.mean(moving) < 0.9  # three of four
    drawn.clear()
    still_pairs(folder, max_distance=4)[0]
    assert not any(drives for drives, _ in drawn)
