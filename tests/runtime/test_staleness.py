"""Staleness of an answer: measures by hand, the model by its definition, what pipelines tell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dff_edge.boxes import Detections
from dff_edge.bundle.staleness import MEASURES, Term
from dff_edge.frames import Frame
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sequential import SequentialRunner, open_graphs
from dff_edge.runtime.staleness import (
    Staleness,
    doubt,
    measure_motion,
    small_picture,
    sum_of_scores,
    with_doubt,
)
from dff_edge.runtime.tasks.decoders import Answer
from dff_edge.runtime.tasks.detection import BoxDecoder
from tests.bundle.bundles import make_bundle
from tests.bundle.detection_bundles import make_detection_bundle
from tests.bundle.staleness_models import staleness_fields, with_staleness

CELLS = (6, 8)
HALF = (1, 48, 64, 3)  # stride 16
FLOORS = {"distance": 0.5, "flow": 0.01, "flow_spread": 0.01, "error": 0.5}


def measured(distance=4, flow=(0.0, 0.0), key=None, frame=None):
    """Measures by name, without logarithm and floor."""
    moved = np.broadcast_to(np.asarray(flow, np.float32), (1, *CELLS, 2))
    grey = np.full(HALF, 90, np.uint8)
    pictures = (small_picture(grey if half is None else half, CELLS) for half in (key, frame))
    found = measure_motion(distance, moved, *pictures)
    return {name: math.exp(v) - FLOORS[name] for name, v in zip(FLOORS, found, strict=True)}


def expected_of(model, distance, flow, *smalls):
    """Give the disagreement that a model expects of a label map, which has no doubt."""
    return model.expect(measure_motion(distance, flow, *smalls), Answer(), 0.0)


@pytest.mark.parametrize("pixels", [2, 4], ids=["stride 8", "stride 16"])
def test_a_small_picture_has_the_means_of_quarters_of_a_cell(pixels):
    height, width = (2 * pixels * side for side in CELLS)
    half = np.random.default_rng(2).integers(0, 256, (1, height, width, 3)).astype(np.uint8)

    means = half.reshape(2 * CELLS[0], pixels, 2 * CELLS[1], pixels, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small_picture(half, CELLS), means, atol=1)  # rounded at each halving


def test_a_frame_that_stands_still_measures_nothing_but_its_distance():
    found = measured(distance=7)
    assert found == pytest.approx({**dict.fromkeys(FLOORS, 0.0), "distance": 7}, abs=1e-6)


def test_flow_is_measured_in_feature_cells():
    found = measured(flow=(3.0, -4.0))
    assert found["flow"] == pytest.approx(5)
    assert found["flow_spread"] == pytest.approx(0, abs=1e-6)

    rising = np.zeros((1, *CELLS, 2), np.float32)
    rising[..., 0] = 0.3 * np.arange(CELLS[1])  # 0 .. 2.1 to the right
    rising[..., 0] += 0.4 * np.arange(CELLS[0])[:, None]
    found = measured(flow=rising)
    assert found["flow"] == pytest.approx(0.3 * 3.5 + 0.4 * 2.5)
    assert found["flow_spread"] == pytest.approx(0.5)


def test_error_is_that_of_the_key_frame_moved_by_the_flow():
    key = np.full(HALF, 30, np.uint8)
    key[:, :, 24:40] = 240  # two cells wide, 8 pixels a cell
    frame = np.roll(key, 8, axis=2)
    # From the frame to the key frame: what is seen here was one cell further left.
    right, still = (measured(flow=(dx, 0.0), key=key, frame=frame)["error"] for dx in (-1, 0))

    assert right == pytest.approx(0, abs=1e-4)
    assert still == pytest.approx(210 * 16 / 64)


def test_a_change_of_the_light_is_no_error():
    rng = np.random.default_rng(1)
    key = rng.integers(20, 200, HALF).astype(np.uint8)
    brighter = np.rint(key * np.float32([1.2, 1.1, 0.9])).astype(np.uint8)

    assert measured(key=key, frame=brighter)["error"] < 0.5  # whole levels
    assert measured(key=np.zeros(HALF, np.uint8), frame=brighter)["error"] > 90


def test_expected_disagreement_is_the_logistic_of_the_weighted_measures():
    terms = {"distance": Term(weight=0.5, centre=1.0, deviation=2.0)}
    terms["flow"] = Term(weight=2.0, centre=-1.0, deviation=0.5)
    total = -9.5 + 0.5 * (math.log(4.5) - 1) / 2 + 2 * (math.log(5.01) + 1) / 0.5
    flow = np.broadcast_to(np.float32([3, -4]), (1, *CELLS, 2))
    small = small_picture(np.zeros(HALF, np.uint8), CELLS)

    found = expected_of(Staleness(-9.5, terms), 4, flow, small, small)
    assert found == pytest.approx(1 / (1 + math.exp(-total)))


@pytest.mark.parametrize("measure", ["distance", "doubt"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -3e38])
def test_an_answer_without_a_flow_is_stale_whatever_the_model(wrong, measure):
    model = Staleness(-5, {measure: Term(weight=0.5, centre=1.0, deviation=2.0)})
    flow = np.full((1, *CELLS, 2), wrong, np.float32)
    small = small_picture(np.zeros(HALF, np.uint8), CELLS)

    assert expected_of(model, 1, flow, small, small) == 1.0


def scored(*scores):
    """An answer with boxes of these scores."""
    count = len(scores)
    boxes, labels = np.zeros((count, 4), np.float32), np.zeros(count, np.int32)
    return Answer(detections=Detections(boxes, np.array(scores, np.float32), labels))


@pytest.mark.parametrize(
    ("scores", "most", "expected"),
    [
        ((0.75, 0.25), 0.0, 1 - (0.75**2 + 0.25**2) / 1.0),
        ((0.9, 0.8, 0.05, 0.01), 0.0, 1 - (0.9**2 + 0.8**2) / 1.7),  # below 0.1 is nothing
        ((0.5,), 0.0, 0.5 * 0.5),  # half an object, half in doubt
        ((0.5,), 0.9, 0.5 * 0.9),  # an object from the same key frame before
        ((), 0.9, 0.9),  # not found any more
        ((0.09,) * 40, 0.0, 0.0),  # an empty scene
        ((), 0.0, 0.0),
        ((1.5,), 1.5, 0.0),  # no probabilities
    ],
)
def test_doubt_is_of_what_may_be_objects(scores, most, expected):
    assert doubt(scored(*scores), most) == pytest.approx(expected, abs=1e-6)


def test_doubt_of_an_answer_is_the_last_measure():
    assert MEASURES[-1] == "doubt"
    measures = with_doubt((1.0, 2.0), scored(0.75, 0.25), 0.0)
    assert measures == pytest.approx((1.0, 2.0, math.log(0.375 + 0.02)))
    assert with_doubt((), Answer(labels=np.zeros((2, 2), np.uint8)), 0.0) == (math.log(0.02),)


def test_no_sum_is_too_large():
    for weight, expected in ((100.0, 1.0), (0.0, 0.0)):
        model = Staleness(-100.0, {"distance": Term(weight=weight, centre=-100, deviation=0.001)})
        assert model.expect_of(np.zeros(len(MEASURES))) == pytest.approx(expected)


def test_staleness_at_another_distance_follows_the_growth():
    model = Staleness(0.0, {"flow": Term(weight=1.0, centre=0.0, deviation=1.0)}, growth=0.5)

    assert model.foretell(0.03, 4, 4) == pytest.approx(0.03)
    assert model.foretell(0.03, 4, 16) == pytest.approx(0.06)
    assert model.foretell(0.4, 1, 16) == 1.0


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (7, 6, 10, 3), np.uint8)
    return [np.kron(image, np.ones((8, 8, 1), np.uint8)) for image in small]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    made = make_bundle(tmp_path_factory.mktemp("b") / "b", precisions=("fp32", "int8"))
    return with_staleness(made)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("depth", [1, 3])
def test_results_tell_what_the_model_says_of_their_flow(bundle, images, depth, precision):
    frames = [Frame(image, index, index / 30) for index, image in enumerate(images)]
    fields = staleness_fields()
    terms = {name: Term(**values) for name, values in fields["terms"].items()}
    model = Staleness(fields["bias"], terms)
    with open_graphs(bundle, precision) as subnets:
        runner = SequentialRunner(subnets)
        halves = [runner.half(image) for image in images]
        expected = []
        for i in range(len(images)):
            k = i - i % 4
            moved = runner.estimate_flow(halves[k], halves[i])
            cells = moved["flow"].shape[1:3]
            smalls = [small_picture(half, cells) for half in (halves[k], halves[i])]
            own = expected_of(model, i - k, moved["flow"], *smalls)
            expected.append(own if i % 4 else 0.0)

    how = {"precision": precision, "depth": depth, "policy": "fixed:4", "threads": 1}
    with Pipeline.open(bundle, **how) as pipeline:
        results = list(pipeline.run(frames))
    # Not to the bit: float32 is summed in vectors, and so rounded by where arrays lie in memory.
    told = [result.expected_disagreement for result in results]
    assert told == pytest.approx(expected, rel=1e-7)
    assert len(set(expected)) == 6
    assert set(results[1].stage_ms) >= {"flow", "staleness"}


@pytest.mark.parametrize("depth", [1, 3])
def test_results_with_scores_are_as_stale_as_their_doubt_says(tmp_path, depth):
    detector = make_detection_bundle(tmp_path / "detector")
    term = {"weight": 1.5, "centre": -1.0, "deviation": 0.5}
    detector = with_staleness(detector, bias=-2.0, terms={"doubt": term})
    height, width = detector.manifest.frame_size
    noise = np.random.default_rng(3).integers(0, 256, (5, height, width, 3), np.uint8)
    frames = [Frame(image, index, index / 30) for index, image in enumerate(noise)]

    with Pipeline.open(detector, depth=depth, policy="fixed:3", threads=1) as pipeline:
        results = list(pipeline.run(frames))
    found = [Answer(detections=result.detections) for result in results]
    for i, result in enumerate(results):
        most = max(sum_of_scores(found[n]) for n in range(result.key_index, i + 1))
        own = doubt(found[i], most)
        total = -2.0 + 1.5 * (math.log(own + 0.02) + 1) / 0.5
        expected = 0.0 if result.is_key else 1 / (1 + math.exp(-total))
        assert result.expected_disagreement == pytest.approx(expected)
    assert len({result.expected_disagreement for result in results}) == 4


@pytest.mark.parametrize("depth", [1, 3])
def test_what_is_not_found_any_more_is_in_doubt_until_the_next_key_frame(
    tmp_path, monkeypatch, depth
):
    answers = iter([scored(0.9), scored(), scored(0.6), scored(), scored(), scored()])
    monkeypatch.setattr(BoxDecoder, "decode", lambda *_: next(answers))
    detector = make_detection_bundle(tmp_path / "detector")
    term = {"weight": 1.0, "centre": 0.0, "deviation": 1.0}
    detector = with_staleness(detector, bias=0.0, terms={"doubt": term})
    frames = [Frame(np.zeros((64, 64, 3), np.uint8), index, index / 30) for index in range(6)]

    with Pipeline.open(detector, depth=depth, policy="fixed:4", threads=1) as pipeline:
        told = [result.expected_disagreement for result in pipeline.run(frames)]
    # The key frame has 0.9 of an object; lost, found half sure, lost; the next one has none.
    doubts = [None, 0.9, 0.9 * (1 - 0.6), 0.9, None, 0.0]
    assert told == [
        0.0 if own is None else pytest.approx((own + 0.02) / (1 + own + 0.02), abs=1e-6)
        for own in doubts
    ]


def test_a_bundle_without_a_model_tells_nothing(tmp_path, images):
    with Pipeline.open(make_bundle(tmp_path / "b"), threads=1) as pipeline:
        results = list(pipeline.run(Frame(image, i, i / 30) for i, image in enumerate(images)))

    assert [result.expected_disagreement for result in results] == [None] * len(images)
    assert not any("staleness" in result.stage_ms for result in results)
