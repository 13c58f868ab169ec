"""A bundle with every precision for every target, and a GPU, emulated where there is none."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

from dff_edge.frames import Frame
from dff_edge.runtime.engines.cache import EngineCache
from tests.export.checkpoints import FRAME_SIZE, tiny_bundle

# Fixtures: pytest finds them by their names here.
from tests.runtime.conftest import (
    device as device,
)
from tests.runtime.conftest import (
    driver_library as driver_library,
)
from tests.runtime.conftest import (
    emulated_libraries as emulated_libraries,
)
from tests.runtime.conftest import (
    emulation as emulation,
)
from tests.runtime.conftest import (
    kernels as kernels,
)
from tests.runtime.conftest import (
    leaves_nothing as leaves_nothing,
)
from tests.runtime.engines.fake_tensorrt import VERSIONS, fake_tensorrt

SOURCE = f"synthetic://street?seed=8&height={FRAME_SIZE[0]}&width={FRAME_SIZE[1]}"


@pytest.fixture(scope="session")
def deployable(tmp_path_factory):
    """FP32, FP16 and INT8 graphs of both flavours. It is shared: do not change it."""
    from dff_edge.calibration import calibrate_bundle
    from dff_edge.data.clips import open_clips

    height, width = FRAME_SIZE
    clips = open_clips(
        f"synthetic://street?split=train&seed=40&clips=2&frames=8&height={height}&width={width}"
    )
    path = tmp_path_factory.mktemp("deploy") / "bundle"
    shutil.copytree(tiny_bundle(tmp_path_factory).path, path)
    return calibrate_bundle(
        path, clips, source="clips", flavours=["ort", "trt"], max_keys=10, pairs_per_key=2
    )


@pytest.fixture
def frames():
    """Of a size of their own, each unlike the others."""
    random = np.random.default_rng(5)
    size = (FRAME_SIZE[0] + 8, FRAME_SIZE[1] + 24, 3)
    coarse = random.integers(0, 256, (9, *[side // 8 for side in size[:2]], 3), np.uint8)
    images = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return [Frame(image, index, index / 30) for index, image in enumerate(images)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DFF_EDGE_CACHE", str(tmp_path / "cache"))
    return EngineCache()


@pytest.fixture(params=VERSIONS)
def trt(request, monkeypatch, emulation, tmp_path):
    """The stand-in for TensorRT, with a file in the place of the plugin."""
    return play_tensorrt(request.param, monkeypatch, tmp_path)


def play_tensorrt(version, monkeypatch, folder):
    """Have ``import tensorrt`` give the stand-in."""
    module = fake_tensorrt(version)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    plugin = folder / "libdff_tensorrt.so"
    plugin.write_bytes(b"plugin")
    monkeypatch.setenv("DFF_TENSORRT_PLUGIN", str(plugin))
    return module
