"""One small bundle, and samples that fit it."""

from __future__ import annotations

import pytest

from dff_edge.calibration.sampling.samples import collect_samples
from dff_edge.data.clips import open_clips
from tests.export.checkpoints import FRAME_SIZE, tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory)


@pytest.fixture(scope="session")
def samples():
    height, width = FRAME_SIZE
    size = f"height={height}&width={width}"
    clips = open_clips(f"synthetic://street?split=train&seed=40&clips=2&frames=8&{size}")
    return collect_samples(clips, FRAME_SIZE, 4, max_keys=10, pairs_per_key=2)
