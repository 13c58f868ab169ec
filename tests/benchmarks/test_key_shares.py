"""The fewest key frames that any policy could take, against all choices that there are."""

from itertools import product

import numpy as np
import pytest

from benchmarks._key_shares import Run, best_choice, between, times_of

FRAMES, MOST = 8, 4


@pytest.mark.parametrize("price", [0.0, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_choice_is_that_of_all_choices(price, seed):
    stale = np.random.default_rng(seed).random((FRAMES, MOST))
    stale[:, 0] = 0  # a key frame's own answer
    costs = {}
    for rest in product([False, True], repeat=FRAMES - 1):
        keys = [0, *(index for index, is_key in enumerate(rest, 1) if is_key)]
        latest = [max(key for key in keys if key <= frame) for frame in range(FRAMES)]
        if all(frame - key < MOST for frame, key in enumerate(latest)):
            differs = sum(stale[key, frame - key] for frame, key in enumerate(latest))
            costs[differs + price * len(keys)] = (differs, len(keys))

    differs, count = best_choice(stale, price)
    assert (differs, count) == (pytest.approx(costs[min(costs)][0]), costs[min(costs)][1])


def test_key_frames_are_compared_where_answers_differ_as_much():
    keys = np.zeros((2, 10), bool)
    keys[:, ::5] = True
    fixed = Run(keys, np.full((2, 10), 0.25), np.ones((2, 10)))

    assert fixed.share_of([(0.2, 4.0), (0.3, 2.0)]) == pytest.approx(3 / 4)
    assert np.isnan(fixed.share_of([(0.3, 2.0), (0.4, 1.0)]))
    assert between([(0.5, 1.0), (0.1, 5.0)], 0.2) == pytest.approx(4.0)


def test_cost_is_that_of_both_kinds_of_frames_over_all_runs():
    keys = np.zeros((1, 4), bool)
    keys[:, 0] = True
    quiet = Run(keys, np.full((1, 4), 0.1), np.array([[0.020, 0.004, 0.004, 0.004]]))
    busy = Run(keys, np.full((1, 4), 0.2), np.array([[0.022, 0.004, 0.004, 0.400]]))
    times = times_of([quiet, busy])

    assert times == (pytest.approx(0.021), pytest.approx(0.004))
    assert quiet.bought("4", *times) == ("4", pytest.approx((21 + 3 * 4) / 4), pytest.approx(0.9))
    assert busy.bought("4", *times).cost_ms == quiet.bought("4", *times).cost_ms
