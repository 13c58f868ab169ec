"""Pairs of Flying Chairs."""

import torch

from dff_edge.trainer.config import DataConfig
from dff_edge.trainer.data import open_pairs
from tests.data.datasets.layouts import flying_chairs
from tests.trainer.data.same import equal


def opened(root, split):
    return open_pairs(
        DataConfig(train=f"flyingchairs://{root}?split={split}", group=2),
        seed=5,
        frame_size=(64, 96),
        class_count=8,
        length=4,
        max_distance=9,
    )


def test_the_first_picture_is_the_current_frame_and_flow_is_in_pixels(tmp_path):
    """A pixel of the picture is one of the half-size frame, two of the frame."""
    flying_chairs(tmp_path / "chairs", [1, 2], flow=(4.0, -2.0))

    item = opened(tmp_path / "chairs", "val")[0]

    assert set(item) == {"key", "current", "same", "flow_px"}
    assert (item["current"] == 0).all()
    assert (item["key"] == 255).all()
    assert not item["same"].any()
    known = item["flow_px"].isfinite().all(1)
    assert known.float().mean() > 0.5
    flow = item["flow_px"].movedim(1, -1)[known]
    torch.testing.assert_close(flow, torch.tensor([8.0, -4.0]).expand_as(flow))


def test_validation_takes_all_pairs_once_and_in_order(tmp_path):
    flying_chairs(tmp_path / "chairs", [2, 1, 2, 2])

    val = opened(tmp_path / "chairs", "val")

    assert [len(val[index]["key"]) for index in range(len(val))] == [2, 1]
    assert val.numbers == [1, 3, 4]


def test_train_is_augmented_and_a_function_of_seed_and_number(tmp_path):
    flying_chairs(tmp_path / "chairs", [1, 2])
    train = opened(tmp_path / "chairs", "train")

    first = train[1]

    assert train.knows_flow
    assert not train.knows_truth
    assert equal(first, opened(tmp_path / "chairs", "train")[1])
    assert not equal(first, train[2])
    assert tuple(first["flow_px"].shape) == (2, 2, 8, 12)
