"""TensorRT's log and the warp's plugin, on the stand-in for TensorRT."""

from __future__ import annotations

import logging
from types import ModuleType

import pytest

from dff_edge import _native
from dff_edge.errors import EngineError, MissingDependencyError
from dff_edge.runtime.engines import tensorrt_library
from dff_edge.runtime.engines.tensorrt_library import load_plugin, plugin_path
from tests.runtime.engines.fake_tensorrt import VERSIONS, fake_tensorrt


@pytest.fixture(params=VERSIONS)
def trt(request) -> ModuleType:
    return fake_tensorrt(request.param)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A file in the place of the plugin library."""
    path = tmp_path / "libdff_tensorrt.so"
    path.write_bytes(b"plugin")
    monkeypatch.setenv("DFF_TENSORRT_PLUGIN", str(path))
    return path


def test_what_tensorrt_says_goes_to_the_log(trt, caplog):
    logger, errors = tensorrt_library.tensorrt_logger(trt)
    severity = trt.ILogger.Severity
    with caplog.at_level(logging.DEBUG, "dff_edge.tensorrt"):
        for name in ("VERBOSE", "INFO", "WARNING", "ERROR", "INTERNAL_ERROR"):
            logger.log(getattr(severity, name), name.lower())

    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("DEBUG", "info"),
        ("WARNING", "warning"),
        ("ERROR", "error"),
        ("ERROR", "internal_error"),
    ]
    assert str(errors) == "error; internal_error"


def test_one_logger_serves_the_process(trt):
    assert tensorrt_library.tensorrt_logger(trt)[0] is tensorrt_library.tensorrt_logger(trt)[0]


def test_the_plugin_lies_beside_the_native_module(trt, monkeypatch, tmp_path):
    monkeypatch.delenv("DFF_TENSORRT_PLUGIN", raising=False)
    monkeypatch.setattr(_native, "__file__", str(tmp_path / "_native.so"))
    major = trt.__version__.split(".")[0]
    path = tmp_path / f"libdff_tensorrt{major}.so"

    with pytest.raises(
        MissingDependencyError,
        match=rf"expected {path}.*pip install . -C cmake.define.DFF_TENSORRT=ON "
        "-C cmake.define.TENSORRT_INCLUDE_DIR=",
    ):
        load_plugin(trt)
    path.write_bytes(b"plugin")

    assert plugin_path(trt) == path


def test_the_plugin_is_loaded_once(trt, plugin):
    load_plugin(trt)
    load_plugin(trt)

    assert trt.get_plugin_registry().loaded == [str(plugin)]


def test_a_plugin_that_the_host_program_loaded_is_taken(trt, plugin):
    trt.get_plugin_registry().load_library(str(plugin))
    load_plugin(trt)

    assert trt.get_plugin_registry().loaded == [str(plugin)]


def test_a_library_that_is_no_plugin_is_refused(trt, plugin):
    plugin.write_bytes(b"not a plugin")

    with pytest.raises(EngineError, match=f"did not accept the plugin library {plugin}"):
        load_plugin(trt)


def test_another_plugin_than_the_loaded_one_is_refused(trt, plugin, monkeypatch, tmp_path):
    load_plugin(trt)
    other = tmp_path / "other.so"
    other.write_bytes(b"plugin")
    monkeypatch.setenv("DFF_TENSORRT_PLUGIN", str(other))

    with pytest.raises(EngineError, match=r"other.so was requested and .* is loaded already"):
        load_plugin(trt)
