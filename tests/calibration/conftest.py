"""One small bundle, and clips that fit it."""

from __future__ import annotations

import shutil

import pytest

from dff_edge.bundle.reader import Bundle
from dff_edge.calibration import calibrate_bundle
from dff_edge.calibration.sampling.samples import collect_samples
from dff_edge.data.clips import open_clips
from tests.export.checkpoints import FRAME_SIZE, tiny_bundle

SMALL = {"max_keys": 10, "pairs_per_key": 2}
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


@pytest.fixture(scope="session")
def calibrated(bundle, clips, tmp_path_factory):
    """The bundle in all precisions, and what was said meanwhile."""
    path = shutil.copytree(bundle.path, tmp_path_factory.mktemp("calibrated") / "bundle")
    lines = []
    sizes = {"max_keys": 10, "pairs_per_key": 2}
    made = calibrate_bundle(path, clips, source="the clips", progress=lines.append, **sizes)
    return made, lines


@pytest.fixture(scope="session")
def calibrated_detector(clips, tmp_path_factory):
    """A detector, likewise."""
    fp32 = tiny_bundle(tmp_path_factory, "half", task="detection")
    path = shutil.copytree(fp32.path, tmp_path_factory.mktemp("calibrated") / "bundle")
    lines = []
    sizes = {"max_keys": 8, "pairs_per_key": 1}
    calibrate_bundle(path, clips, source="the clips", progress=lines.append, **sizes)
    return Bundle.open(path), lines


@pytest.fixture
def copy(bundle, tmp_path):
    """A bundle that may be changed."""
    return shutil.copytree(bundle.path, tmp_path / "bundle")
