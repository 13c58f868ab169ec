"""A detector from export to calibration to the runtime."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest

from dff_edge.calibration import calibrate_bundle
from dff_edge.calibration.compare import DETECTIONS
from dff_edge.detection_matching import detections_of, partners
from dff_edge.errors import CalibrationError
from dff_edge.frames import Frame
from dff_edge.onnx_graphs.detection import whole_task
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.runtime.pipeline import Pipeline
from tests.calibration.optimised import optimised_operators
from tests.export.checkpoints import FRAME_SIZE, tiny_bundle

SMALL = {"max_keys": 8, "pairs_per_key": 1}


@pytest.fixture
def calibrated(calibrated_detector):
    return calibrated_detector


def test_all_precisions_have_the_cut_graph_and_the_whole_one(calibrated):
    bundle, _ = calibrated

    for precision in ("int8", "fp16"):
        graphs = bundle.manifest.graphs["ort"][precision]
        assert {"task", "task_maps", "propagate"} <= set(graphs)


def test_learned_maps_are_integer_products_and_what_follows_is_float(calibrated, tmp_path):
    bundle, _ = calibrated
    found = optimised_operators(bundle.graph_bytes("int8", "task"), tmp_path)

    assert found["QGemm"] == 4
    assert found["Gemm"] == found["MatMulInteger"] == 0
    assert found["DequantizeLinear"] == found["QuantizeLinear"] == 0


def test_detections_of_fp32_are_found_again(calibrated):
    bundle, lines = calibrated
    records = [r for r in bundle.manifest.parity if r.output == DETECTIONS]
    own = [r for r in records if r.precision != "fp32"]

    assert {(r.precision, r.subnet) for r in own} == {
        (precision, subnet)
        for precision in ("int8", "fp16")
        for subnet in ("task", "propagate")
    }  # fmt: skip
    assert all(int(r.inputs.split()[0]) >= 10 for r in own)  # sure enough to compare
    assert all(r.relative_error <= 0.2 for r in own)
    assert sum("of the detections that are certain in fp32 are matched" in x for x in lines) == 4


def same_boxes(found, expected):
    """Share of both that is in the other too, in all but rounding."""
    same = {"min_iou": 0.95, "max_score_error": 1e-2}
    there, back = partners(expected, found, **same), partners(found, expected, **same)
    return float(np.concatenate([there >= 0, back >= 0]).mean())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_runtime_finds_what_the_whole_graphs_find(calibrated, clips, precision):
    bundle, _ = calibrated
    images = [np.ascontiguousarray(clips[0].image(index)) for index in range(2)]
    assert images[0].shape[:2] == FRAME_SIZE  # so that pixels are those of the network

    def run(name, inputs):
        with OrtEngine(bundle.graph_bytes(precision, name), name=name) as engine:
            outputs = {key: spec.empty() for key, spec in engine.outputs.items()}
            engine.run(inputs, outputs)
        return outputs

    halves = [np.empty((1, FRAME_SIZE[0] // 2, FRAME_SIZE[1] // 2, 3), np.uint8) for _ in images]
    for image, half in zip(images, halves, strict=True):
        FrameResizer(FRAME_SIZE).half(image, half)
    features = run("feature", {"frame": images[0][None]})
    moved = run("flow", {"key_half": halves[0], "frame_half": halves[1]})
    expected = [run("task", features), run("propagate", {**features, **moved})]

    frames = [Frame(image, index, index / 30) for index, image in enumerate(images)]
    with Pipeline.open(bundle.path, precision=precision, policy="fixed:2") as pipeline:
        found = [result.detections for result in pipeline.run(frames)]

    assert [len(detections) > 0 for detections in found] == [True, True]
    assert same_boxes(found[0], detections_of(expected[0])) == 1
    # The warp rounds its bytes once more here or there.
    assert same_boxes(found[1], detections_of(expected[1])) >= 0.9


def test_precision_that_loses_the_objects_is_refused(
    clips, tmp_path_factory, monkeypatch, tmp_path
):
    fp32 = tiny_bundle(tmp_path_factory, "half", task="detection")
    path = shutil.copytree(fp32.path, tmp_path / "bundle")

    def elsewhere(task_maps, settings, stride):
        """Anchors of another size: no box is where it was."""
        sizes = {"anchor_scales": (0.1, 0.2)}
        return whole_task(task_maps, settings.model_copy(update=sizes), stride)

    monkeypatch.setattr("dff_edge.calibration.calibrate.whole_task", elsewhere)
    before = (path / "manifest.json").read_bytes()

    with pytest.raises(CalibrationError, match=r"fp16 task graph is broken: .* are lost"):
        calibrate_bundle(path, clips, source="x", precisions=["fp16"], flavours=["ort"], **SMALL)
    assert (path / "manifest.json").read_bytes() == before


def test_it_is_said_when_fp32_is_sure_of_nothing(clips, tmp_path_factory, monkeypatch, tmp_path):
    """Nothing was lost then, but nothing was compared either."""
    fp32 = tiny_bundle(tmp_path_factory, "half", task="detection")
    path = shutil.copytree(fp32.path, tmp_path / "bundle")
    for module in ("calibration.compare", "runtime.tasks.detection"):
        monkeypatch.setattr(f"dff_edge.{module}.SURE_SCORE", 1.1)
    lines = []

    made = calibrate_bundle(
        path, clips, source="x", precisions=["fp16"], flavours=["ort"], progress=lines.append,
        **SMALL,
    )  # fmt: skip

    assert "Warning: detections of fp16 were not compared with fp32" in lines[-2]
    assert not any(r.output == DETECTIONS and r.precision == "fp16" for r in made.manifest.parity)


def test_graphs_for_tensorrt_hold_nothing_that_it_cannot_build(calibrated):
    bundle, _ = calibrated

    for precision in ("fp32", "fp16", "int8"):
        for name in ("task", "propagate", "propagate_portable"):
            graph = onnx.load_from_string(bundle.graph_bytes(precision, name, "trt")).graph
            operators = {node.op_type for node in graph.node}
            assert not operators & {"NonMaxSuppression", "RoiAlign", "TopK", "ScatterND"}
