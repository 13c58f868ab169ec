"""Bundles of shipped models, exported when they are first wanted, or not at all."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from dff_edge.bundle import shipped
from dff_edge.cli import main
from dff_edge.files.staging import Workplace
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.zoo import export
from tests.bundle.bundles import make_bundle
from tests.zoo.exporters import BLOCK_EXPORT, export_quickly, nothing_is_installed


def test_run_takes_a_models_name_and_exports_it_once(tiny_model, monkeypatch):
    monkeypatch.setattr("dff_edge.export.export_bundle", export_quickly)
    arguments = ["run", "tiny", "synthetic://street?frames=4", "--interval", "2", "--json", "-"]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["frames"] == 4
    assert "exporting the model tiny" in first.stderr

    monkeypatch.setattr(export, "require", nothing_is_installed)
    second = CliRunner().invoke(main, arguments)
    assert second.exit_code == 0, second.output
    assert "exporting" not in second.stderr
    assert second.stderr == (
        "tiny: Eight classes of drawn street scenes. Made from synthetic://street at 32x64: sky, "
        "building, vegetation, pavement, road, vehicle, pedestrian, pole. It knows drawn scenes "
        "only. On real video its labels mean little.\n"
    )
    assert [path.name for path in (tiny_model.parents[1] / "cache" / "bundles").iterdir()] == [
        shipped.find_bundle("tiny").name
    ]


def test_device_without_torch_is_told_what_to_do(tiny_model, monkeypatch):
    monkeypatch.setattr(export, "require", nothing_is_installed)
    done = CliRunner().invoke(main, ["run", "tiny", "synthetic://street?frames=1"])
    assert done.exit_code == 1
    assert "The export of the model 'tiny' needs 'torch'." in done.stderr
    assert "--precision" not in done.stderr  # nothing is ready
    assert "dff-edge export tiny -o tiny-bundle" in done.stderr


def test_pipeline_opens_a_models_name_as_the_command_does(tiny_model, monkeypatch, caplog):
    monkeypatch.setattr("dff_edge.export.export_bundle", export_quickly)
    with Pipeline.open("tiny", threads=1) as pipeline:
        first = pipeline.bundle.path
        pipeline.submit(np.zeros((32, 64, 3), np.uint8))
        assert pipeline.poll(block=True).labels.shape == (32, 64)
    assert f"exporting the model tiny to {first}, once" in caplog.text

    monkeypatch.setattr(export, "require", nothing_is_installed)
    caplog.clear()
    with Pipeline.open("tiny", threads=1) as pipeline:
        assert pipeline.bundle.path == first == shipped.find_bundle("tiny")
    assert caplog.text == ""


def test_pipeline_on_a_device_opens_what_is_in_the_cache_and_loads_no_exporter(tmp_path):
    bundle = make_bundle(tmp_path / "made", (32, 64))
    street = tmp_path / "models" / "street"  # without a ready bundle
    street.mkdir(parents=True)
    for name in ("card.json", "weights.safetensors"):
        (street / name).symlink_to(shipped.MODELS / "street" / name)
    code = (
        BLOCK_EXPORT
        + f"""
import shutil
from dff_edge.bundle import shipped
from dff_edge.errors import MissingDependencyError
from dff_edge.runtime.pipeline import Pipeline

shipped.MODELS = shipped.Path({str(street.parent)!r})
try:
    Pipeline.open("street")
except MissingDependencyError as error:
    print("dff-edge export street -o street-bundle" in str(error))
cached = shipped.cached_folder("street")
shutil.copytree({str(bundle.path)!r}, cached)
with Pipeline.open("street", threads=1) as pipeline:
    print(pipeline.bundle.path == cached)
print([name for name in sys.modules if name.startswith(("dff_edge.export", "dff_edge.trainer"))])
"""
    )
    environment = os.environ | {"DFF_EDGE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, ["True", "True", "[]"]), done.stderr


def test_cache_that_cannot_be_written_is_named(tiny_model, monkeypatch):
    monkeypatch.setattr("dff_edge.export.export_bundle", export_quickly)
    monkeypatch.setenv("DFF_EDGE_CACHE", "/proc/dff-edge")  # nobody may make a folder there
    done = CliRunner().invoke(main, ["run", "tiny", "synthetic://street?frames=1"])
    assert done.exit_code == 1
    assert "the model 'tiny' is exported to /proc/dff-edge/bundles when its bundle" in done.stderr
    assert "Name another folder in DFF_EDGE_CACHE, or export it where there is" in done.stderr


def test_failed_export_leaves_nothing(tiny_model, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("dff_edge.export.export_bundle", fail)
    with pytest.raises(OSError, match="no space left"):
        shipped.find_bundle("tiny")
    assert list((tiny_model.parents[1] / "cache" / "bundles").iterdir()) == []


def test_what_a_killed_first_use_left_is_removed_and_what_another_is_at_is_not(
    tiny_model, monkeypatch
):
    monkeypatch.setattr("dff_edge.export.export_bundle", export_quickly)
    bundles = tiny_model.parents[1] / "cache" / "bundles"
    (bundles / ".new-0123abcd" / "tiny").mkdir(parents=True)
    with Workplace(bundles, ".new-") as other:
        found = shipped.find_bundle("tiny")

        assert set(bundles.iterdir()) == {found, other.path}
    (bundles / ".new-0123abcd").mkdir()
    assert shipped.find_bundle("tiny") == found  # there already
    assert list(bundles.iterdir()) == [found]
