"""One small bundle, and clips that fit it."""

from __future__ import annotations

import pytest

from dff_edge.calibration.samples import collect_samples
from dff_edge.runtime.clips import open_clips
from tests.export.checkpoints import FRAME_SIZE, tiny_bundle

INTERVAL = 4


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory)


@pytest.fixture(scope="session")
def clips():
    height, width = FRAME_SIZE
    size = f"height={height}&width={width}"
    return open_clips(f"synthetic://street?split=train&seed=40&clips=2&frames=8&{size}")


@pytest.fixture(scope="session")
def samples(clips):
    return collect_samples(clips, FRAME_SIZE, INTERVAL, max_keys=10, pairs_per_key=2)
