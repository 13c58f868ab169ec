"""Seeds for the tests of the synthetic scenes."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(20171)
