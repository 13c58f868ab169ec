"""Decoding against its definition, and against OpenCV's resize."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from dff_edge.errors import ConfigError, ShapeError
from dff_edge.runtime.kernels.decode import decode_labels

TIE = 1e-5  # pixels whose two best scores are closer may go either way in float32
AGREEMENT = 0.9999  # with OpenCV, whose weights are rounded otherwise

CASES = [
    # (h, w, K), (H_out, W_out)
    ((5, 7, 19), (80, 112)),  # stride 16
    ((5, 7, 3), (37, 41)),  # odd ratios
    ((3, 4, 5), (3, 4)),  # the same size
    ((3, 4, 5), (9, 12)),  # odd stride: some pixels on cell centres
    ((9, 11, 6), (4, 5)),  # shrinking
    ((1, 1, 4), (6, 5)),  # one cell
    ((1, 6, 4), (7, 90)),  # one row
    ((6, 1, 4), (90, 1)),  # one column
    ((2, 2, 256), (21, 300)),  # every label that there is
    ((4, 4, 1), (9, 9)),  # one class
    ((5, 7, 20), (1, 1)),  # one pixel
]


def interpolate_by_definition(scores, size):
    """Every score at every pixel, in float64: bilinear at cell centres, clamped."""
    h, w, _ = scores.shape
    rows = weights_by_definition(h, size[0])
    columns = weights_by_definition(w, size[1])
    return np.einsum("Yh,Xw,hwk->YXk", rows, columns, scores.astype(np.float64))


def weights_by_definition(cells, pixels):
    centre = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    return np.maximum(0, 1 - abs(np.arange(cells)[None] - centre[:, None]))


@pytest.fixture
def rng():
    return np.random.default_rng(21)


@pytest.mark.parametrize(("shape", "size"), CASES, ids=str)
def test_matches_the_definition(rng, shape, size):
    scores = rng.standard_normal(shape, np.float32)

    labels = decode_labels(scores, size)

    assert labels.shape == size
    assert labels.dtype == np.uint8
    assert_labels_by_definition(labels, scores)


def test_matches_the_definition_on_random_sizes(rng):
    for _ in range(50):
        shape = tuple(int(v) for v in rng.integers(1, [9, 9, 30]))
        size = tuple(int(v) for v in rng.integers(1, 60, 2))
        scores = rng.standard_normal(shape, np.float32)

        assert_labels_by_definition(decode_labels(scores, size), scores)


def assert_labels_by_definition(labels, scores):
    expected = interpolate_by_definition(scores, labels.shape)
    best_two = np.sort(expected, axis=-1)[..., -2:]
    is_clear = best_two[..., -1] - best_two[..., 0] > TIE
    if scores.shape[-1] == 1:
        is_clear[...] = True
    assert is_clear.mean() > 0.95
    np.testing.assert_array_equal(labels[is_clear], expected.argmax(-1)[is_clear])


@pytest.mark.parametrize("size", [(512, 1024), (720, 1280), (501, 333), (16, 20)], ids=str)
def test_agrees_with_opencv(rng, size):
    scores = cv2.GaussianBlur(rng.standard_normal((32, 64, 20), np.float32), (0, 0), 1.5)

    labels = decode_labels(scores, size)

    expected = cv2.resize(scores, size[::-1], interpolation=cv2.INTER_LINEAR).argmax(-1)
    assert (labels == expected).mean() >= AGREEMENT


@pytest.mark.parametrize(
    ("factor", "offset", "step"), [(1, 0, 0), (1, 0, 0.5), (1e6, 0, 0), (1e-3, 100, 0)]
)
def test_no_class_is_above_the_one_that_is_given(rng, factor, offset, step):
    """Few and many classes, large and small scores, ties.

    Two cells whose winners differ are settled between these two only where no third one can win.
    """
    for _ in range(60):
        h, w, classes, height, width = rng.integers(1, (7, 9, 9, 90, 120))
        scores = rng.normal(size=(h, w, classes))
        scores = np.round(scores / step) * step if step else scores
        scores = (factor * scores + offset).astype(np.float32)

        labels = decode_labels(scores, (height, width))

        exact = interpolate_by_definition(scores, (height, width))
        given = np.take_along_axis(exact, labels[..., None].astype(int), axis=-1)[..., 0]
        assert (exact.max(axis=-1) - given).max() <= TIE * max(1, np.abs(scores).max())


def test_the_lowest_class_wins_a_tie(rng):
    scores = np.repeat(rng.integers(0, 2, (5, 7, 4)).astype(np.float32), 2, axis=-1)

    labels = decode_labels(scores, (20, 28))

    assert (labels % 2 == 0).all()  # each class has a twin right after it


def test_equal_scores_give_class_zero():
    assert not decode_labels(np.full((5, 7, 19), 0.3, np.float32), (80, 112)).any()


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_nan_class_never_wins(rng, position):
    scores = rng.standard_normal((5, 7, 3), np.float32)
    scores[..., position] = np.nan

    labels = decode_labels(scores, (40, 56))

    others = [k for k in range(3) if k != position]
    rest = decode_labels(np.ascontiguousarray(scores[..., others]), (40, 56))
    np.testing.assert_array_equal(labels, np.array(others)[rest])


def test_a_cell_of_nan_spoils_only_pixels_that_it_has_weight_in(rng):
    scores = rng.standard_normal((3, 5, 4), np.float32)
    clean = decode_labels(scores, (9, 15))
    scores[1, 2] = np.nan

    labels = decode_labels(scores, (9, 15))

    has_weight = np.outer(weights_by_definition(3, 9)[:, 1], weights_by_definition(5, 15)[:, 2]) > 0
    np.testing.assert_array_equal(labels[~has_weight], clean[~has_weight])
    assert (labels[has_weight] == 0).all()  # NaN in every class


def test_minus_infinity_wins_over_nan_alone():
    assert decode_labels(np.float32([[[np.nan, -np.inf]]]), (1, 1)) == 1


@pytest.mark.parametrize("threads", [2, 3, 256])
def test_threads_do_not_change_a_label(rng, threads):
    scores = rng.standard_normal((5, 7, 19), np.float32)

    many = decode_labels(scores, (83, 111), threads=threads)

    np.testing.assert_array_equal(many, decode_labels(scores, (83, 111)))


@pytest.mark.parametrize(("shape", "size"), CASES, ids=str)
def test_confidence_is_the_interpolated_probability_of_the_label(rng, shape, size):
    scores = 3 * rng.standard_normal(shape, np.float32)
    confidence = np.zeros(size, np.uint8)

    labels = decode_labels(scores, size, confidence=confidence)

    np.testing.assert_array_equal(labels, decode_labels(scores, size))
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    shares = powers / powers.sum(axis=-1, keepdims=True)
    expected = interpolate_by_definition(shares, size)
    chosen = np.take_along_axis(expected, labels[..., None].astype(int), axis=-1)[..., 0]
    assert np.abs(confidence - 255 * chosen).max() <= 0.501
    assert (confidence > 0).all()


def test_confidence_of_scores_that_are_not_finite():
    nan, inf = np.nan, np.inf
    scores = np.float32(
        [[[nan, 0, nan], [nan, nan, nan], [inf, 0, inf], [-inf, -inf, -inf], [-inf, 2, 2]]]
    )
    confidence = np.zeros((1, 5), np.uint8)

    labels = decode_labels(scores, (1, 5), confidence=confidence)

    assert labels.tolist() == [[1, 0, 0, 0, 1]]
    assert confidence.tolist() == [[255, 0, 128, 0, 128]]


@pytest.mark.parametrize("threads", [2, 3, 100])
def test_threads_do_not_change_the_confidence(rng, threads):
    scores = rng.standard_normal((6, 9, 5), np.float32)
    one, several = np.zeros((2, 70, 90), np.uint8)
    decode_labels(scores, (70, 90), confidence=one)
    decode_labels(scores, (70, 90), confidence=several, threads=threads)
    np.testing.assert_array_equal(one, several)


def test_labels_of_smooth_scores_match_the_definition(rng):
    """Large areas of one class, whose winners are taken over from cell to cell."""
    coarse = rng.standard_normal((3, 4, 6), np.float32)
    scores = cv2.resize(coarse, (24, 18), interpolation=cv2.INTER_CUBIC)
    labels = decode_labels(np.ascontiguousarray(scores), (18 * 16, 24 * 16))
    assert_labels_by_definition(labels, scores)


@pytest.mark.parametrize(
    "confidence", [np.zeros((4, 5), np.uint8), np.zeros((4, 4), np.float32), [[0] * 4] * 4]
)
def test_confidence_of_another_shape_or_type_is_refused(confidence):
    with pytest.raises(ShapeError, match="confidence"):
        decode_labels(np.zeros((2, 2, 3), np.float32), (4, 4), confidence=confidence)


def test_confidence_over_the_labels_is_refused():
    out = np.zeros((4, 4), np.uint8)
    with pytest.raises(ShapeError, match="confidence overlaps labels"):
        decode_labels(np.zeros((2, 2, 3), np.float32), (4, 4), out=out, confidence=out)


def test_out_is_filled_and_returned(rng):
    scores = rng.standard_normal((5, 7, 19), np.float32)
    out = np.full((80, 112), 255, np.uint8)

    assert decode_labels(scores, (80, 112), out=out) is out
    np.testing.assert_array_equal(out, decode_labels(scores, (80, 112)))


def test_size_may_hold_numpy_integers():
    scores = np.zeros((2, 2, 2), np.float32)

    assert decode_labels(scores, tuple(np.array([4, 6]))).shape == (4, 6)


@pytest.mark.parametrize("size", [(0, 4), (4, -1), (4.0, 4), (4,), (4, 4, 3), 4, None], ids=str)
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ShapeError, match=re.escape(f"size is {size!r}, expected (H_out, W_out)")):
        decode_labels(np.zeros((2, 2, 2), np.float32), size)


@pytest.mark.parametrize("shape", [(0, 2, 2), (2, 0, 2)], ids=str)
def test_an_empty_score_map_is_refused(shape):
    with pytest.raises(ShapeError, match="expected at least one cell"):
        decode_labels(np.zeros(shape, np.float32), (4, 4))


@pytest.mark.parametrize("classes", [0, 257])
def test_a_number_of_classes_that_no_label_can_say_is_refused(classes):
    with pytest.raises(ShapeError, match=rf"{classes} classes .*expected 1 to 256"):
        decode_labels(np.zeros((2, 2, classes), np.float32), (4, 4))


def test_a_batch_is_refused():
    with pytest.raises(ShapeError, match=r"\(1, 2, 2, 2\), expected 3 axes, float32 \(h, w, K\)"):
        decode_labels(np.zeros((1, 2, 2, 2), np.float32), (4, 4))


@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", "int8"])
def test_scores_of_another_dtype_are_refused(dtype):
    with pytest.raises(ShapeError, match=f"scores has dtype {dtype}, expected float32"):
        decode_labels(np.zeros((2, 2, 2), dtype), (4, 4))


def test_channels_first_scores_as_a_view_are_refused():
    scores = np.zeros((5, 4, 6), np.float32).transpose(1, 2, 0)

    with pytest.raises(ShapeError, match="ascontiguousarray"):
        decode_labels(scores, (8, 12))


def test_out_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"out has shape \(4, 5\), expected \(4, 4\)"):
        decode_labels(np.zeros((2, 2, 2), np.float32), (4, 4), out=np.zeros((4, 5), np.uint8))


def test_out_of_another_dtype_is_refused():
    with pytest.raises(ShapeError, match="out has dtype int64, expected uint8"):
        decode_labels(np.zeros((2, 2, 2), np.float32), (4, 4), out=np.zeros((4, 4), np.int64))


def test_out_that_overlaps_the_scores_is_refused():
    scores = np.zeros((4, 4, 2), np.float32)
    out = scores.view(np.uint8).ravel()[:16].reshape(4, 4)

    with pytest.raises(ShapeError, match="out overlaps scores"):
        decode_labels(scores, (4, 4), out=out)


@pytest.mark.parametrize("threads", [0, -1, 257, 2.5, "2", None])
def test_a_number_of_threads_out_of_range_is_refused(threads):
    with pytest.raises(ConfigError, match=re.escape(f"threads is {threads!r}, expected")):
        decode_labels(np.zeros((2, 2, 2), np.float32), (4, 4), threads=threads)


def test_the_native_module_checks_for_itself():
    from dff_edge import _native

    with pytest.raises(ValueError, match="not supported"):
        _native.decode(np.zeros((2, 2, 257), np.float32), np.zeros((4, 4), np.uint8), None, 1)
    with pytest.raises(ValueError, match="confidence must have the shape of out"):
        _native.decode(
            np.zeros((2, 2, 7), np.float32), np.zeros((4, 4), np.uint8), np.zeros((4, 5), "u1"), 1
        )
