"""A part of a bundle as a bundle of its own."""

import pytest

from dff_edge.bundle.excerpt import write_excerpt
from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.writer import BundleWriter
from dff_edge.errors import BundleError
from dff_edge.runtime.pipeline import Pipeline
from tests.bundle.bundles import make_bundle
from tests.bundle.detection_bundles import make_detection_bundle

PARITY = {"subnet": "flow", "output": "flow", "inputs": "random", "tolerance": 1e-3}
ERRORS = {"max_abs_error": 0.0, "relative_error": 0.0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "bundle"
    bundle = make_bundle(folder, precisions=("fp32", "fp16", "int8"))
    with BundleWriter.extend(bundle) as writer:
        writer.update(
            parity=[{**PARITY, **ERRORS, "precision": p} for p in ("fp32", "int8")],
            accuracy=[
                {"precision": p, "data": "d", "protocol": "p", "distance": 0, "miou": 0.5}
                for p in ("fp32", "fp16", "int8")
            ],
        )
        return writer.commit()


def test_excerpt_holds_the_graphs_and_records_of_its_precisions_and_no_others(whole, tmp_path):
    part = write_excerpt(whole, tmp_path / "part", ("int8",))

    assert Bundle.open(part.path).precisions == ("int8",)
    assert set(part.manifest.files) == {
        path for path in whole.manifest.files if path.startswith("int8/")
    }
    for graph in ("feature", "flow", "task", "propagate"):
        assert part.graph_bytes("int8", graph) == whole.graph_bytes("int8", graph)
    for records in (part.manifest.parity, part.manifest.accuracy):
        assert [record.precision for record in records] == ["int8"]
    assert part.manifest.calibration == whole.manifest.calibration
    assert part.manifest.provenance == whole.manifest.provenance
    with Pipeline.open(part, precision="int8", threads=1) as pipeline:
        assert pipeline.bundle.digest == part.digest
    with pytest.raises(BundleError, match=r"holds no fp32 graphs, only int8\. `dff-edge export`"):
        Pipeline.open(part, threads=1)


def test_excerpt_of_all_is_the_whole(whole, tmp_path):
    part = write_excerpt(whole, tmp_path / "part", ("fp32", "fp16", "int8"))
    assert part.digest == whole.digest


def test_excerpt_keeps_the_settings_of_a_detector(tmp_path):
    chosen = {"score": 0.3, "f1": 0.8, "data": "val", "key_interval": 5}
    whole = make_detection_bundle(tmp_path / "whole", score_threshold=chosen)
    part = write_excerpt(whole, tmp_path / "part", ("fp32",))
    assert part.manifest.rfcn == whole.manifest.rfcn
    assert part.manifest.score_threshold == whole.manifest.score_threshold is not None


def test_excerpt_of_what_is_not_there_is_refused_and_leaves_nothing(whole, tmp_path):
    bundle = make_bundle(tmp_path / "whole")
    with pytest.raises(BundleError, match="holds no int8 graphs, only fp32"):
        write_excerpt(bundle, tmp_path / "part", ("fp32", "int8"))
    assert not (tmp_path / "part").exists()
    with pytest.raises(BundleError, match="at least one precision for ort"):
        write_excerpt(bundle, tmp_path / "part", ())
