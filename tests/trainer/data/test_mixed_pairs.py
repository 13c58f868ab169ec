"""ImageNet VID and DET together."""

import pytest

from dff_edge.errors import ConfigError
from dff_edge.trainer.config import DataConfig
from dff_edge.trainer.data import open_pairs
from dff_edge.trainer.data.mixed_pairs import MixedPairs
from tests.data.datasets.layouts import imagenet_image, vid_snippet


class Constant:
    knows_flow = False

    def __init__(self, number, length):
        self.number, self.length = number, length

    def __getitem__(self, index):
        return self.number, index


def test_two_to_one():
    pairs = MixedPairs([Constant(0, 3000), Constant(1, 3000)], [2, 1], seed=3)

    drawn = [pairs[n] for n in range(3000)]

    assert [index for _, index in drawn] == list(range(3000))
    assert abs(sum(number for number, _ in drawn) / 3000 - 1 / 3) < 0.03
    assert [pairs[n] for n in range(50)] == drawn[:50]


def opened(uri, class_count=30):
    return open_pairs(
        DataConfig(train=uri, group=3),
        seed=1,
        frame_size=(32, 64),
        class_count=class_count,
        length=20,
        max_distance=2,
        task="detection",
    )


def test_vid_and_det(tmp_path):
    dog = "n02084071"
    vid_snippet(tmp_path, "train", "a", 5)
    imagenet_image(tmp_path, f"DET/train/ILSVRC2013_train/{dog}/x", [(dog, 1, 1, 30, 22)])
    (tmp_path / "list.txt").write_text(f"train/ILSVRC2013_train/{dog}/x 1\n")
    pairs = opened(f"vid+det://{tmp_path}?frames=5&list={tmp_path / 'list.txt'}")

    items = [pairs[n] for n in range(20)]

    is_det = [bool(item["same"].all()) and bool((item["current"] < 5).all()) for item in items]
    assert 1 <= sum(is_det) <= 14
    labels = {n for item in items for numbers in item["box_labels"] for n in numbers.tolist()}
    assert labels <= {8, -1}
    assert 8 in labels


def test_names_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="is for detection of 30 classes"):
        opened(f"vid+det://{tmp_path}", class_count=3)
    with pytest.raises(ConfigError, match="with no options but frames"):
        opened(f"vid+det://{tmp_path}?split=val")
    with pytest.raises(ConfigError, match="is data for segmentation, the model's task is"):
        opened(f"cityscapes://{tmp_path}")
