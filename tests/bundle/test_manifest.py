"""The manifest: what is read back, and every bound by the name of its field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dff_edge.bundle.levels import Levels, MapLevels
from dff_edge.bundle.manifest import Manifest, listed_files
from dff_edge.errors import BundleError
from tests.bundle.bundles import calibration_fields
from tests.bundle.manifests import FILE, FP32, INT8, LEVELS, PARITY, fields, parse

BARE = {"precision": "fp32", "data": "street test", "protocol": "DFF at l"}
MIOU = {**BARE, "miou": 0.7}
DETECTION = {"task": "detection", "decoding": "rfcn", "rfcn": {"bins": 3}}
THRESHOLD = {"score": 0.4, "f1": 0.8, "data": "street val", "key_interval": 5}


def test_all_fields_are_read():
    manifest = parse(
        graphs={"ort": {"fp32": FP32, "int8": INT8}},
        files={path: FILE for path in (*FP32.values(), *INT8.values())},
        calibration={"ort": {"int8": calibration_fields()}},
        accuracy=[{**MIOU, "key_interval": 5}, {**MIOU, "distance": 0}],
        parity=[PARITY],
    )

    assert manifest.frame_size == (32, 64)
    assert manifest.class_names == ("class0", "class1", "class2")
    assert manifest.graphs["ort"]["int8"] == INT8
    assert manifest.calibration["ort"]["int8"].frames == 22
    assert [a.key_interval for a in manifest.accuracy] == [5, None]
    assert manifest.parity[0].tolerance == 1e-4


def test_what_is_dumped_reads_back_equal():
    manifest = parse(accuracy=[{**MIOU, "key_interval": 5}], parity=[PARITY])

    assert Manifest.parse(manifest.dump()) == manifest
    assert Manifest.parse(manifest.dump()).dump() == manifest.dump()


def test_a_manifest_is_read_from_its_file(tmp_path):
    manifest = parse()
    (tmp_path / "manifest.json").write_bytes(manifest.dump())

    assert Manifest.load(tmp_path / "manifest.json") == manifest


def test_a_manifest_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BundleError, match="cannot be read: No such file"):
        Manifest.load(tmp_path / "manifest.json")


def test_the_contract_follows_the_manifest():
    contract = parse(frame_size=[64, 96], channels=5).contract("fp32", "propagate")

    assert {n: s.shape for n, s in contract.inputs.items()} == {
        "features": (1, 4, 6, 5),
        "flow": (1, 4, 6, 2),
        "scale": (1, 4, 6, 5),
    }
    assert contract.outputs["scores"].shape == (1, 4, 6, 3)


def int8_manifest(**levels: Any) -> Manifest:
    files = {path: FILE for paths in (FP32, INT8) for path in paths.values()}
    return parse(
        graphs={"ort": {"fp32": FP32, "int8": INT8}},
        files=files,
        calibration={"ort": {"int8": {**calibration_fields(None), **levels}}},
    )


def test_levels_make_wide_maps_bytes_in_their_precision_alone():
    manifest = int8_manifest(**LEVELS)

    assert manifest.map_levels("int8") == MapLevels(Levels(0.5, 3), Levels(0.25, 4))
    assert manifest.map_levels("fp32") is None
    for precision, name in (("int8", "uint8"), ("fp32", "float32")):
        flow = manifest.contract(precision, "flow")
        assert flow.outputs["scale"].dtype == name
        assert flow.outputs["flow"].dtype == "float32"
        assert manifest.contract(precision, "task").inputs["features"].dtype == name
    assert int8_manifest().map_levels("int8") is None


@pytest.mark.parametrize("name", ["features", "scale"])
def test_levels_of_one_map_alone_are_refused(name):
    with pytest.raises(BundleError, match="levels of features and scale, or of neither"):
        int8_manifest(**{name: LEVELS[name]})


@pytest.mark.parametrize(
    "levels",
    [{"step": 0.0, "zero": 3}, {"step": 1e-300, "zero": 3}, {"step": 1.0, "zero": 256}],
)
def test_levels_that_mean_nothing_are_refused(levels):
    with pytest.raises(BundleError, match=r"calibration\.ort\.int8\.features"):
        int8_manifest(**{**LEVELS, "features": levels})


@pytest.mark.parametrize("version", [1, 2, 3])
def test_files_are_known_of_every_schema(version):
    data = json.dumps({"schema_version": version, "files": {"a/b.onnx": FILE}, "x": 1}).encode()

    assert listed_files(data) == {"a/b.onnx"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"files": None}, "files is not valid"),
        ({"files": {"../b": FILE}}, "stays in the bundle"),
        ({"files": {}, "schema_version": 4}, "Upgrade dff-edge"),
    ],
)
def test_damaged_files_of_an_older_schema_are_refused(changes, reason):
    with pytest.raises(BundleError, match=reason):
        listed_files(json.dumps({"schema_version": 1, **changes}).encode())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"task": "detection"}, r"expected decoding 'rfcn' for detection"),
        ({"task": "tracking"}, r"  task: received 'tracking', expected 'segmentation' or 'dete"),
        ({"decoding": "rfcn"}, r"expected decoding 'bilinear_half_pixel_argmax' for segmentation"),
        ({"rfcn": {}}, r"expected no settings 'rfcn' for segmentation"),
        ({"task": "detection", "decoding": "rfcn"}, r"expected settings 'rfcn' for detection"),
        (DETECTION, r"flow, propagate, task, task_maps, for detection and .* not feature, flow, "),
        (
            {"graphs": {"ort": {"fp32": {**FP32, "task_maps": "task.onnx"}}}},
            r"in graphs\.ort\.fp32 feature, flow, propagate, task, for segment.*task_maps",
        ),
        ({**DETECTION, "rfcn": {"anchor_scales": [0]}}, r"  rfcn\.anchor_scales\[0\]: received 0"),
        ({"surprise": 1}, r"  surprise: received 1, expected no field of this name"),
        ({"classes": []}, r"  classes: received \[\], expected .*at least 1 item"),
        ({"classes": [{"name": "", "colour": [0, 0, 0]}]}, r"  classes\[0\]\.name: received ''"),
        ({"classes": [{"name": "a", "colour": [0, 0, 256]}]}, r"\[0\]\.colour\[2\]: received 256"),
        ({"classes": [{"name": "a", "colour": [0, 0, 0]}] * 2}, r"classes of different names"),
        (
            {"classes": [{"name": f"c{i}", "colour": [0, 0, 0]} for i in range(257)]},
            r"  classes: .*at most 256 items",
        ),
        ({"frame_size": [16, 64]}, r"  frame_size\[0\]: received 16, expected greater .* to 32"),
        ({"frame_size": [32, 8208]}, r"  frame_size\[1\]: received 8208, expected less .* 8192"),
        ({"frame_size": [32, 72]}, r"  frame_size\[1\]: received 72, expected a multiple of 16"),
        ({"frame_size": [32, "64"]}, r"  frame_size\[1\]: received '64', expected .*integer"),
        ({"frame_size": [2048, 8192], "channels": 4096}, r"feature maps below 268435456 bytes"),
        ({"stride": 4}, r"  stride: received 4, expected 8 or 16"),
        ({"channels": 0}, r"  channels: received 0, expected greater than or equal to 1"),
        ({"channels": 4097}, r"  channels: received 4097, expected less than or equal to 4096"),
        ({"decoding": "nearest"}, r"  decoding: received 'nearest'"),
        ({"default_key_interval": 0}, r"  default_key_interval: received 0"),
        ({"normalisation": {"mean": [0] * 3, "std": [0, 1, 1]}}, r"  normalisation\.std\[0\]"),
        ({"normalisation": {"mean": [float("nan")] * 3, "std": [1] * 3}}, r"mean\[0\]: .*finite"),
        ({"graphs": {}}, r"graphs of at least one precision for ort"),
        ({"score_threshold": THRESHOLD}, r"no score_threshold for segmentation, which gives no"),
        (
            {**DETECTION, "rfcn": {"min_score": 0.5}, "score_threshold": THRESHOLD},
            r"a score_threshold of at least rfcn\.min_score, 0\.5",
        ),
        (
            {**DETECTION, "rfcn": {}, "score_threshold": {**THRESHOLD, "score": 1.5}},
            r"  score_threshold\.score: received 1\.5, expected less than or equal to 1",
        ),
        (
            {**DETECTION, "rfcn": {}, "score_threshold": {"score": 0.4}},
            r"  score_threshold\.f1: is missing",
        ),
        ({"graphs": {"ort": {"fp64": FP32}}}, r"  graphs\.ort\.fp64: received 'fp64'"),
        ({"graphs": {"tvm": {"fp32": FP32}}}, r"  graphs\.tvm: received 'tvm'"),
        ({"graphs": {"ort": {"fp32": {"x": "y"}}}}, r"  graphs\.ort\.fp32\.x: received 'x'"),
        ({"graphs": {"ort": {"fp32": INT8}}}, r"fp32 feature, flow, propagate, task, .*low, task$"),
        (
            {
                "graphs": {"ort": {"fp32": FP32, "int8": INT8}},
                "files": {path: FILE for path in (*FP32.values(), *INT8.values())},
            },
            r"calibration\.ort of the quantised precisions that are there, int8, not of none",
        ),
        ({"flow_function": "dis-fast"}, r"fp32 feature, propagate, task, for .* 'dis-fast', not "),
        ({"files": {}}, r"an entry in files for the graph 'feature.onnx'"),
        ({"files": {"a.onnx": {**FILE, "sha256": "A" * 64}}}, r"  files\.a\.onnx\.sha256: "),
        ({"files": {"a.onnx": {**FILE, "bytes": 0}}}, r"  files\.a\.onnx\.bytes: received 0"),
        ({"files": {"a.onnx": {**FILE, "bytes": 1 << 32}}}, r"  files\.a\.onnx\.bytes: "),
        ({"files": {f"{i}.onnx": FILE for i in range(65)}}, r"  files: .*at most 64 items"),
        ({"calibration": {"ort": {"int8": calibration_fields()}}}, r"there, none, not of int8"),
        ({"calibration": {"ort": {"fp32": calibration_fields()}}}, r"there, none, not of fp32"),
        ({"calibration": {"ort": {"fp64": calibration_fields()}}}, r"  calibration\.ort\.fp64: "),
        ({"accuracy": [MIOU]}, r"  accuracy\[0\]: .*either key_interval or distance"),
        (
            {"accuracy": [{**MIOU, "distance": 0, "map": 0.5}]},
            r"  accuracy\[0\]: .*one measure beside",
        ),
        ({"accuracy": [{**BARE, "distance": 0}]}, r"  accuracy\[0\]: .*one measure beside"),
        ({"accuracy": [{**BARE, "distance": 0, "\x1b[": 0.5}]}, r"  accuracy\[0\]: .*one measure"),
        ({"accuracy": [{**MIOU, "distanse": 3}]}, r"  accuracy\[0\]\.distanse: received 3"),
        ({"accuracy": [{**BARE, "distance": 0, "\x1b[": 5}]}, r"  accuracy\[0\]\.\\x1b\["),
        ({"accuracy": [{**MIOU, "distance": 0, "miou": 70.0}]}, r"  accuracy\[0\]\.miou: .*70"),
        ({"parity": [{**PARITY, "relative_error": -1.0}]}, r"  parity\[0\]\.relative_error"),
        ({"provenance": {"created": "now", "versions": {}}}, r"  provenance: .*'dff_edge'"),
        ({"provenance": {"created": "now"}}, r"  provenance\.versions: is missing"),
    ],
)
def test_a_field_out_of_bounds_is_refused_by_name(changes, line):
    with pytest.raises(BundleError, match=line) as caught:
        parse(**changes)

    assert "pydantic" not in str(caught.value)
    assert all(len(text) < 250 for text in str(caught.value).splitlines())


def test_every_problem_has_its_line():
    with pytest.raises(BundleError) as caught:
        parse(stride=4, channels=0, task="x")

    assert len(str(caught.value).splitlines()) == 4


def test_a_refused_class_is_not_told_as_a_missing_one():
    with pytest.raises(BundleError) as caught:
        parse(classes=[{"name": "road", "colour": [0, 0, 999]}])

    assert len(str(caught.value).splitlines()) == 2


def test_names_that_differ_only_in_case_are_refused():
    with pytest.raises(BundleError, match="more than upper and lower case"):
        parse(files={**{path: FILE for path in FP32.values()}, "Flow.onnx": FILE})


def test_the_manifest_cannot_list_itself():
    with pytest.raises(BundleError, match="cannot hold its own digest"):
        parse(files={**{path: FILE for path in FP32.values()}, "manifest.json": FILE})


def test_a_manifest_of_detection_knows_its_maps():
    paths = {**FP32, "task_maps": "task_maps.onnx"}
    files = {path: FILE for path in paths.values()}
    found = Manifest.build(**fields(**DETECTION, graphs={"ort": {"fp32": paths}}, files=files))

    assert Manifest.parse(found.dump()) == found
    assert (found.task_graph("ort"), found.task_graph("trt")) == ("task_maps", "task")
    maps = found.contract("fp32", "task_maps").outputs
    height, width = (side // 16 for side in found.frame_size)
    anchors, bins, classes = 3 * 3, 3 * 3, len(found.classes)
    assert {name: spec.shape for name, spec in maps.items()} == {
        "objectness": (1, height, width, anchors),
        "deltas": (1, height, width, 4 * anchors),
        "class_maps": (1, height, width, bins * (classes + 1)),
        "box_maps": (1, height, width, 4 * bins),
    }
    for graph in ("task", "propagate", "propagate_portable"):  # TensorRT builds no NMS
        assert found.contract("fp16", graph, "trt").outputs == maps
    for graph in ("task", "propagate"):
        whole = found.contract("fp32", graph).outputs
        assert {name: (spec.dtype.name, spec.shape) for name, spec in whole.items()} == {
            "boxes": ("float32", (1, 300, 4)),
            "scores": ("float32", (1, 300)),
            "labels": ("int32", (1, 300)),
            "count": ("int32", (1,)),
        }
