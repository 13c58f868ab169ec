"""Which candidates fit, and which of them is best: by hand."""

from collections import Counter

import numpy as np
import pytest

from dff_edge.errors import ConfigError
from dff_edge.plan.accuracy import Estimate
from dff_edge.plan.candidates import Candidate, Setup
from dff_edge.plan.judge import Wishes, judge, ranked, relaxed
from dff_edge.plan.simulation import Forecast
from dff_edge.runtime.keys import IN_ORDER

SETUP = Setup("int8", "onnxruntime", 2, IN_ORDER)


def choice(
    interval, *, age_ms=10.0, answered=100, accuracy=0.7, bound=False, old=0, full=0.75, **wishes
):
    ages_s, shown = np.full(answered, age_ms / 1e3), Counter({(old, 0): 100})
    forecast = Forecast(30.0, 100, ages_s, shown, key_frames=10, busy_share=0.3)
    estimate = None if accuracy is None else Estimate(accuracy, bound)
    candidate = Candidate(SETUP, f"fixed:{interval}")
    return judge(candidate, forecast, estimate, full, Wishes(**wishes))


def wishes_missed(found):
    return [miss.wish for miss in found.misses]


def order(*choices):
    return [found.candidate.interval for found in ranked(choices)]


def test_each_wish_is_compared_with_what_is_got():
    assert choice(1).fits
    assert wishes_missed(choice(1, answered=98)) == ["answered"]
    assert choice(1, answered=98, min_answered=0.9).fits
    assert wishes_missed(choice(1, age_ms=60, max_age_s=0.05)) == ["age"]
    assert choice(1, age_ms=40, max_age_s=0.05).fits
    late = choice(1, accuracy=0.70, max_loss=4.9)
    assert wishes_missed(late) == ["loss"]
    assert late.loss == pytest.approx(5.0)
    assert choice(1, accuracy=0.70, max_loss=5.1).fits


def test_the_worst_miss_comes_first():
    both = choice(1, age_ms=100, answered=90, max_age_s=0.05)
    assert wishes_missed(both) == ["age", "answered"]
    assert both.misses[0].factor == pytest.approx(2.0)
    assert both.misses[1].factor == pytest.approx(1.1)


def test_a_loss_that_is_not_known_is_not_promised():
    assert choice(1, bound=True).fits
    (miss,) = choice(1, bound=True, accuracy=0.74, max_loss=2).misses
    assert (miss.wish, miss.got) == ("loss", None)
    (miss,) = choice(1, bound=True, accuracy=0.60, max_loss=2).misses
    assert miss.got == pytest.approx(15.0)  # already the bound loses too much
    (miss,) = choice(1, accuracy=None, max_loss=2).misses
    assert miss.got is None


def test_the_most_accurate_that_fits_is_best():
    assert order(choice(1, accuracy=0.6), choice(2, accuracy=0.7), choice(3, answered=9)) == [
        2,
        1,
        3,
    ]


def test_of_those_alike_the_younger_answers_are_better():
    assert order(choice(1, accuracy=0.7, age_ms=30), choice(2, accuracy=0.699, age_ms=5)) == [2, 1]
    assert order(choice(1, accuracy=0.7, age_ms=30), choice(2, accuracy=0.69, age_ms=5)) == [1, 2]


@pytest.mark.parametrize("unknown", [{"accuracy": None}, {"bound": True, "accuracy": 0.9}])
def test_without_known_accuracy_the_fresher_features_are_better(unknown):
    stale, fresh = choice(1, old=9, age_ms=5, **unknown), choice(2, old=2, age_ms=9, **unknown)
    assert order(stale, fresh) == [2, 1]


def test_where_nothing_fits_the_nearest_comes_first_and_single_wishes_may_be_relaxed():
    how = {"max_age_s": 0.05, "max_loss": 2.0}
    late = choice(1, age_ms=60, accuracy=0.74, **how)
    later = choice(2, age_ms=90, accuracy=0.74, **how)
    loses = choice(3, accuracy=0.70, **how)
    both = choice(5, age_ms=55, accuracy=0.70, **how)
    assert order(later, late, loses, both)[0] == 1
    assert {
        wish: found.candidate.interval
        for wish, found in relaxed([later, late, loses, both], Wishes(**how)).items()
    } == {"age": 1, "loss": 3}


@pytest.mark.parametrize(
    ("name", "value"),
    [("rate", 0.0), ("rate", 2000.0), ("streams", 0), ("min_answered", 1.1), ("max_age_s", -1.0)],
)
def test_wishes_out_of_bounds_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} is {value}, expected"):
        Wishes(**{name: value})
