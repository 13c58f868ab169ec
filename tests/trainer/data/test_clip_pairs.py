"""Pairs of labelled clips: which frames, and that frames and truth stay aligned."""

import cv2
import numpy as np
import pytest
import torch

from dff_edge.boxes import TrueBoxes
from dff_edge.data.clips import open_clips
from dff_edge.errors import ConfigError, SourceError
from dff_edge.trainer.config import AugmentConfig
from dff_edge.trainer.data import ClipPairs, StillPairs
from dff_edge.trainer.data.labelled_pairs import read_frame
from dff_edge.trainer.data.pairs import IGNORED, Truth
from tests.trainer.data.painted import blobs, painted
from tests.trainer.data.same import equal


def clip_pairs(folder, **changes):
    arguments = {
        "seed": 5,
        "frame_size": (32, 64),
        "class_count": 5,
        "length": 20,
        "group": 2,
        "max_distance": 4,
        "augment": AugmentConfig(colour=0),
    }
    return ClipPairs(open_clips(str(folder)), **(arguments | changes))


def test_clip_pairs_shapes_and_unknown_flow(folder):
    item = clip_pairs(folder)[0]

    assert tuple(item["key"].shape) == (2, 3, 32, 64)
    assert tuple(item["labels"].shape) == (2, 32, 64)
    assert tuple(item["flow_px"].shape) == (2, 2, 4, 8)
    assert item["flow_px"].isnan().all()


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

        def integers(self, low, _high):
            return low

        def random(self):
            return 0.0 if self._flip else 1.0

    pairs = clip_pairs(folder)
    labels = blobs(5)
    labels[:3] = IGNORED
    image = painted(labels, 5)
    expected = cv2.resize(image, (64, 32), interpolation=cv2.INTER_LINEAR)
    rows = np.minimum(((np.arange(32) + 0.5) * 24 / 32).astype(int), 23)
    columns = np.minimum(((np.arange(64) + 0.5) * 36 / 64).astype(int), 35)
    truth = labels[rows][:, columns]

    plain = pairs._augmented(Fixed(False), image, image, Truth(labels), True)
    mirrored = pairs._augmented(Fixed(True), image, image, Truth(labels), True)

    assert np.array_equal(plain.current, expected)
    assert np.array_equal(plain.truth.labels, truth)
    assert np.array_equal(mirrored.current, expected[:, ::-1])
    assert np.array_equal(mirrored.truth.labels, truth[:, ::-1])


def test_reduction_shows_the_whole_frame_and_scores_nothing_else(folder):
    """Between half and full size: what is scored is a rectangle of the frame's proportions."""
    pairs = clip_pairs(folder, group=40, augment=AugmentConfig(enlarge=1, shrink=0.5, colour=0))

    shares = []
    for image, labels in zip(pairs[0]["current"], pairs[0]["labels"].numpy(), strict=True):
        scored = labels != IGNORED
        rows, columns = (np.flatnonzero(scored.any(axis=axis)) for axis in (1, 0))
        assert scored[np.ix_(rows, columns)].all()
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert height / 32 == pytest.approx(width / 64, abs=0.06)
        shares.append(height / 32)
        flat = cv2.erode(labels, np.ones((9, 9))) == cv2.dilate(labels, np.ones((9, 9)))
        error = np.abs(image[0].numpy().astype(int) - labels.astype(int) * 50)
        assert (error[flat & scored] <= 1).all()
    assert 0.45 < min(shares) < 0.6
    assert 0.85 < max(shares) <= 1


def test_reduced_boxes_are_where_their_objects_are(tmp_path):
    """A bright square on black, in a frame that is half as large and anywhere in the network's."""
    pairs = ClipPairs.__new__(ClipPairs)
    pairs.frame_size, pairs.augment = (64, 64), AugmentConfig(enlarge=1, shrink=0.5, colour=0)
    pairs.crop = None
    image = np.zeros((64, 64, 3), np.uint8)
    image[20:40, 30:50] = 255
    box = TrueBoxes(np.float32([[30, 20, 50, 40]]), np.int64([1]), np.array([False]))

    for seed in range(10):
        rng = np.random.default_rng(seed)
        pair = pairs._augmented(rng, image, image, Truth(boxes=box), True)
        rows, columns = (np.flatnonzero((pair.current[..., 0] > 127).any(axis=a)) for a in (1, 0))
        seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(pair.truth.boxes.boxes[0], seen, atol=1.0)


def test_enlargement_cuts_inside_the_frame(folder):
    """Enlarged 1.5 times, the blobs of 6 px are up to 1.5 times as wide."""
    widths = []
    for labels in clip_pairs(folder, group=60)[0]["labels"].numpy():
        edges = np.flatnonzero(np.any(labels[:, 1:] != labels[:, :-1], axis=0))
        widths.append(np.diff(edges).max())

    plain = 6 * 64 / 36
    assert plain * 0.9 < min(widths)
    assert max(widths) > plain * 1.35


def test_labels_of_no_class_are_refused(folder):
    with pytest.raises(SourceError, match=r"png: .* of no class, 4 the largest, expected 0 to 2"):
        clip_pairs(folder, class_count=3, group=20)[0]


def test_pixels_that_are_not_scored_stay_so(folder):
    for path in (folder / "labels").iterdir():
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(labels > 2, 255, labels))

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

    with pytest.raises(SourceError, match="labels are of 18 x 12 pixels, and frame .* 36 x 24"):
        clip_pairs(folder)[0]


class BoxedClip:
    """One frame, black but for its first object."""

    name = "boxed"

    def __len__(self):
        return 1

    def image(self, index):
        image = np.zeros((48, 64, 3), np.uint8)
        image[12:36, 16:40] = 255
        return image

    def is_labelled(self, index):
        return True

    def labels(self, index):
        return None

    def boxes(self, index):
        boxes = np.float32([[16, 12, 40, 36], [0, 0, 8, 8]])
        return TrueBoxes(boxes, np.int32([1, 0]), np.array([False, True]))


@pytest.mark.parametrize("kind", [ClipPairs, StillPairs])
def test_boxes_stay_aligned(kind):
    """After cutting, moving, resizing and mirroring, the box still bounds its white pixels."""
    pairs = kind(
        [BoxedClip()],
        seed=1,
        frame_size=(96, 96),
        class_count=2,
        length=9,
        group=40,
        max_distance=9,
        augment=AugmentConfig(),
        task="detection",
    )

    item = pairs[0]

    assert "labels" not in item
    numbers = set()
    for image, boxes, labels in zip(
        item["current"], item["boxes"], item["box_labels"], strict=True
    ):
        numbers |= set(labels.tolist())
        ys, xs = np.nonzero(image[1].numpy() > 110)
        bounds = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        (index,) = torch.nonzero(labels == 1).flatten()
        np.testing.assert_allclose(boxes[index], bounds, atol=1.5 if kind is ClipPairs else 4)
    assert numbers == {-1, 1}


def test_data_of_the_other_task_is_refused(folder):
    with pytest.raises(SourceError, match="has label maps and no boxes, expected boxes"):
        clip_pairs(folder, task="detection")[0]
    with pytest.raises(SourceError, match="has boxes and no label maps, expected label maps"):
        read_frame(BoxedClip(), 0, 2, "segmentation")


def crops(**changes):
    arguments = {
        "seed": 1,
        "frame_size": (96, 128),
        "class_count": 2,
        "length": 9,
        "group": 80,
        "max_distance": 0,
        "augment": AugmentConfig(enlarge=1, colour=0),
        "task": "detection",
        "crop": (32, 64),
    }
    return ClipPairs([BoxedClip()], **(arguments | changes))


def test_crops_have_the_scale_of_whole_frames_and_most_hold_an_object():
    """The square of 24 px is 48 px in a frame of twice the size, taller than a crop."""
    item = crops()[0]

    assert tuple(item["current"].shape) == (80, 3, 32, 64)
    assert tuple(item["flow_px"].shape) == (80, 2, 4, 8)
    holds = []
    for image, boxes, labels in zip(
        item["current"], item["boxes"], item["box_labels"], strict=True
    ):
        columns = (image[1] > 127).any(dim=0).numpy()
        found = boxes[labels == 1].numpy()
        holds.append(columns.sum() == 48 and len(found) == 1)
        if holds[-1]:
            start = np.flatnonzero(columns)[0]
            np.testing.assert_allclose(found[0, [0, 2]], [start, start + 48], atol=1)
    assert 0.65 <= np.mean(holds) < 1  # three of four


def test_crops_of_other_scales_are_larger_or_smaller_parts():
    item = crops(augment=AugmentConfig(enlarge=1, shrink=0.5, colour=0))[0]

    areas = [
        (image[1] > 127).sum().item()
        for image, boxes in zip(item["current"], item["boxes"], strict=True)
        if len(boxes) and (image[1, 0] < 127).all() and (image[1, -1] < 127).all()
    ]

    assert 24**2 < min(areas) < 30**2
    assert max(areas) > 26**2
