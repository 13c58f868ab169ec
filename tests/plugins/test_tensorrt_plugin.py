"""The plugin in a real plugin registry: that of TensorRT for RTX, which loads it without a GPU.

The rest is tested by tests/cpp/tensorrt/test_plugin.cpp, without TensorRT. TENSORRT_INCLUDE_DIR
names the folder of TensorRT's headers.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEADERS_VARIABLE = "TENSORRT_INCLUDE_DIR"
# TensorRT 11 gave loggers another table of functions. TensorRT for RTX has that one: a plugin for
# 10 loads there, but must not log.
LOGGER_MAJOR = 11


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def headers():
    named = os.environ.get(HEADERS_VARIABLE)
    if not named:
        pytest.skip(f"{HEADERS_VARIABLE} is not set: no TensorRT headers to build the plugin with")
    return Path(named)


@pytest.fixture(scope="module")
def plugin(headers, build_folder):
    """Path of the plugin with emulated kernels."""
    built = build_folder / "plugin"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    options = ["-DDFF_TESTS=OFF", "-DDFF_EMULATION=ON", f"-D{HEADERS_VARIABLE}={headers}"]
    with (build_folder / "plugin.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        configured = run(["cmake", "-S", ROOT / "plugins", "-B", built, *generator, *options])
        assert configured.returncode == 0, configured.stderr
        if "No cuda_runtime_api.h" in configured.stdout:
            pytest.skip("TensorRT's headers need those of the CUDA toolkit, which are not here")
        made = run(["cmake", "--build", built, "--target", "dff_tensorrt_emulated"])
        assert made.returncode == 0, made.stdout
    (library,) = (built / "tensorrt").glob("libdff_tensorrt*_emulated.so")
    return library


@pytest.fixture
def load(plugin):
    """Has a process load the plugin, and gives its report."""
    if importlib.util.find_spec("tensorrt_rtx_libs") is None:
        pytest.skip("TensorRT for RTX is not installed: tensorrt_rtx_libs, tensorrt_rtx_bindings")

    def call(*options):
        command = [sys.executable, Path(__file__).with_name("load_plugin.py"), plugin, *options]
        loaded = run(command)
        assert loaded.returncode == 0, loaded.stderr
        return json.loads(loaded.stdout)

    return call


def test_registry_finds_the_creator_which_makes_a_plugin(load):
    seen = load()
    assert seen["is_loaded"]
    assert ["DffWarp", "1", ""] in seen["creators"]
    assert seen["fields"] == ["channels_last", "scale_step"]
    assert seen["is_made"]


def test_unknown_field_is_refused_and_logged(load, plugin):
    major = int(re.search(r"tensorrt(\d+)_", plugin.name)[1])
    if major < LOGGER_MAJOR:
        pytest.skip(f"TensorRT for RTX has the loggers of {LOGGER_MAJOR}, the plugin of {major}")
    seen = load("--refuse")
    assert not seen["is_made_of_nonsense"]
    assert any('DffWarp: field "no" is unknown' in message for message in seen["errors"])


def test_library_exports_nothing_else(plugin):
    if shutil.which("nm") is None:
        pytest.skip("reading the exported symbols needs nm, of binutils")
    listed = run(["nm", "-D", "--defined-only", plugin]).stdout
    assert sorted(line.split()[-1] for line in listed.splitlines()) == [
        "getCreators",
        "setLoggerFinder",
    ]


def test_wrong_header_folder_is_refused(tmp_path, build_folder):
    configured = run(
        ["cmake", "-S", ROOT / "plugins", "-B", tmp_path / "build", "-DDFF_TESTS=OFF"]
        + ["-DDFF_EMULATION=ON", f"-D{HEADERS_VARIABLE}={tmp_path}"]
    )
    assert configured.returncode != 0
    message = " ".join(configured.stderr.split())
    assert f'TENSORRT_INCLUDE_DIR is "{tmp_path}", expected the folder that holds' in message


def test_headers_older_than_the_plugin_interface_are_refused(tmp_path):
    (tmp_path / "NvInferRuntime.h").touch()
    (tmp_path / "NvInferVersion.h").write_text(
        "#define NV_TENSORRT_MAJOR 10\n#define NV_TENSORRT_MINOR 2\n"
    )
    configured = run(
        ["cmake", "-S", ROOT / "plugins", "-B", tmp_path / "build", "-DDFF_TESTS=OFF"]
        + ["-DDFF_EMULATION=ON", f"-D{HEADERS_VARIABLE}={tmp_path}"]
    )
    assert configured.returncode != 0
    assert 'TensorRT "10.2", expected 10.3' in " ".join(configured.stderr.split())
