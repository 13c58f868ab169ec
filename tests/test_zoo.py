"""The shipped models: cards that are whole and true, and bundles made when they are wanted."""

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dff_edge.bundle import shipped
from dff_edge.bundle.excerpt import write_excerpt
from dff_edge.bundle.writer import BundleWriter
from dff_edge.cli import main
from dff_edge.cpuinfo import overflows_here
from dff_edge.errors import BundleError, CheckpointError, MissingDependencyError
from dff_edge.files.staging import Workplace
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.trainer.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from dff_edge.trainer.models import build_model
from dff_edge.zoo import export
from dff_edge.zoo.card import read_card
from tests.bundle.bundles import make_bundle, manifest_fields
from tests.trainer.tiny import tiny_config

NAMES = shipped.shipped_models()
BLOCK_EXPORT = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "onnxscript"):
            raise ImportError(f"{name} is blocked by the test")
sys.meta_path.insert(0, Blocker())
"""


def test_a_model_is_shipped_with_every_checkpoint():
    assert (
        set(NAMES)
        == {path.parent.name for path in shipped.MODELS.glob("*/model.json")}
        >= {"street"}
    )


@pytest.mark.parametrize("name", NAMES)
def test_card_is_that_of_the_model(name):
    card, checkpoint = read_card(name), load_checkpoint(name)
    config = checkpoint.config
    assert (card.name, checkpoint.name) == (name, name)
    assert (card.task, card.classes) == (config.task.name, config.task.classes)
    assert card.frame_size == config.frame_size
    assert (shipped.MODELS / name / "config.yaml").is_file()
    assert list((shipped.MODELS / name).glob("log_*.csv"))


@pytest.mark.parametrize("name", NAMES)
def test_results_are_of_data_that_nothing_was_made_from(name):
    card = read_card(name)
    split = re.compile(rf"\b{card.results.split}\b")
    assert split.search(card.data.test)
    assert not split.search(card.data.train)
    assert card.data.validate_on is None or not split.search(card.data.validate_on)
    assert any(card.data.test in command for command in card.commands)


@pytest.mark.parametrize("name", NAMES)
def test_readme_says_what_the_card_says(name):
    card = read_card(name)
    text = (shipped.MODELS / name / "README.md").read_text(encoding="utf-8")
    rows = [card.results.at_distance, card.results.copied_at_distance or ()]
    for row in filter(None, rows):
        assert " | ".join(f"{100 * share:.1f}" for share in row) in text
    assert all(f"{100 * share:.1f}" in text for share in card.results.at_interval.values())
    words = " ".join(text.split())
    assert all(" ".join(command.split()) in words for command in card.commands)
    assert all(part in text for part in (card.results.metric, *card.classes))
    assert all(heading in text for heading in ("**Made by**", "**Data:**", "**Limits:**"))


def test_mean_over_distances_is_dff_at_l():
    """As many pairs at each distance: "DFF at l" lies between the best and the worst of them."""
    for name in NAMES:
        results = read_card(name).results
        for interval, share in results.at_interval.items():
            within = results.at_distance[:interval]
            assert len(within) == interval
            assert min(within) <= share <= max(within)


def test_command_lists_and_shows():
    runner = CliRunner()
    listed = runner.invoke(main, ["zoo"])
    assert listed.exit_code == 0, listed.output
    assert all(f"\n{name} " in listed.stdout for name in NAMES)
    facts = json.loads(runner.invoke(main, ["zoo", "street", "--json", "-"]).stdout)
    assert facts["results"]["at_distance"][0] == 0.84
    assert facts["bytes"] == (shipped.MODELS / "street" / "weights.safetensors").stat().st_size
    assert runner.invoke(main, ["zoo", "street"]).stdout.startswith("# street\n")
    unknown = runner.invoke(main, ["zoo", "avenue"])
    assert unknown.exit_code == 2
    message = "'avenue' is no model that comes with dff-edge, expected one of"
    assert message in " ".join(unknown.stderr.split())


def test_damaged_card_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "card.json").write_text('{"name": "bad"}')
    with pytest.raises(CheckpointError, match=r"bad/card\.json is damaged"):
        read_card("bad")


# ---- bundles


@pytest.fixture
def tiny_model(tmp_path, monkeypatch):
    """A model called tiny that comes with dff-edge, and a cache and a folder of one's own."""
    folder = tmp_path / "models" / "tiny"
    config = tiny_config().model
    save_checkpoint(folder, build_model(config), config, name="tiny", training={})
    facts = json.loads((shipped.MODELS / "street" / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**facts, "name": "tiny", "frame_size": [32, 64]}))
    monkeypatch.setattr(shipped, "MODELS", folder.parent)
    monkeypatch.setenv("DFF_EDGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def _export_quickly(checkpoint, output, *, command, progress):
    """Make the bundle that export would write by hand, in the model's frame size."""
    assert command == f"dff-edge export {checkpoint.name}"
    progress("exporting")
    make_bundle(output, checkpoint.config.frame_size)


def test_run_takes_a_models_name_and_exports_it_once(tiny_model, monkeypatch):
    monkeypatch.setattr("dff_edge.export.export_bundle", _export_quickly)
    arguments = ["run", "tiny", "synthetic://street?frames=4", "--interval", "2", "--json", "-"]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["frames"] == 4
    assert "exporting the model tiny" in first.stderr

    monkeypatch.setattr(export, "require", _nothing_is_installed)
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


def _nothing_is_installed(module, *, extra, purpose):
    raise MissingDependencyError(f"{purpose} needs '{module}'.")


def test_device_without_torch_is_told_what_to_do(tiny_model, monkeypatch):
    monkeypatch.setattr(export, "require", _nothing_is_installed)
    done = CliRunner().invoke(main, ["run", "tiny", "synthetic://street?frames=1"])
    assert done.exit_code == 1
    assert "The export of the model 'tiny' needs 'torch'." in done.stderr
    assert "--precision" not in done.stderr  # nothing is ready
    assert "dff-edge export tiny -o tiny-bundle" in done.stderr


def test_pipeline_opens_a_models_name_as_the_command_does(tiny_model, monkeypatch, caplog):
    monkeypatch.setattr("dff_edge.export.export_bundle", _export_quickly)
    with Pipeline.open("tiny", threads=1) as pipeline:
        first = pipeline.bundle.path
        pipeline.submit(np.zeros((32, 64, 3), np.uint8))
        assert pipeline.poll(block=True).labels.shape == (32, 64)
    assert f"exporting the model tiny to {first}, once" in caplog.text

    monkeypatch.setattr(export, "require", _nothing_is_installed)
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


# ---- ready bundles


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
    monkeypatch.setattr("dff_edge.export.export_bundle", _export_quickly)
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
    monkeypatch.setattr("dff_edge.export.export_bundle", _export_quickly)
    assert shipped.find_bundle("tiny", to_change=True) == shipped.cached_folder("tiny") != ready


def test_ready_bundle_of_other_weights_is_not_used(tiny_model, monkeypatch, caplog):
    _make_ready(tiny_model, weights="0" * 64)
    monkeypatch.setattr("dff_edge.export.export_bundle", _export_quickly)
    assert shipped.find_bundle("tiny", holding=("int8",)) == shipped.cached_folder("tiny")
    assert "was made from other weights than those of 'tiny' that are there now" in caplog.text


def test_ready_bundle_of_another_schema_is_not_used(tiny_model, monkeypatch, caplog):
    manifest = _make_ready(tiny_model) / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "schema_version": 1}))
    monkeypatch.setattr("dff_edge.export.export_bundle", _export_quickly)
    assert shipped.find_bundle("tiny") == shipped.cached_folder("tiny")
    assert "is not used: manifest.json has schema_version 1" in caplog.text


def test_device_is_told_in_what_a_model_is_ready(tiny_model, monkeypatch):
    _make_ready(tiny_model)
    monkeypatch.setattr(export, "require", _nothing_is_installed)
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
    monkeypatch.setattr("dff_edge.cli.inspect.require", _nothing_is_installed)
    shown = CliRunner().invoke(main, ["inspect", "tiny", "--json", "-"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["bundle"] == str(ready)
    (ready / "manifest.json").unlink()
    assert "needs 'torch'" in CliRunner().invoke(main, ["inspect", "tiny"]).stderr


@pytest.mark.parametrize(
    ("use", "bundle"), [("any", None), ("research", {"precisions": ["int8"], "calibration": "x"})]
)
def test_card_has_a_bundle_where_a_wheel_may_carry_the_model(tiny_model, use, bundle):
    facts = json.loads((tiny_model / "card.json").read_text())
    facts = {**facts, "bundle": bundle, "data": {**facts["data"], "use": use}}
    (tiny_model / "card.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match=r"a bundle where data\.use is 'any', and nowhere"):
        read_card("tiny")


# ---- where neither is there


def test_cache_that_cannot_be_written_is_named(tiny_model, monkeypatch):
    monkeypatch.setattr("dff_edge.export.export_bundle", _export_quickly)
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
    monkeypatch.setattr("dff_edge.export.export_bundle", _export_quickly)
    bundles = tiny_model.parents[1] / "cache" / "bundles"
    (bundles / ".new-0123abcd" / "tiny").mkdir(parents=True)
    with Workplace(bundles, ".new-") as other:
        found = shipped.find_bundle("tiny")

        assert set(bundles.iterdir()) == {found, other.path}
    (bundles / ".new-0123abcd").mkdir()
    assert shipped.find_bundle("tiny") == found  # there already
    assert list(bundles.iterdir()) == [found]


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
