"""Synthetic scenes: exact labels, boxes and flow, for any size, the same for the same seed."""

import dataclasses
import gc
import itertools
import weakref

import numpy as np
import pytest

from dff_edge.errors import ConfigError
from dff_edge.synthetic import CLASSES, COLOURS, SPLITS, StreetScene
from dff_edge.synthetic.motion import compose, invert
from tests.synthetic.scenes import PEDESTRIAN, POLE, SIZE, SKY, VEHICLE, flat, staged

ALL_SIZES = [(32, 32), (33, 47), (96, 160), (101, 77), (240, 426), (64, 512), (320, 48)]


# ---- frames and labels


def test_same_seed_gives_the_same_frames_in_any_order():
    first, second = (StreetScene(7, "train", SIZE, 60) for _ in range(2))
    forward = [first.render(index) for index in (0, 20, 59)]
    backward = [second.render(index) for index in (59, 20, 0)][::-1]

    for (image, labels), (other_image, other_labels) in zip(forward, backward, strict=True):
        assert np.array_equal(image, other_image)
        assert np.array_equal(labels, other_labels)


def test_length_does_not_change_the_frames():
    short, long = (StreetScene(7, "train", SIZE, length) for length in (5, 500))

    assert np.array_equal(short.render(4)[0], long.render(4)[0])


def test_no_scene_is_in_two_splits():
    layouts = [
        StreetScene(seed, split, (32, 64), 1).render(0)[1].tobytes()
        for seed in (0, 1, 2, 2**32, 2**61)
        for split in SPLITS
    ]

    assert len(set(layouts)) == len(layouts)


@pytest.mark.parametrize("size", ALL_SIZES)
def test_any_size(size):
    for seed in range(5):
        scene = StreetScene(seed, "test", size, 30)
        image, labels = scene.render(29)
        flow, occluded = scene.flow(29, 20)

        assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
        assert (labels.shape, labels.dtype) == (size, np.uint8)
        assert labels.max() < len(CLASSES)
        assert (flow.shape, flow.dtype) == ((*size, 2), np.float32)
        assert (occluded.shape, occluded.dtype) == (size, np.bool_)
        assert np.isfinite(flow).all()


@pytest.mark.slow
def test_4k():
    scene = StreetScene(0, "val", (2160, 3840), 2)

    image, labels = scene.render(1)

    assert image.shape == (2160, 3840, 3)
    assert len(np.unique(labels)) > 4


@pytest.mark.parametrize("size", [*ALL_SIZES, (32, 256)])
def test_background_covers_the_frame_at_all_times(size):
    height, width = size
    corners = np.array([[x, y] for x in (0.0, width - 1) for y in (0.0, height - 1)])
    for seed in range(5):
        scene = StreetScene(seed, "val", size, 400)
        sky = scene._surfaces[0]
        rows, columns = sky.texture.shape[:2]
        for index in range(0, 400, 20):
            texture = sky.to_texture(corners, index)
            assert (texture >= 0).all()
            assert (texture <= (columns - 1, rows - 1)).all()


def test_every_class_appears():
    seen = set()
    for seed in range(6):
        seen |= set(np.unique(StreetScene(seed, "train", SIZE, 1).render(0)[1]))

    assert seen == set(range(len(CLASSES)))
    assert len(COLOURS) == len(CLASSES)


def test_rendered_arrays_are_the_caller_s():
    scene = StreetScene(7, "train", SIZE, 60)
    image, labels = scene.render(3)
    before = image.copy(), labels.copy()
    image[:], labels[:] = 0, 0

    assert np.array_equal(scene.render(3)[0], before[0])
    assert np.array_equal(scene.render(3)[1], before[1])


def test_effects_change_images_and_not_labels():
    scene, other = (StreetScene(7, "train", SIZE, 60) for _ in range(2))
    other._effects = StreetScene(8, "train", SIZE, 60)._effects

    (image, labels), (other_image, other_labels) = scene.render(3), other.render(3)

    assert (image != other_image).mean() > 0.5
    assert np.array_equal(labels, other_labels)


def test_images_hold_noise_and_changing_light(scenes):
    scene = scenes[0]
    clean, _ = scene._drawn(5)
    noise = scene.render(5)[0].astype(float) - scene._effects.apply(clean, 6, 0.0)
    bright = [scene._effects.apply(np.full_like(clean, 128), t, 0.0).mean() for t in range(60)]

    assert noise.std() > 1
    assert max(np.ptp([s._effects.gain.at(t) for t in range(60)]) for s in scenes) > 0.05
    assert np.ptp(bright) > 0.5


def test_scene_is_freed_without_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        scene = StreetScene(0, "val", (32, 64), 2)
        scene.render(1)
        held = weakref.ref(scene)
        texture = weakref.ref(scene._surfaces[0])
        del scene
        assert held() is None
        assert texture() is None
    finally:
        gc.enable()


# ---- boxes


def test_boxes_are_tight_around_the_visible_pixels(scenes):
    checked = 0
    for scene, index in itertools.product(scenes, (0, 30, 59)):
        _, labels = scene.render(index)
        boxes = scene.boxes(index)
        for box in boxes:
            x0, y0, x1, y1 = box.xyxy
            inside = labels[y0:y1, x0:x1] == box.label
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.any()
            assert 0 < box.visible_px <= inside.sum()
            checked += 1
        for label in (VEHICLE, PEDESTRIAN, POLE):
            of_class = [box for box in boxes if box.label == label]
            covered = np.zeros(labels.shape, bool)
            for x0, y0, x1, y1 in (box.xyxy for box in of_class):
                covered[y0:y1, x0:x1] = True
            assert covered[labels == label].all()
            assert sum(box.visible_px for box in of_class) == (labels == label).sum()
    assert checked > 30


def test_box_of_a_half_hidden_square():
    ground = flat(SKY, 0.0, (40, 60), lambda t: (0, 0))
    far = flat(VEHICLE, 0.5, (8, 10), lambda t: (20, 10))
    near = flat(POLE, 0.9, (20, 4), lambda t: (26, 5))

    boxes = staged(ground, far, near).boxes(0)

    assert [(box.label, box.identity, box.xyxy, box.visible_px) for box in boxes] == [
        (VEHICLE, 1, (20, 10, 26, 18), 8 * 6),
        (POLE, 2, (26, 5, 30, 25), 80),
    ]


def test_hidden_object_has_no_box():
    ground = flat(SKY, 0.0, (40, 60), lambda t: (0, 0))
    far = flat(VEHICLE, 0.5, (8, 10), lambda t: (20, 10))
    near = flat(POLE, 0.9, (20, 20), lambda t: (15, 5))

    assert [box.identity for box in staged(ground, far, near).boxes(0)] == [2]


def test_objects_enter_and_leave():
    scene = StreetScene(1, "val", SIZE, 300)
    seen = [{box.identity for box in scene.boxes(index)} for index in range(0, 300, 10)]

    pairs = list(itertools.pairwise(seen))
    assert any(later - earlier for earlier, later in pairs)
    assert any(earlier - later for earlier, later in pairs)


def test_objects_cross_the_world_also_before_a_still_camera():
    scene = StreetScene(1, "val", SIZE, 300)

    def places(surface):
        """Left edges in the world, without what the camera does."""
        return [
            compose(invert(scene._camera.matrix(t, surface.depth)), surface.matrix(t))[0, 2]
            for t in range(0, 300, 10)
        ]

    travel = {}
    for surface in scene._surfaces:
        travel.setdefault(surface.label, []).append(np.ptp(places(surface)))

    assert max(travel[VEHICLE]) > SIZE[1]
    assert min(travel[PEDESTRIAN]) > 10
    assert max(travel[POLE]) < 1e-6


# ---- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "split is 'dev', expected one of train, val, test"),
        ({"size": (31, 64)}, r"size is \(31, 64\), expected height and width from 32 to 8192"),
        ({"size": (64, 9000)}, r"size is \(64, 9000\)"),
        ({"size": (64, 513)}, "at most 8 times as wide as high"),
        ({"seed": -1}, "seed is -1"),
        ({"length": 0}, "length 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        StreetScene(**({"seed": 0} | arguments))


@pytest.mark.parametrize("index", [-1, 60])
def test_frames_that_do_not_exist_are_refused(scenes, index):
    for call in (
        lambda: scenes[0].render(index),
        lambda: scenes[0].boxes(index),
        lambda: scenes[0].flow(index, 0),
        lambda: scenes[0].flow(0, index),
    ):
        with pytest.raises(IndexError, match=f"frame {index} of a scene of 60"):
            call()


@pytest.mark.parametrize("stride", [0, -1, 97])
def test_strides_that_make_no_cells_are_refused(scenes, stride):
    with pytest.raises(ConfigError, match=f"stride is {stride}, expected 1 to 96"):
        scenes[0].flow(1, 0, stride)


def test_box_is_a_value():
    scene = StreetScene(0, "val", SIZE, 2)

    with pytest.raises(dataclasses.FrozenInstanceError):
        scene.boxes(0)[0].label = 3
