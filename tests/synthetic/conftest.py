"""Seeds and scenes for the tests of the synthetic scenes."""

import numpy as np
import pytest

from dff_edge.synthetic import StreetScene
from tests.synthetic.scenes import SIZE


@pytest.fixture
def rng():
    return np.random.default_rng(20171)


@pytest.fixture(scope="module")
def scenes():
    return [StreetScene(seed, "val", SIZE, 60) for seed in range(4)]
