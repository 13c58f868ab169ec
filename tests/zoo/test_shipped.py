"""Bundles of shipped models: the ready one, the machine's own, or a folder of the name."""

import hashlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dff_edge.bundle import shipped
from dff_edge.bundle.excerpt import write_excerpt
from dff_edge.bundle.writer import BundleWriter
from dff_edge.cli import main
from dff_edge.cpuinfo import overflows_here
from dff_edge.errors import BundleError
from dff_edge.trainer.checkpoint import find_checkpoint
from dff_edge.zoo import export
from tests.bundle.bundles import make_bundle, manifest_fields
from tests.zoo.exporters import BLOCK_EXPORT, export_quickly, nothing_is_installed


def _make_ready(model, *, precisions=("int8",), weights=None):
    """Put a ready bundle beside a model's weights, made from them or from others."""
    digest = hashlib.sha256((model / "weights.safetensors").read_bytes()).hexdigest()
    provenance = manifest_fields((32, 64), 8, 3)["provenance"]
    made = make_bundle(model.parent / "whole", (32, 64), precisions=("fp32", "int8"))
    with BundleWriter.extend(made) as writer:
        writer.update(provenance={**provenance, "checkpoint_sha256": weights or digest})
        made = writer.commit()
    return write_excerpt(made, model / "bundle", precisions).path


# What a device does that has only what a wheel installs: as in read-only site-packages and with a
# read-only home, torch missing, and the compiler too.
ON_A_DEVICE = (
    BLOCK_EXPORT
    + """
import os, subprocess
from pathlib import Path
import numpy as np
from dff_edge.bundle import shipped
from dff_edge.runtime.pipeline import Pipeline

shipped.MODELS = Path(sys.argv[1])
with Pipeline.open("tiny", precision="int8", threads=1) as pipeline:
    pipeline.submit(np.zeros((32, 64, 3), np.uint8))
    print(pipeline.bundle.path, pipeline.poll(block=True).labels.shape)
"""
)


def _as_on_a_device(models, engine="onnxruntime", many=1):
    """Run ``ON_A_DEVICE`` in so many processes at once, as a user that may write nowhere."""
    code = ON_A_DEVICE.replace("threads=1", f"threads=1, engine={engine!r}")
    environment = os.environ | {"HOME": "/proc/none", "PATH": "/nowhere", "TMPDIR": "/proc/none"}
    environment = {n: v for n, v in environment.items() if not n.startswith(("XDG_", "DFF_EDGE_"))}
    started = [
        subprocess.Popen(
            [sys.executable, "-B", "-c", code, str(models)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd="/",
        )
        for _ in range(many)
    ]
    for process in started:
        stdout, stderr = process.communicate()
        assert process.returncode == 0, stderr
        yield stdout, stderr


@pytest.fixture
def read_only(tiny_model):
    """The models with a ready bundle of int8, which may be read and not written."""
    ready = _make_ready(tiny_model)
    paths = [tiny_model.parent, *tiny_model.parent.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield ready
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_device_runs_a_ready_model_at_the_first_try_and_twice_at_once(read_only, engine):
    models = read_only.parents[1]
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*")}
    warned = engine == "openvino" and overflows_here()
    for stdout, stderr in _as_on_a_device(models, engine, many=2):
        assert stdout == f"{read_only} (32, 64)\n"
        assert len(stderr.splitlines()) == stderr.count("--weight-bits 7") == warned
    assert before == {path: path.stat().st_mtime_ns for path in models.rglob("*")}


def test_run_takes_the_ready_bundle_and_exports_what_it_lacks(tiny_model, monkeypatch):
    ready = _make_ready(tiny_model)
    monkeypatch.setattr("dff_edge.export.export_bundle", export_quickly)
    assert shipped.find_bundle("tiny") == ready
    assert shipped.find_bundle("tiny", holding=("int8",)) == ready
    assert shipped.ready_precisions("tiny") == ("int8",)
    own = shipped.find_bundle("tiny", holding=("fp32",))
    assert own == shipped.cached_folder("tiny")
    assert shipped.find_bundle("tiny", holding=("int8",)) == ready  # its own has none
    assert shipped.ready_precisions("tiny") == ("fp32", "int8")
    assert shipped.find_bundle("tiny", holding=("int8",), flavour="trt") == own


def test_what_the_user_calibrated_comes_before_the_ready_bundle(tiny_model, monkeypatch):
    _make_ready(tiny_model)
    own = shipped.cached_folder("tiny")
    make_bundle(own, (32, 64), precisions=("fp32", "int8"))
    assert shipped.find_bundle("tiny", holding=("int8",)) == own


def test_ready_bundle_is_never_changed(tiny_model, monkeypatch):
    ready = _make_ready(tiny_model, precisions=("fp32", "int8"))
    monkeypatch.setattr("dff_edge.export.export_bundle", export_quickly)
    assert shipped.find_bundle("tiny", to_change=True) == shipped.cached_folder("tiny") != ready


def test_ready_bundle_of_other_weights_is_not_used(tiny_model, monkeypatch, caplog):
    _make_ready(tiny_model, weights="0" * 64)
    monkeypatch.setattr("dff_edge.export.export_bundle", export_quickly)
    assert shipped.find_bundle("tiny", holding=("int8",)) == shipped.cached_folder("tiny")
    assert "was made from other weights than those of 'tiny' that are there now" in caplog.text


def test_ready_bundle_of_another_schema_is_not_used(tiny_model, monkeypatch, caplog):
    manifest = _make_ready(tiny_model) / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "schema_version": 1}))
    monkeypatch.setattr("dff_edge.export.export_bundle", export_quickly)
    assert shipped.find_bundle("tiny") == shipped.cached_folder("tiny")
    assert "is not used: manifest.json has schema_version 1" in caplog.text


def test_device_is_told_in_what_a_model_is_ready(tiny_model, monkeypatch):
    _make_ready(tiny_model)
    monkeypatch.setattr(export, "require", nothing_is_installed)
    done = CliRunner().invoke(main, ["run", "tiny", "synthetic://street?frames=1"])
    assert done.exit_code == 1
    assert (
        "The export of the model 'tiny' needs 'torch'. Without it, run 'tiny' with" in done.stderr
    )
    assert "with --precision int8. Or export it on another machine" in done.stderr
    assert "dff-edge export tiny -o tiny-bundle" in done.stderr
    listed = CliRunner().invoke(main, ["zoo"]).stdout.splitlines()
    assert " int8 " in listed[-1]


def test_inspect_of_a_model_is_of_its_bundle_where_torch_is_missing(tiny_model, monkeypatch):
    ready = _make_ready(tiny_model)
    monkeypatch.setattr("dff_edge.cli.inspect.require", nothing_is_installed)
    shown = CliRunner().invoke(main, ["inspect", "tiny", "--json", "-"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["bundle"] == str(ready)
    (ready / "manifest.json").unlink()
    assert "needs 'torch'" in CliRunner().invoke(main, ["inspect", "tiny"]).stderr


def test_bundle_in_a_folder_of_the_name_is_taken_with_a_warning(tiny_model, caplog):
    here = Path("tiny")
    here.mkdir()
    (here / "manifest.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert shipped.find_bundle("tiny") == here
    assert f"the folder {here.absolute()}, not as the model" in caplog.text


def test_checkpoint_in_a_folder_of_the_name_is_taken_with_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    Path("street").mkdir()
    Path("street/model.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint("street") == Path("street")
    assert f"the folder {tmp_path / 'street'}, not as the model" in caplog.text


def test_neither_folder_nor_model(tmp_path):
    with pytest.raises(BundleError, match="no folder and no model .* one of .*street"):
        shipped.find_bundle("avenue")
    done = CliRunner().invoke(main, ["run", "avenue", "synthetic://street"])
    assert done.exit_code == 2
    assert "no model of that name comes with dff-edge (" in done.stderr
    assert shipped.find_bundle(tmp_path) == tmp_path  # opening it says what it lacks
