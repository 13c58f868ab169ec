"""The model of staleness: which pairs it is fitted on, what is fitted, and when there is none."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from dff_edge.bundle.staleness import MEASURES
from dff_edge.calibration import staleness
from dff_edge.calibration.staleness import (
    MeasuredPairs,
    Stretch,
    fit_growth,
    fit_staleness,
    fit_terms,
    measure_pairs,
    plan_stretches,
    predict,
)
from dff_edge.data.clips import open_clips
from dff_edge.detection_matching import partners
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from tests.bundle.detection_bundles import make_detection_bundle
from tests.export.checkpoints import FRAME_SIZE
from tests.report.clips import NoiseClip


def distances_of(stretch):
    return [later - earlier for earlier, later in combinations(stretch.frames, 2)]


@pytest.mark.parametrize(
    ("length", "pairs", "longest"),
    [(7, 6, 6), (12, 10, 11), (18, 15, 17), (26, 21, 25), (35, 28, 34)],
)
def test_a_stretch_has_a_pair_at_each_of_its_distances(length, pairs, longest):
    stretches = plan_stretches([length, length])

    assert [(stretch.clip, stretch.fold) for stretch in stretches] == [(0, 0), (1, 1)]
    for stretch in stretches:
        found = distances_of(stretch)
        assert len(set(found)) == len(found) == pairs
        assert max(found) == longest
        assert min(stretch.frames) == 0


def test_the_halves_of_a_single_clip_share_no_frame():
    stretches = plan_stretches([0, 100, 5])

    assert {stretch.clip for stretch in stretches} == {1}
    first, second = (
        {i for stretch in stretches if stretch.fold == fold for i in stretch.frames}
        for fold in (0, 1)
    )
    assert max(first) < 50 <= min(second)
    assert max(second) < 100


def test_clips_are_in_one_fold_alone_and_many_are_thinned_out():
    stretches = plan_stretches([90] * 30)

    assert len(stretches) == staleness.MOST_STRETCHES
    folds = {
        stretch.clip: {own.fold for own in stretches if own.clip == stretch.clip}
        for stretch in stretches
    }
    assert all(len(own) == 1 for own in folds.values())
    assert {min(clip for clip, own in folds.items() if own == {fold}) for fold in (0, 1)} == {0, 15}
    assert all(max(stretch.frames) < 90 for stretch in stretches)


def test_clips_that_are_too_short_yield_none():
    assert plan_stretches([6, 0, 3]) == ()
    assert plan_stretches([]) == ()


def pairs_of(found, measures, distances=None, keys=None):
    count = len(found)
    return MeasuredPairs(
        np.ones(count, np.int64) if distances is None else distances,
        measures,
        found,
        np.arange(count) % 2,
        np.zeros(count, np.int64) if keys is None else keys,
    )


def some_measures(count=400):
    return np.random.default_rng(0).normal(0, 1, (count, len(MEASURES)))


def test_fit_finds_the_weights_that_made_the_data(monkeypatch):
    monkeypatch.setattr(staleness, "_RIDGE", 1e-6)
    measures = some_measures()
    true = np.array([0.0, 0.6, 0.3, 0.9, 0.4])
    found = 1 / (1 + np.exp(-(-2 + measures @ true)))
    bias, terms = fit_terms(pairs_of(found, measures), np.ones(400, bool))

    for name, weight in zip(MEASURES, true, strict=True):
        fitted = terms[name].weight / terms[name].deviation if name in terms else 0.0
        assert fitted == pytest.approx(weight, abs=0.02)
    shift = sum(term.weight / term.deviation * term.centre for term in terms.values())
    assert bias - shift == pytest.approx(-2, abs=0.05)


def test_no_weight_is_negative_and_the_mean_is_right():
    measures = some_measures()
    found = 1 / (1 + np.exp(-(-2 - 0.8 * measures[:, 0] + 0.5 * measures[:, 1])))
    fitted = fit_terms(pairs_of(found, measures), np.ones(400, bool))

    assert MEASURES[0] not in fitted[1]
    assert predict(fitted, measures).mean() == pytest.approx(found.mean(), rel=0.01)


def test_a_measure_that_does_not_vary_has_no_weight(monkeypatch):
    monkeypatch.setattr(staleness, "_RIDGE", 1e-6)
    measures = some_measures()
    measures[:, -1] = np.log(0.02)
    found = 1 / (1 + np.exp(-(-2 + 0.6 * measures[:, 1])))
    fitted = fit_terms(pairs_of(found, measures), np.ones(400, bool))

    assert MEASURES[-1] not in fitted[1]
    assert predict(fitted, measures) == pytest.approx(found, abs=0.01)


def test_fit_reads_the_chosen_pairs_alone():
    measures, chosen = some_measures(), np.arange(400) < 200
    found = 1 / (1 + np.exp(-(-2 + 0.6 * measures[:, 1])))
    spoilt = np.where(chosen, found, 1.0)

    assert fit_terms(pairs_of(spoilt, measures), chosen) == fit_terms(
        pairs_of(found, measures), chosen
    )


def test_growth_is_the_exponent_of_the_distance_for_each_key_frame_by_itself():
    distances = np.tile([1, 2, 4, 8], 3)
    keys = np.repeat([0, 1, 2], 4)
    expected = np.array([0.001, 0.01, 0.03])[keys] * distances**0.7

    pairs = pairs_of(expected, some_measures(12), distances, keys)
    assert fit_growth(pairs, expected) == pytest.approx(0.7)
    assert fit_growth(pairs, expected[::-1].copy()) == 0  # never falling
    assert fit_growth(pairs, distances**5 / 1e6) == 2


@pytest.fixture(scope="module")
def street():
    height, width = FRAME_SIZE
    options = f"clips=8&frames=18&height={height}&width={width}&motion=mixed"
    return open_clips(f"synthetic://street?split=train&seed=70&{options}")


def test_what_is_found_is_the_share_of_pixels_that_the_full_network_labels_otherwise(
    bundle, street
):
    pairs = measure_pairs(bundle, street, [Stretch(1, (2, 3, 9), 1)])

    found = []
    with BundlePredictor(bundle, threads=1) as predictor:
        keys = {i: predictor.extract(street[1].image(i)) for i in (2, 3, 9)}
        for k, i in ((2, 3), (2, 9), (3, 9)):
            propagated = predictor.predict(keys[k], street[1].image(i))
            found.append((propagated != predictor.predict(keys[i], None)).mean())
    assert pairs.distances.tolist() == [1, 7, 6]
    assert pairs.found == pytest.approx(found, abs=0.002)  # the graph's warp and the native one
    assert pairs.folds.tolist() == [1, 1, 1]
    assert pairs.keys[0] == pairs.keys[1] != pairs.keys[2]


def test_a_bundle_is_fitted_and_measured_on_other_clips(bundle, street):
    lines = []
    model = fit_staleness(bundle, street, source="the clips", say=lines.append)

    assert (model.source, model.clips, model.pairs, model.max_distance) == (
        "the clips",
        8,
        8 * 15,
        17,
    )
    assert model.quality.rank_correlation > 0.2  # of random weights
    assert sum(own.pairs for own in model.quality.calibration) == 120
    assert lines[0] == "measuring how stale answers become, on 120 pairs"
    assert lines[1].startswith("fitted how stale an answer is: rank correlation ")


def test_a_model_that_tells_less_than_the_distance_is_warned_of(bundle, street, monkeypatch):
    random = np.random.default_rng(0)
    distances = np.tile(np.arange(1, 16), 8)
    measures = random.normal(0, 1, (120, len(MEASURES)))  # nothing to do with what is found
    pairs = pairs_of(distances / 100, measures, distances)
    monkeypatch.setattr(staleness, "measure_pairs", lambda *_: pairs)
    lines = []
    model = fit_staleness(bundle, street, source="the clips", say=lines.append)

    assert model.quality.distance_alone == 1
    assert lines[-1].startswith("Warning: the distance alone tells more")


def test_too_few_clips_are_told_and_yield_no_model(bundle, street):
    lines = []
    assert fit_staleness(bundle, street[:3], source="the clips", say=lines.append) is None
    assert lines == [
        "not fitted how stale an answer is: 3 clips yield 45 pairs of frames, expected 80 and "
        "more, as from one clip of 50 frames, or 3 of 20"
    ]


def test_clips_on_which_nothing_is_stale_are_told_and_yield_no_model(bundle, street):
    class Still:
        name = "still"

        def __len__(self):
            return 18

        def image(self, index):
            return street[0].image(0)

    zero = {"found": np.zeros(120)}
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        count = 120
        patch.setattr(
            staleness,
            "measure_pairs",
            lambda *_: pairs_of(zero["found"], some_measures(count)),
        )
        model = fit_staleness(bundle, [Still()] * 8, source="the clips", say=lines.append)
    assert model is None
    assert "on these clips propagated answers are those of the full network" in lines[-1]


def test_frames_are_read_once_and_in_rising_order(bundle, street):
    class Noting:
        name = "noting"

        def __init__(self, clip):
            self.clip, self.read = clip, []

        def image(self, index):
            self.read.append(index)
            return self.clip.image(index)

    clips = [Noting(street[0]), Noting(street[1])]
    stretches = [
        Stretch(0, (0, 3, 8), 0), Stretch(0, (2, 3, 7), 0), Stretch(0, (7, 9), 0),
        Stretch(1, (1, 2), 1),
    ]  # fmt: skip
    pairs = measure_pairs(bundle, clips, stretches)
    again = measure_pairs(bundle, street, stretches[1:2])

    assert [clip.read for clip in clips] == [[0, 2, 3, 7, 8, 9], [1, 2]]
    assert len(pairs.found) == 3 + 3 + 1 + 1
    assert pairs.found[3:6] == pytest.approx(again.found)


def test_pairs_without_a_flow_are_left_out(bundle, street, monkeypatch):
    calls = iter([1.0, np.nan, 1.0])
    monkeypatch.setattr(staleness, "measure_motion", lambda *_: (next(calls),) * 4)
    pairs = measure_pairs(bundle, street, [Stretch(0, (0, 1, 4), 0)])

    assert pairs.distances.tolist() == [1, 3]
    assert len(pairs.measures) == len(pairs.found) == len(pairs.folds) == len(pairs.keys) == 2


def test_of_detections_what_differs_is_the_score_that_is_not_shared_and_scores_tell_doubt(tmp_path):
    detector = make_detection_bundle(tmp_path / "detector")
    clip = NoiseClip(4, length=5, size=detector.manifest.frame_size)
    pairs = measure_pairs(detector, [clip], [Stretch(0, (0, 1, 4), 0)])

    found, doubts = [], []
    with BundlePredictor(detector, threads=1) as predictor:
        keys = {i: predictor.extract(clip.image(i)) for i in (0, 1, 4)}
        keys_scores = {
            i: predictor.predict(own, None).above(0.1).scores.sum() for i, own in keys.items()
        }
        for k, i in ((0, 1), (0, 4), (1, 4)):
            answer, full = (
                predictor.predict(keys[k], clip.image(i)),
                predictor.predict(keys[i], None),
            )
            answer, full = answer.above(0.1), full.above(0.1)
            pair = partners(answer, full, min_iou=0.5)
            shared = sum(
                min(answer.scores[n], full.scores[m]) for n, m in enumerate(pair) if m >= 0
            )
            total = answer.scores.sum() + full.scores.sum()
            found.append((total - 2 * shared) / max(total, 2))
            most = max(answer.scores.sum(), keys_scores[k])
            unsure = 1 - (answer.scores**2).sum() / answer.scores.sum() if len(answer) else 1
            doubts.append(unsure * min(most, 1))
    assert 0 < min(found) < max(found) <= 1
    assert pairs.found == pytest.approx(found, abs=1e-3)
    assert np.exp(pairs.measures[:, -1]) - 0.02 == pytest.approx(doubts, abs=1e-3)
