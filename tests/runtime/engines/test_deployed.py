"""Keys of deployed engines: what they depend on, and opening by them."""

from __future__ import annotations

import hashlib
import platform as machine
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from dff_edge import _native
from dff_edge.errors import BundleError, EngineError
from dff_edge.runtime.engines.cache import EngineCache, EngineRecord
from dff_edge.runtime.engines.deployed import Platform, open_deployed
from dff_edge.runtime.engines.open_cpu import cpu_platform
from tests.bundle.bundles import make_bundle

PLUGIN = "5" * 64


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("deployed") / "bundle", precisions=("fp32", "int8"))


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "cache")


def gpu(**changes):
    platform = Platform(
        "tensorrt", "TensorRT 10.3.0", "Orin", "ort", "flags", load=None, plugin_sha256=PLUGIN
    )
    return replace(platform, **changes)


def store(cache, key, data):
    record = EngineRecord(
        key=key,
        sha256=hashlib.sha256(data).hexdigest(),
        built="2026-01-01T00:00:00Z",
        build_s=1.0,
        median_ms=1.0,
        relative_error=0.0,
        fidelity=1.0,
        agreement=1.0,
        source="synthetic://street",
    )
    cache.store(data, record)


def test_the_cpu_is_its_instructions_and_onnxruntimes_version(monkeypatch):
    monkeypatch.setattr(_native, "simd", lambda: "avx1024")
    platform = cpu_platform()

    assert platform.runtime == f"ONNX Runtime {onnxruntime.__version__}"
    assert platform.device == f"{machine.machine()} (avx1024)"
    assert (platform.flavour, platform.plugin_sha256) == ("ort", None)


def test_the_key_has_the_digest_of_the_bundles_file(bundle):
    for precision in ("fp32", "int8"):
        data = bundle.graph_bytes(precision, "flow")
        key = cpu_platform().key(bundle, precision, "flow")

        assert key.graph_sha256 == hashlib.sha256(data).hexdigest()
        assert (key.precision, key.subnet, key.target) == (precision, "flow", "cpu")


def test_only_the_graph_that_calls_the_plugin_depends_on_it(bundle):
    keys = {graph: gpu().key(bundle, "fp32", graph) for graph in ("feature", "task", "propagate")}

    assert {graph: key.plugin_sha256 for graph, key in keys.items()} == {
        "feature": None,
        "task": None,
        "propagate": PLUGIN,
    }
    assert gpu(plugin_sha256=None).key(bundle, "fp32", "propagate").plugin_sha256 is None


def test_a_graph_that_the_bundle_lacks_is_named(bundle):
    with pytest.raises(BundleError, match="holds no fp16 graphs"):
        cpu_platform().key(bundle, "fp16", "task")


def test_a_deployed_engine_is_opened_and_computes(bundle, cache):
    platform = cpu_platform()
    store(cache, platform.key(bundle, "fp32", "task"), bundle.graph_bytes("fp32", "task"))
    features = np.ones((1, 2, 4, 8), np.float32)
    scores = np.full((1, 2, 4, 3), np.nan, np.float32)
    with open_deployed(bundle, "fp32", "task", platform, cache, threads=1) as engine:
        engine.run({"features": features}, {"scores": scores})

        assert engine.name == "fp32 task"
    assert np.isfinite(scores).all()
    assert (scores == scores[0, 0, 0]).all()  # every cell was given the same


def test_an_engine_that_is_for_something_else_is_told_and_not_opened(bundle, cache):
    store(cache, gpu().key(bundle, "fp32", "feature"), b"engine")
    here = gpu(runtime="TensorRT 10.16.0")

    with pytest.raises(
        EngineError,
        match=r"fp32 feature graph of .* has no TensorRT 10.16.0 engine for Orin; one was built "
        r"with TensorRT 10.3.0; here is TensorRT 10.16.0. Build it: dff-edge deploy .*bundle "
        r"--target tensorrt --precision fp32$",
    ):
        open_deployed(bundle, "fp32", "feature", here, cache)


def test_a_damaged_engine_is_not_opened(bundle, cache):
    platform = cpu_platform()
    key = platform.key(bundle, "fp32", "task")
    store(cache, key, bundle.graph_bytes("fp32", "task"))
    (cache.path(key) / "engine").write_bytes(b"damaged")

    with pytest.raises(EngineError, match="is damaged"):
        open_deployed(bundle, "fp32", "task", platform, cache)
