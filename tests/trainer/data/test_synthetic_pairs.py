"""Pairs of synthetic scenes: what they hold, and that item n is a function of the seed and n."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dff_edge.synthetic import BOX_CLASSES, CLASSES
from dff_edge.trainer.data import SyntheticPairs
from dff_edge.trainer.data.pairs import collate_groups
from dff_edge.trainer.models import warp_features
from tests.trainer.data.same import equal

SIZE = (64, 128)


def synthetic(**changes):
    arguments = {"seed": 5, "frame_size": SIZE, "length": 20, "group": 3, "max_distance": 9}
    return SyntheticPairs(**(arguments | changes))


def test_shapes_and_types():
    item = synthetic()[0]

    assert {name: (tuple(value.shape), value.dtype) for name, value in item.items()} == {
        "key": ((3, 3, 64, 128), torch.uint8),
        "current": ((3, 3, 64, 128), torch.uint8),
        "labels": ((3, 64, 128), torch.uint8),
        "same": ((3,), torch.bool),
        "flow_px": ((3, 2, 8, 16), torch.float32),
    }
    assert item["labels"].max() < len(CLASSES)


@pytest.mark.parametrize("both_ways", [False, True])
def test_distances_are_0_to_9_and_same_means_0(monkeypatch, both_ways):
    asked = []
    scene = "dff_edge.trainer.data.synthetic_pairs.StreetScene.flow"
    monkeypatch.setattr(
        scene,
        lambda self, current, key, stride: (
            asked.append(current - key) or np.zeros((4, 8, 2), np.float32),
            None,
        ),
    )
    pairs = synthetic(frame_size=(32, 64), group=60, both_ways=both_ways)

    same = [flag for n in range(4) for flag in pairs[n]["same"].tolist()]

    assert [distance == 0 for distance in asked] == same
    assert set(asked) == set(range(-9 if both_ways else 0, 10))


def test_same_pairs_are_one_frame_with_zero_flow():
    item = synthetic(max_distance=0)[0]

    assert item["same"].all()
    assert torch.equal(item["key"], item["current"])
    assert (item["flow_px"] == 0).all()


def test_any_largest_distance_fits_the_scenes():
    assert synthetic(frame_size=(32, 64), max_distance=200)[0]["key"].shape[0] == 3


def test_items_are_a_function_of_seed_and_number():
    pairs, again = synthetic(), synthetic()
    items = [pairs[n] for n in (0, 1, 2)]

    for n in (2, 0, 1):
        assert equal(items[n], again[n])
    assert not equal(items[0], items[1])
    assert not equal(items[0], synthetic(seed=6)[0])
    assert not equal(items[0], synthetic(split="val")[0])


@pytest.mark.slow
def test_workers_do_not_change_the_items():
    pairs = synthetic(frame_size=(32, 64))
    order = [7, 0, 3, 12, 5]

    loader = DataLoader(
        pairs,
        batch_size=1,
        sampler=order,
        num_workers=2,
        collate_fn=collate_groups,
        multiprocessing_context="spawn",
    )

    for number, batch in zip(order, loader, strict=True):
        assert equal(batch, pairs[number])


def test_flow_in_feature_cells_carries_the_key_frame_to_the_current_one():
    """Of all ways to misread the flow, the documented one brings the frames together best."""
    readings = {
        "right": lambda flow: flow,
        "still": torch.zeros_like,
        "from key to current": torch.neg,
        "(dy, dx)": lambda flow: flow.flip(1),
        "half": lambda flow: flow / 2,
        "double": lambda flow: flow * 2,
    }
    errors = dict.fromkeys(readings, 0.0)
    pairs = synthetic(frame_size=(128, 256), group=4)
    for n in range(3):
        item = pairs[n]
        key, current = (
            torch.nn.functional.avg_pool2d(item[name].float(), 8) for name in ("key", "current")
        )
        stays = warp_features(torch.ones_like(key), item["flow_px"] / 8, None) > 0.99
        for name, read in readings.items():
            moved = warp_features(key, read(item["flow_px"]) / 8, None)
            errors[name] += (moved - current)[stays].abs().mean().item()

    right = errors.pop("right")
    assert right < 0.9 * min(errors.values()), (right, errors)


def test_boxes_are_those_of_the_current_frame():
    """The frames are the same as for segmentation; a box's class is found where the box is."""
    labelled, boxed = synthetic()[2], synthetic(task="detection")[2]

    assert set(boxed) == {"key", "current", "boxes", "box_labels", "same", "flow_px"}
    assert torch.equal(labelled["current"], boxed["current"])
    seen = 0
    for labels, boxes, numbers in zip(
        labelled["labels"], boxed["boxes"], boxed["box_labels"], strict=True
    ):
        assert boxes.dtype == torch.float32
        assert numbers.dtype == torch.int64
        for (left, top, right, bottom), number in zip(boxes.int(), numbers, strict=True):
            if number >= 0:  # not an ignored one
                inside = labels[top:bottom, left:right]
                name = CLASSES.index(BOX_CLASSES[number])
                for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                    assert (side == name).any()
                seen += 1
    assert seen > 5
