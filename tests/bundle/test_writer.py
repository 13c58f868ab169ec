"""Writing bundles: atomically, keeping what is there, deleting nothing of the user's."""

from __future__ import annotations

import json
import os

import pytest

from dff_edge.bundle import writer as bundle_writer
from dff_edge.bundle.levels import Levels, MapLevels
from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.writer import BundleWriter
from dff_edge.errors import BundleError
from dff_edge.files.staging import locked
from tests.bundle.bundles import (
    calibration_fields,
    make_bundle,
    make_graphs,
    make_model,
    manifest_fields,
)
from tests.bundle.writing import add_precision, files_of, with_tensorrt

OTHER = MapLevels(features=Levels(0.5, 100), scale=Levels(0.5, 0))
MIOU = {"data": "street test", "protocol": "DFF at l", "key_interval": 5}


def test_a_new_bundle_holds_what_was_added(tmp_path):
    bundle = make_bundle(tmp_path / "deep" / "b")

    assert set(files_of(bundle.path)) == {
        "manifest.json",
        "feature.onnx",
        "flow.onnx",
        "task.onnx",
        "propagate.onnx",
    }
    assert bundle.graph_bytes("fp32", "flow") == make_graphs()["flow"]


def test_equal_inputs_give_equal_bundles(tmp_path):
    assert make_bundle(tmp_path / "a").digest == make_bundle(tmp_path / "b").digest


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "b").mkdir()

    assert make_bundle(tmp_path / "b").precisions == ("fp32",)


def test_adding_a_precision_keeps_everything_else(tmp_path):
    before = make_bundle(tmp_path / "b")
    kept = files_of(before.path)
    with BundleWriter.extend(before.path) as writer:
        add_precision(writer, "int8", seed=1)
        writer.update(calibration={"ort": {"int8": calibration_fields()}})
        after = writer.commit()

    assert after.precisions == ("fp32", "int8")
    assert after.manifest.provenance == before.manifest.provenance
    del kept["manifest.json"]
    assert kept.items() <= files_of(after.path).items()
    assert after.graph_bytes("int8", "flow") == make_graphs(seed=1, as_="int8")["flow"]


def test_measurements_are_added_and_replaced_by_subject(tmp_path):
    path = make_bundle(tmp_path / "b").path
    for miou in (0.5, 0.6):
        with BundleWriter.extend(path) as writer:
            writer.update(accuracy=[{**MIOU, "precision": "fp32", "miou": miou}])
            writer.update(accuracy=[{**MIOU, "precision": "fp32", "key_interval": 9, "miou": 0.4}])
            bundle = writer.commit()

    assert [(a.key_interval, a.value) for a in bundle.manifest.accuracy] == [(5, 0.6), (9, 0.4)]


def test_what_was_measured_of_replaced_graphs_is_forgotten(tmp_path):
    path = make_bundle(tmp_path / "b", precisions=("fp32", "int8")).path
    with BundleWriter.extend(path) as writer:
        writer.update(accuracy=[{**MIOU, "precision": p, "miou": 0.5} for p in ("fp32", "int8")])
        writer.commit()
    with BundleWriter.extend(path) as writer:
        add_precision(writer, "int8", seed=7)
        writer.update(calibration={"ort": {"int8": calibration_fields()}})
        bundle = writer.commit()

    assert [a.precision for a in bundle.manifest.accuracy] == ["fp32"]
    assert not (path / "int8" / "propagate.onnx").exists()  # it was of the old weights


def test_replaced_graphs_without_a_new_calibration_record_are_refused(tmp_path):
    path = make_bundle(tmp_path / "b", precisions=("fp32", "int8")).path

    with BundleWriter.extend(path) as writer:
        add_precision(writer, "int8", seed=7)
        with pytest.raises(BundleError, match=r"calibration\.ort of .*, int8, not of none"):
            writer.commit()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"classes": manifest_fields(classes=2)["classes"]}, "task.onnx .*expected .* 4, 2"),
        ({"channels": 9}, "feature.onnx does not fit the manifest as the feature graph"),
        ({"calibration": {"ort": {"int8": calibration_fields(OTHER)}}}, "int8/.* step 0.5"),
    ],
)
def test_kept_graphs_that_the_manifest_no_longer_fits_are_refused(tmp_path, fields, reason):
    bundle = make_bundle(tmp_path / "b", precisions=("fp32", "int8"))

    with BundleWriter.extend(bundle) as writer:
        writer.update(**fields)
        with pytest.raises(BundleError, match=reason):
            writer.commit()

    assert Bundle.open(bundle.path) == bundle  # nothing was published


def test_what_is_committed_is_what_opening_gives(tmp_path):
    path = tmp_path / "b"
    made = make_bundle(path, precisions=("fp32", "int8"))
    assert made == Bundle.open(path)

    with BundleWriter.extend(made) as writer:
        add_precision(writer, "int8", seed=7)
        writer.update(calibration={"ort": {"int8": calibration_fields()}})
        extended = writer.commit()

    assert extended == Bundle.open(path)
    assert with_tensorrt(tmp_path / "trt") == Bundle.open(tmp_path / "trt")


def test_a_bundle_that_was_replaced_since_it_was_opened_is_not_extended(tmp_path):
    opened = make_bundle(tmp_path / "b")
    with BundleWriter.extend(opened) as writer:
        writer.update(accuracy=[{**MIOU, "precision": "fp32", "miou": 0.5}])
        writer.commit()

    with pytest.raises(BundleError, match="since it was opened; run the command again"):
        BundleWriter.extend(opened)


def test_a_bundle_of_an_older_schema_is_replaced(tmp_path):
    path = make_bundle(tmp_path / "b", precisions=("fp32", "int8")).path
    fields = json.loads((path / "manifest.json").read_text())
    old = {"schema_version": 1, "subnets": {}, "files": fields["files"]}
    (path / "manifest.json").write_text(json.dumps(old))
    with pytest.raises(BundleError, match="schema_version 1, this dff-edge reads 3"):
        Bundle.open(path)

    with BundleWriter.create(path, replace=True) as writer:
        add_precision(writer, "fp32", seed=3, subnets=4)
        writer.update(**manifest_fields())
        writer.commit()

    assert Bundle.open(path).precisions == ("fp32",)
    assert not (path / "int8").exists()


def test_replacing_a_bundle_removes_its_files(tmp_path):
    path = make_bundle(tmp_path / "b", precisions=("fp32", "int8")).path
    with BundleWriter.create(path, replace=True) as writer:
        add_precision(writer, "fp32", seed=3, subnets=4)
        writer.update(**manifest_fields())
        bundle = writer.commit()

    assert bundle.precisions == ("fp32",)
    assert not (path / "int8").exists()
    assert bundle.graph_bytes("fp32", "task") == make_graphs(seed=3)["task"]


def test_a_bundle_is_not_replaced_unasked(tmp_path):
    make_bundle(tmp_path / "b")

    with pytest.raises(BundleError, match="holds a bundle already"):
        BundleWriter.create(tmp_path / "b")


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")

    with pytest.raises(BundleError, match=r"holds files and no bundle \(first: 'thesis.tex'\)"):
        BundleWriter.create(tmp_path, replace=True)


def test_a_bundle_with_other_files_is_refused(tmp_path):
    path = make_bundle(tmp_path / "b").path
    (path / "thesis.tex").write_text("years of work")

    with pytest.raises(BundleError, match="'thesis.tex', which is not part of the bundle"):
        BundleWriter.create(path, replace=True)


def test_a_manifest_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "my web app"}')

    with pytest.raises(BundleError, match="Is this a bundle of dff-edge?"):
        BundleWriter.create(tmp_path, replace=True)


def test_a_file_that_came_while_writing_is_not_deleted(tmp_path):
    path = make_bundle(tmp_path / "b").path
    with BundleWriter.create(path, replace=True) as writer:
        add_precision(writer, "fp32", seed=3, subnets=4)
        writer.update(**manifest_fields())
        (path / "thesis.tex").write_text("years of work")
        with pytest.raises(BundleError, match="thesis.tex"):
            writer.commit()

    assert (path / "thesis.tex").read_text() == "years of work"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "b").write_text("x")

    with pytest.raises(BundleError, match="is a file, expected a folder"):
        BundleWriter.create(tmp_path / "b")


@pytest.mark.parametrize("is_full", [False, True])
def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path, monkeypatch, is_full):
    path = make_bundle(tmp_path / "b").path
    if is_full:
        full = os.statvfs_result((4096, 4096, 1000, 0, 0, 1, 1, 1, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda folder: full)
    else:  # root may write everywhere
        monkeypatch.setattr(os, "access", lambda path, mode: False)

    for start in (BundleWriter.extend, BundleWriter.create):
        place = path if start == BundleWriter.extend else tmp_path / "deep" / "new"
        with pytest.raises(BundleError, match="no room is left|is not writable"):
            start(place)


def test_leaving_without_commit_changes_nothing(tmp_path):
    path = make_bundle(tmp_path / "b").path
    before = files_of(path)
    with BundleWriter.extend(path) as writer:
        add_precision(writer, "int8", seed=1)

    assert files_of(path) == before
    with BundleWriter.create(tmp_path / "new") as writer:
        add_precision(writer, "fp32", seed=1)
    assert not (tmp_path / "new").exists()


def test_the_old_bundle_stays_open_to_others_while_one_is_prepared(tmp_path):
    path = make_bundle(tmp_path / "b").path
    with BundleWriter.extend(path) as writer:
        add_precision(writer, "int8", seed=1)

        assert Bundle.open(path).precisions == ("fp32",)


def test_two_writers_do_not_mix(tmp_path):
    path = make_bundle(tmp_path / "b").path
    slow, fast = BundleWriter.extend(path), BundleWriter.extend(path)
    for writer in (slow, fast):
        add_precision(writer, "int8", seed=1)
        writer.update(calibration={"ort": {"int8": calibration_fields()}})
    fast.commit()

    with slow, pytest.raises(BundleError, match="changed by another process"):
        slow.commit()
    assert Bundle.open(path).precisions == ("fp32", "int8")
    assert not list(path.glob(".*"))


def test_two_new_bundles_in_one_folder_do_not_mix(tmp_path):
    slow, fast = (BundleWriter.create(tmp_path / "b") for _ in range(2))
    for seed, writer in enumerate((slow, fast)):
        add_precision(writer, "fp32", seed=seed, subnets=4)
        writer.update(**manifest_fields())
    fast.commit()

    with slow, pytest.raises(BundleError, match="holds a bundle already"):
        slow.commit()
    assert Bundle.open(tmp_path / "b").graph_bytes("fp32", "flow") == make_graphs(seed=1)["flow"]


def test_what_killed_writers_prepared_is_removed_and_what_others_prepare_is_not(tmp_path):
    path = make_bundle(tmp_path / "b").path
    (path / ".staging-0123abcd").mkdir()
    (path / ".staging-0123abcd" / "flow.onnx").write_bytes(b"half a fi")
    with BundleWriter.extend(path) as other:
        add_precision(other, "int8", seed=1)
        prepared = list(path.glob(".staging-*/int8/*"))
        with BundleWriter.extend(path) as writer:
            writer.update(default_key_interval=9)
            writer.commit()

        assert [p for p in prepared if not p.exists()] == []
        assert not (path / ".staging-0123abcd").exists()
    assert not list(path.glob(".*"))


def test_a_folder_that_another_process_keeps_is_told(tmp_path, monkeypatch):
    path = make_bundle(tmp_path / "b").path
    monkeypatch.setattr(bundle_writer, "_WAIT_S", 0.0)
    with BundleWriter.extend(path) as writer, locked(path, 0.0):
        writer.update(default_key_interval=9)
        with pytest.raises(BundleError, match="is being written by this process"):
            writer.commit()


def test_a_manifest_changed_meanwhile_is_not_overwritten(tmp_path):
    path = make_bundle(tmp_path / "b").path
    with BundleWriter.extend(path) as writer:
        writer.update(default_key_interval=9)
        fields = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(fields))
        with pytest.raises(BundleError, match="was changed by another process"):
            writer.commit()


def test_an_unsafe_graph_is_not_written(tmp_path):
    model = make_model("task")
    model.graph.initializer[0].external_data.add(key="location", value="x")

    with (
        BundleWriter.create(tmp_path / "b") as writer,
        pytest.raises(BundleError, match="external data"),
    ):
        writer.add_graph("fp32", "task", model.SerializeToString())


def test_a_graph_that_does_not_fit_the_manifest_is_not_committed(tmp_path):
    with BundleWriter.create(tmp_path / "b") as writer:
        add_precision(writer, "fp32", seed=0, subnets=4)
        writer.update(**manifest_fields(channels=9))
        with pytest.raises(BundleError, match="feature.onnx does not fit the manifest"):
            writer.commit()

    assert not (tmp_path / "b").exists()


def test_missing_fields_are_told_on_commit(tmp_path):
    with BundleWriter.create(tmp_path / "b") as writer:
        add_precision(writer, "fp32", seed=0, subnets=4)
        with pytest.raises(BundleError, match="  frame_size: is missing"):
            writer.commit()


@pytest.mark.parametrize("name", ["files", "graphs", "schema_version", "miou"])
def test_fields_that_the_writer_fills_in_or_does_not_know_are_refused(tmp_path, name):
    writer = BundleWriter.create(tmp_path / "b")

    with pytest.raises(BundleError, match=f"'{name}' cannot be set, expected one of"):
        writer.update(**{name: {}})


def test_an_unknown_subnet_is_refused(tmp_path):
    with pytest.raises(BundleError, match="is not a graph of a bundle"):
        BundleWriter.create(tmp_path / "b").add_graph("fp32", "../x", b"")  # type: ignore[arg-type]


def test_a_writer_is_closed_after_commit(tmp_path):
    writer = BundleWriter.extend(make_bundle(tmp_path / "b").path)
    writer.commit()

    with pytest.raises(BundleError, match="writer is closed"):
        writer.update(channels=3)
