"""dff-edge deploy: parsing and printing; what it does is tested with dff_edge.deploy."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from dff_edge.cli.deploy import command
from dff_edge.runtime.engines.cache import EngineCache

SOURCE = "synthetic://street?seed=8&height=32&width=64"
GRAPHS = ["feature", "flow", "task"]


@pytest.fixture
def deploy(tmp_path, monkeypatch):
    """Run ``dff-edge deploy`` with a cache of its own."""
    monkeypatch.setenv("DFF_EDGE_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        return CliRunner().invoke(command, [str(argument) for argument in arguments])

    return run


def test_the_table_says_where_each_engine_is_from(deploy, bundle_path):
    first = deploy(bundle_path, "--target", "cpu", "--precision", "fp32", "--source", SOURCE)
    second = deploy(bundle_path, "--target", "cpu", "--precision", "fp32")

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    for result, origin in ((first, "built"), (second, "cache")):
        rows = [line.split()[:3] for line in result.stdout.splitlines()]
        for graph in GRAPHS:
            assert [graph, "fp32", origin] in rows
    assert "fp32: 100.00% of the pixels labelled as by its graphs (at least 99.9%)" in first.stdout
    assert SOURCE in second.stdout  # what it was checked with, though it was not said again
    assert "fp32 flow: building (not built before)" in first.stderr
    assert second.stderr == ""


def test_all_precisions_of_the_bundle_are_the_default(deploy, bundle_path):
    result = deploy(bundle_path, "--target", "cpu", "--source", SOURCE, "--json", "-")
    numbers = json.loads(result.stdout)

    assert list(numbers["precisions"]) == ["fp32", "int8"]
    for precision, deployed in numbers["precisions"].items():
        assert list(deployed["engines"]) == GRAPHS
        assert deployed["fidelity"] >= deployed["floor"]
        for graph, engine in deployed["engines"].items():
            assert engine["from"] == "built"
            assert engine["key"]["precision"] == precision
            assert engine["key"]["subnet"] == graph
            assert engine["median_ms"] > 0
            assert engine["bytes"] > 0
    assert numbers["not_deployed"] == {}


@pytest.mark.parametrize(
    "arguments", [["--precision", "int8,fp32"], ["--precision", "int8", "--precision", "fp32"]]
)
def test_precisions_are_a_list_or_several_options(deploy, bundle_path, arguments):
    result = deploy(bundle_path, "--target", "cpu", "--source", SOURCE, "--json", "-", *arguments)

    assert list(json.loads(result.stdout)["precisions"]) == ["int8", "fp32"]


def test_a_precision_that_the_bundle_lacks_is_an_error(deploy, bundle_path):
    result = deploy(bundle_path, "--target", "cpu", "--precision", "fp32,fp16", "--source", SOURCE)

    assert result.exit_code == 1
    assert "holds no fp16 graphs, only fp32, int8" in result.stderr
    assert "feature" in result.stdout  # what is kept: fp32


def test_entries_are_listed_with_what_they_are_for(deploy, bundle_path):
    deploy(bundle_path, "--target", "cpu", "--precision", "fp32", "--source", SOURCE)
    result = deploy("--list")
    none = deploy("--list", "--target", "tensorrt")

    rows = [line.split() for line in result.stdout.splitlines()]
    assert sorted(row[2] for row in rows if row[:2] == ["cpu", "fp32"]) == GRAPHS
    assert "ONNX Runtime" in result.stdout
    assert not [row for row in none.stdout.splitlines() if row.startswith("cpu")]


def test_pruning_removes_other_versions_of_the_target_alone(deploy, bundle_path):
    deploy(bundle_path, "--target", "cpu", "--precision", "fp32", "--source", SOURCE)
    cache = EngineCache()
    here = [entry.record for entry in cache.entries()]
    old = here[0].model_copy(
        update={"key": here[0].key.model_copy(update={"runtime": "ONNX Runtime 1.18.0"})}
    )
    gpu = here[0].model_copy(update={"key": here[0].key.model_copy(update={"target": "tensorrt"})})
    data = cache.load(here[0].key).data
    cache.store(data, old)
    cache.store(data, gpu)

    result = deploy("--prune", "--target", "cpu")

    assert result.exit_code == 0
    assert "ONNX Runtime 1.18.0" in result.stdout
    assert "1 engines removed" in result.stderr
    assert [e.record for e in cache.entries()] == [*here, gpu]


@pytest.mark.parametrize(("warp", "left"), [("plugin", ["a"]), ("gridsample", ["a", "b"])])
def test_engines_of_a_plugin_that_is_not_looked_at_are_kept(
    deploy, bundle_path, monkeypatch, warp, left
):
    deploy(bundle_path, "--target", "cpu", "--precision", "fp32", "--source", SOURCE)
    cache = EngineCache()
    record = cache.entries()[0].record
    data = cache.load(record.key).data
    for plugin in "ab":
        change = {"target": "tensorrt", "plugin_sha256": plugin * 64}
        key = record.key.model_copy(update=change)
        cache.store(data, record.model_copy(update={"key": key}))

    @contextmanager
    def opened(target, cache, *, plugin):
        platform = SimpleNamespace(
            target=target,
            runtime=record.key.runtime,
            device=record.key.device,
            plugin_sha256="a" * 64 if plugin else None,
        )
        yield SimpleNamespace(platform=platform)

    monkeypatch.setattr("dff_edge.deploy.open_target", opened)
    assert deploy("--prune", "--target", "tensorrt", "--warp", warp).exit_code == 0

    plugins = [e.record.key.plugin_sha256 for e in cache.entries()]
    assert sorted(p[0] for p in plugins if p) == left


def test_a_damaged_entry_is_listed_and_pruned(deploy, bundle_path):
    deploy(bundle_path, "--target", "cpu", "--precision", "fp32", "--source", SOURCE)
    (EngineCache().entries()[0].path / "record.json").write_text("{}")

    assert "\ndamaged " in deploy("--list").stdout
    assert "\ndamaged " in deploy("--prune", "--target", "cpu").stdout
    assert "\ndamaged " not in deploy("--list").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected BUNDLE and --target"),
        (["--target", "cpu"], "expected BUNDLE and --target"),
        (["--prune"], "--prune needs --target"),
        (["--list", "--prune", "--target", "cpu"], "exclude each other"),
        (["--target", "gpu"], "'gpu' is not one of 'cpu', 'cuda', 'tensorrt'"),
        (
            ["--precision", "fp32,fp64"],
            "'fp64' is not a precision, expected some of fp32, fp16, int8",
        ),
        (["--workspace", "0"], "0 is not in the range x>=1"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(deploy, arguments, message):
    result = deploy(*arguments)

    assert result.exit_code == 2
    assert message in result.stderr


def test_a_bundle_with_list_is_exit_code_2(deploy, bundle_path):
    result = deploy(bundle_path, "--list")

    assert result.exit_code == 2
    assert "accept no bundle" in result.stderr


def test_an_option_of_another_target_is_an_error(deploy, bundle_path):
    result = deploy(bundle_path, "--target", "cpu", "--workspace", "64")

    assert result.exit_code == 1
    assert "options of tensorrt alone" in result.stderr


def test_a_cache_that_others_may_write_to_is_an_error(deploy, bundle_path, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache").chmod(0o777)
    result = deploy(bundle_path, "--target", "cpu")

    assert result.exit_code == 1
    assert "others may write to it" in result.stderr
