"""Training pairs: what they hold, and that item n depends on nothing but the seed and n."""

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dff_edge.runtime.clips import open_clips
from dff_edge.runtime.errors import ConfigError, SourceError
from dff_edge.runtime.synthetic import CLASSES
from dff_edge.trainer.data import ClipPairs, SyntheticPairs, open_pairs
from dff_edge.trainer.data.pairs import IGNORED, collate_groups
from dff_edge.trainer.models import warp_features

SIZE = (64, 128)
CLIP_SIZE = (24, 36)  # of the source; the networks' frames are 32 x 64


def synthetic(**changes):
    arguments = {"seed": 5, "frame_size": SIZE, "length": 20, "group": 3, "max_distance": 9}
    return SyntheticPairs(**(arguments | changes))


def equal(a, b):
    return all(torch.equal(a[name].nan_to_num(-1), b[name].nan_to_num(-1)) for name in a)


@pytest.fixture
def folder(tmp_path):
    """Twelve frames; frame i is its labels, painted, plus i; labels on 0, 5 and 11."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i in range(12):
        labels = blobs(i)
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), painted(labels, i))
        if i in (0, 5, 11):
            cv2.imwrite(str(tmp_path / "labels" / f"{i}.png"), labels)
    return tmp_path


def blobs(seed):
    coarse = np.random.default_rng(seed).integers(0, 5, (4, 6)).astype(np.uint8)
    return np.kron(coarse, np.ones((6, 6), np.uint8))


def painted(labels, number):
    image = np.zeros((*labels.shape, 3), np.uint8)
    image[..., 0] = labels * 50
    image[..., 1] = number * 10
    return image


def clip_pairs(folder, **changes):
    arguments = {
        "seed": 5,
        "frame_size": (32, 64),
        "class_count": 5,
        "length": 20,
        "group": 2,
        "max_distance": 4,
    }
    return ClipPairs(open_clips(str(folder)), **(arguments | changes))


# ---- synthetic


def test_shapes_and_types():
    item = synthetic()[0]

    assert {name: (tuple(value.shape), value.dtype) for name, value in item.items()} == {
        "key": ((3, 3, 64, 128), torch.uint8),
        "current": ((3, 3, 64, 128), torch.uint8),
        "labels": ((3, 64, 128), torch.uint8),
        "same": ((3,), torch.bool),
        "flow": ((3, 2, 8, 16), torch.float32),
    }
    assert item["labels"].max() < len(CLASSES)


@pytest.mark.parametrize("both_ways", [False, True])
def test_distances_are_0_to_9_and_same_means_0(monkeypatch, both_ways):
    asked = []
    scene = "dff_edge.trainer.data.pairs.StreetScene.flow"
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
    assert (item["flow"] == 0).all()


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
        key, current = (  # cells of 8 px, half a feature cell
            torch.nn.functional.avg_pool2d(item[name].float(), 8) for name in ("key", "current")
        )
        stays = warp_features(torch.ones_like(key), item["flow"] * 2, None) > 0.99
        for name, read in readings.items():
            moved = warp_features(key, read(item["flow"]) * 2, None)
            errors[name] += (moved - current)[stays].abs().mean().item()

    right = errors.pop("right")
    assert right < 0.9 * min(errors.values()), (right, errors)


# ---- clips


def test_clip_pairs_shapes_and_unknown_flow(folder):
    item = clip_pairs(folder)[0]

    assert tuple(item["key"].shape) == (2, 3, 32, 64)
    assert tuple(item["labels"].shape) == (2, 32, 64)
    assert tuple(item["flow"].shape) == (2, 2, 4, 8)
    assert item["flow"].isnan().all()


def test_clip_pairs_end_on_labelled_frames_and_start_up_to_max_distance_before(folder):
    pairs = clip_pairs(folder, group=40)

    distances = {0: set(), 5: set(), 11: set()}
    for n in range(5):
        item = pairs[n]
        for key, current, same in zip(item["key"], item["current"], item["same"], strict=True):
            i, k = (int(frame[1].float().mean().round()) // 10 for frame in (current, key))
            assert same.item() == (i == k)
            distances[i].add(i - k)

    assert distances == {0: {0}, 5: {0, 1, 2, 3, 4}, 11: {0, 1, 2, 3, 4}}


def test_image_and_labels_stay_aligned(folder):
    """The image is the painted labels, so after cutting, resizing and mirroring it still is."""
    pairs, aligned, mirrored = clip_pairs(folder, group=20), [], set()
    for n in range(3):
        item = pairs[n]
        for image, labels in zip(item["current"], item["labels"].numpy(), strict=True):
            flat = cv2.erode(labels, np.ones((9, 9))) == cv2.dilate(labels, np.ones((9, 9)))
            error = np.abs(image[0].numpy().astype(int) - labels.astype(int) * 50)
            aligned.append((error[flat] <= 1).mean())
            mirrored.add(bool(labels[16, 0] == labels[16, -1]))

    assert np.mean(aligned) == 1.0


def test_key_and_current_frame_are_cut_alike(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i in range(3):  # the same picture in every frame
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), painted(blobs(0), 1))
    cv2.imwrite(str(tmp_path / "labels" / "2.png"), blobs(0))

    item = clip_pairs(tmp_path, group=30, max_distance=2)[0]

    assert not item["same"].all()
    assert torch.equal(item["key"], item["current"])


def test_augmentation_by_hand(folder, monkeypatch):
    """No enlargement, once as it is and once mirrored: plain resizing as the runtime does it."""

    class Fixed:
        def __init__(self, flip):
            self._flip = flip

        def uniform(self, low, _high):
            return low

        def integers(self, _high):
            return 0

        def random(self):
            return 0.0 if self._flip else 1.0

    pairs = clip_pairs(folder)
    labels = blobs(5)
    labels[:3] = 9  # above K
    image = painted(labels, 5)
    expected = cv2.resize(image, (64, 32), interpolation=cv2.INTER_LINEAR)
    rows = np.minimum(((np.arange(32) + 0.5) * 24 / 32).astype(int), 23)
    columns = np.minimum(((np.arange(64) + 0.5) * 36 / 64).astype(int), 35)
    truth = np.where(labels < 5, labels, IGNORED)[rows][:, columns]

    plain = pairs._augmented(Fixed(False), image, image, labels, True)
    mirrored = pairs._augmented(Fixed(True), image, image, labels, True)

    assert np.array_equal(plain.current, expected)
    assert np.array_equal(plain.labels, truth)
    assert np.array_equal(mirrored.current, expected[:, ::-1])
    assert np.array_equal(mirrored.labels, truth[:, ::-1])


def test_enlargement_cuts_inside_the_frame(folder):
    """Enlarged 1.5 times, the blobs of 6 px are up to 1.5 times as wide."""
    widths = []
    for labels in clip_pairs(folder, group=60)[0]["labels"].numpy():
        edges = np.flatnonzero(np.any(labels[:, 1:] != labels[:, :-1], axis=0))
        widths.append(np.diff(edges).max())

    plain = 6 * 64 / 36
    assert plain * 0.9 < min(widths)
    assert max(widths) > plain * 1.35


def test_labels_of_k_and_above_are_ignored(folder):
    labels = clip_pairs(folder, class_count=3, group=20)[0]["labels"]

    assert set(labels.unique().tolist()) == {0, 1, 2, IGNORED}


def test_clip_items_are_a_function_of_seed_and_number(folder):
    pairs = clip_pairs(folder)
    first = pairs[3]
    pairs[1]

    assert equal(first, pairs[3])
    assert not equal(first, clip_pairs(folder, seed=6)[3])


def test_data_without_labels_is_refused(folder):
    for path in (folder / "labels").iterdir():
        path.unlink()

    with pytest.raises(ConfigError, match="the training data has no labelled frame"):
        clip_pairs(folder)


def test_labels_of_another_size_are_refused(folder):
    for i in (0, 5, 11):
        cv2.imwrite(str(folder / "labels" / f"{i}.png"), np.zeros((12, 18), np.uint8))

    with pytest.raises(SourceError, match=r"is \(24, 36\) and the labels are \(12, 18\), expect"):
        clip_pairs(folder)[0]


# ---- by name


def opened(uri, **changes):
    arguments = {
        "seed": 5,
        "frame_size": SIZE,
        "class_count": len(CLASSES),
        "length": 4,
        "group": 2,
        "max_distance": 3,
    }
    return open_pairs(uri, **(arguments | changes))


def test_synthetic_pairs_by_name():
    by_name = opened("synthetic://street?split=val")

    assert len(by_name) == 4
    assert equal(by_name[1], synthetic(split="val", group=2, max_distance=3)[1])


def test_folder_by_name(folder):
    by_name = opened(str(folder), class_count=5, frame_size=(32, 64))

    assert equal(by_name[1], clip_pairs(folder, max_distance=3)[1])


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("synthetic://street?split=dev", "split is 'dev', expected one of train"),
        ("synthetic://street?clips=3", "is not training data, expected synthetic://street with no"),
        ("synthetic://road", "is not training data, expected synthetic://street"),
        ("rtsp://x", "is not labelled data"),
    ],
)
def test_names_that_mean_nothing_are_refused(uri, message):
    with pytest.raises(ConfigError, match=message):
        opened(uri)


def test_another_number_of_classes_is_refused():
    with pytest.raises(ConfigError, match=r"has 8 classes \(sky, .*the model 3\. Set model\.task"):
        opened("synthetic://street", class_count=3)


def test_groups_are_joined_in_order():
    pairs = synthetic(frame_size=(32, 64), group=2)
    items = [pairs[0], pairs[1]]

    batch = collate_groups(items)

    assert batch["key"].shape[0] == 4
    for name, value in batch.items():
        assert torch.equal(value, torch.cat([item[name] for item in items]))
