"""The table of backends, and that a further one is one file and one row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dff_edge.errors import ConfigError, EngineError
from dff_edge.names import FLAVOURS, PRECISIONS
from dff_edge.runtime.engines.backends import (
    BACKENDS,
    DEFAULT_BACKEND,
    Backend,
    backend_of,
    load_function,
    names_on,
    targets,
)
from dff_edge.runtime.engines.cache import EngineCache
from dff_edge.runtime.engines.open import open_subnets, precisions_for
from tests.bundle.bundles import make_bundle
from tests.runtime.engines import fake_backend

ROOT = Path(__file__).parents[3]
SOURCE = "synthetic://street?height=32&width=64"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (32, 64))


@pytest.fixture
def fake(monkeypatch):
    """The table with the fake's row."""
    monkeypatch.setitem(BACKENDS, "fake", fake_backend.ROW)
    monkeypatch.setattr(fake_backend.FakeEngine, "opened", 0)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DFF_EDGE_CACHE", str(tmp_path / "cache"))
    return EngineCache()


@pytest.mark.parametrize("row", BACKENDS.values(), ids=lambda row: row.name)
def test_every_row_names_functions_that_there_are(row: Backend):
    assert BACKENDS[row.name] is row
    assert callable(load_function(row.opener))
    assert (row.builder is None) == (row.target is None)
    assert row.builder is None or callable(load_function(row.builder))
    assert row.flavour in FLAVOURS
    assert set(row.precisions) | set(row.lacks) == set(PRECISIONS)
    assert row.requirements


def test_the_table_is_read_without_loading_a_backend():
    code = (
        "import sys, dff_edge.runtime.engines.backends\n"
        "print([m for m in sys.modules if m.startswith('dff_edge.runtime.') or m == 'numpy'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )

    loaded = "['dff_edge.runtime.engines', 'dff_edge.runtime.engines.backends']"
    assert done.stdout.strip() == loaded


def test_names_are_those_of_the_table():
    assert DEFAULT_BACKEND in names_on("cpu")
    assert names_on("cuda") == ("cuda", "tensorrt")
    assert {name: row.name for name, row in targets().items()} == {
        "cpu": "onnxruntime",
        "cuda": "cuda",
        "tensorrt": "tensorrt",
    }
    with pytest.raises(ConfigError, match="engine is 'tpu', expected one of onnxruntime, openvino"):
        backend_of("tpu")


def test_a_new_backend_runs_what_was_deployed_for_it(bundle, cache, fake):
    from dff_edge.deploy import deploy_bundle, open_target, precisions_of, refusal_of

    assert precisions_for(bundle, "fake") == ("fp32",)
    with pytest.raises(EngineError, match="Build it: dff-edge deploy .* --target fake"):
        open_subnets(bundle, "fp32", "fake")
    with open_target("fake", cache) as target:
        assert precisions_of(target, bundle) == ("fp32",)
        assert refusal_of(target, "int8") == "the fake has no integers"
        (done,) = deploy_bundle(bundle, target, ["fp32"], cache, source=SOURCE)
    assert done.fidelity == 1.0

    before = fake_backend.FakeEngine.opened
    opened = open_subnets(bundle, "fp32", "fake", threads=1)
    opened.close()

    assert fake_backend.FakeEngine.opened - before == 3


def test_options_of_tensorrt_are_refused_for_a_new_target(cache, fake):
    from dff_edge.deploy import open_target

    with (
        pytest.raises(ConfigError, match="the target is fake; .* options of tensorrt alone"),
        open_target("fake", cache, workspace_mb=100),
    ):
        pass
    with (
        pytest.raises(ConfigError, match="the target is 'tpu', expected one of cpu, .*, fake"),
        open_target("tpu", cache),
    ):
        pass


def test_commands_know_a_new_backend(bundle, tmp_path):
    """``--engine`` and ``--target`` list it, doctor looks for it, deploy builds, run runs."""
    code = (
        "import sys\n"
        "from tests.runtime.engines.fake_backend import register\n"
        "register()\n"
        "from dff_edge.cli import main\n"
        "main(sys.argv[1:])\n"
    )

    def dff_edge(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, "DFF_EDGE_CACHE": str(tmp_path / "cache"), "COLUMNS": "200"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "fake: a backend of the tests." in " ".join(dff_edge("run", "--help").split())
    assert "[cpu|cuda|tensorrt|fake]" in dff_edge("deploy", "--help")
    sections = json.loads(dff_edge("doctor", "--json", "-"))["sections"]
    (found,) = [f for f in sections["Runtime"] if f["name"] == "no_such_backend"]
    assert (found["state"], found["text"]) == ("info", "not installed")
    told = json.loads(
        dff_edge("deploy", str(bundle.path), "--target", "fake", "--source", SOURCE, "--json", "-")
    )
    assert set(told["precisions"]["fp32"]["engines"]) == {"feature", "flow", "task"}
    dff_edge("run", str(bundle.path), SOURCE, "--engine", "fake", "--frames", "3")
