"""Seeds for the tests of the networks."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    """Start every test from the same weights, and leave the caller's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20171)
        yield


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)
