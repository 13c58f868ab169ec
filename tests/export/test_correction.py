"""Models with a correction network: their graphs, against torch, in all precisions and runtimes."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from dff_edge.bundle.reader import Bundle
from dff_edge.calibration import calibrate_bundle
from dff_edge.calibration.ort.stem import rewrite_stem
from dff_edge.calibration.staleness import Stretch, measure_pairs
from dff_edge.cli import main
from dff_edge.data.clips import open_clips
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.export import export_bundle
from dff_edge.frames import Frame
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sequential import SequentialRunner, open_graphs, run_engine
from dff_edge.runtime.tasks import decoder_of
from dff_edge.synthetic import StreetScene
from dff_edge.trainer.predictor import TorchPredictor
from tests.calibration.optimised import optimised_operators
from tests.export.checkpoints import CLASSES, FRAME_SIZE, tiny_checkpoint


@pytest.fixture(scope="module", params=["segmentation", "detection"])
def checkpoint(request):
    return tiny_checkpoint(task=request.param, correction=True)


@pytest.fixture(scope="module")
def bundle(checkpoint, tmp_path_factory):
    return export_bundle(checkpoint, tmp_path_factory.mktemp("export") / "bundle", interval=4)


@pytest.fixture(scope="module")
def images():
    scene = StreetScene(9, "val", FRAME_SIZE, 4)
    return [np.ascontiguousarray(scene.render(i)[0]) for i in range(4)]


@pytest.fixture(scope="module")
def calibrated(bundle, tmp_path_factory):
    height, width = FRAME_SIZE
    clips = open_clips(
        f"synthetic://street?split=train&seed=40&clips=2&frames=8&height={height}&width={width}"
    )
    path = shutil.copytree(bundle.path, tmp_path_factory.mktemp("calibrated") / "bundle")
    return calibrate_bundle(path, clips, source="the clips", max_keys=8, pairs_per_key=1)


def halves_of(images):
    halves = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return torch.floor(torch.nn.functional.avg_pool2d(halves, 2) + 0.5)


def test_the_flow_graph_returns_it_and_the_task_graph_adds_it(bundle, checkpoint, images):
    assert bundle.manifest.correction is True
    assert "correction: yes\n" in CliRunner().invoke(main, ["inspect", str(bundle.path)]).output
    for graph, role in (("flow", "outputs"), ("task", "inputs"), ("propagate", "inputs")):
        assert "correction" in getattr(bundle.manifest.contract("fp32", graph), role)
    with open_graphs(bundle, "fp32") as subnets:
        runner = SequentialRunner(subnets)
        features = runner.extract(runner.full(images[0]))
        moved = runner.estimate_flow(runner.half(images[0]), runner.half(images[1]))
        plain, corrected = (
            runner.score(runner.warp(features, moved), added)
            for added in (None, moved["correction"])
        )
    with torch.inference_mode():
        halves = halves_of(images[:2])
        expected = checkpoint.model.move(halves[:1], halves[1:])[2].permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(moved["correction"], expected, atol=1e-3)
    assert np.abs(expected).max() > 0.1
    if checkpoint.config.task.name == "segmentation":
        difference = corrected["scores"] - plain["scores"]
        np.testing.assert_allclose(difference, expected, atol=1e-3)


def test_key_frames_are_answered_as_without_it(bundle, checkpoint, images):
    with open_graphs(bundle, "fp32") as subnets:
        runner = SequentialRunner(subnets)
        found = runner.score(runner.extract(runner.full(images[0])))
    frame = torch.from_numpy(images[0]).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        maps = checkpoint.model.recognize(frame)
    expected = maps if isinstance(maps, torch.Tensor) else maps.class_maps
    name = "scores" if isinstance(maps, torch.Tensor) else "class_maps"
    np.testing.assert_allclose(found[name], expected.permute(0, 2, 3, 1).numpy(), atol=1e-3)


def test_the_pipeline_gives_what_the_sequential_runner_gives(bundle, images):
    decoder, found = decoder_of(bundle.manifest), []
    with open_graphs(bundle, "fp32") as subnets:
        runner = SequentialRunner(subnets)
        features = runner.extract(runner.full(images[0]))
        found.append(decoder.decode(runner.score(features), FRAME_SIZE).content)
        for image in images[1:]:
            moved = runner.estimate_flow(runner.half(images[0]), runner.half(image))
            found.append(decoder.decode(runner.propagate(features, moved), FRAME_SIZE).content)

    with Pipeline.open(bundle, policy="fixed:4", threads=1) as pipeline:
        results = list(pipeline.run(Frame(x, i, i / 30) for i, x in enumerate(images)))

    for result, own in zip(results, found, strict=True):
        if result.labels is not None:
            assert (result.labels == own).mean() > 0.99
        else:
            np.testing.assert_allclose(result.detections.scores, own.scores, atol=1e-4)


def test_a_torch_model_and_its_bundle_label_alike(bundle, checkpoint, images):
    if checkpoint.config.task.name == "detection":
        pytest.skip("detections are compared as sets at export")
    both = TorchPredictor(checkpoint.model, FRAME_SIZE), BundlePredictor(bundle, threads=1)
    labels = [p.predict(p.extract(images[0]), images[3]) for p in both]
    both[1].close()
    assert (labels[0] == labels[1]).mean() > 0.99


def test_staleness_is_measured_on_corrected_answers(bundle, checkpoint):
    if checkpoint.config.task.name == "detection":
        pytest.skip("one task is enough")
    height, width = FRAME_SIZE
    clips = open_clips(
        f"synthetic://street?split=train&seed=4&clips=1&frames=8&height={height}&width={width}"
    )
    found = measure_pairs(bundle, clips, [Stretch(0, (1, 6), 0)]).found

    with BundlePredictor(bundle, threads=1) as predictor:
        keys = [predictor.extract(clips[0].image(i)) for i in (1, 6)]
        propagated = predictor.predict(keys[0], clips[0].image(6))
        expected = (propagated != predictor.predict(keys[1], None)).mean()
    assert found == pytest.approx([expected], abs=0.002)


@pytest.mark.parametrize("flavour", ["ort", "trt"])
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_every_precision_carries_it_as_float32(calibrated, images, flavour, precision):
    with open_graphs(calibrated, "fp32") as subnets:
        runner = SequentialRunner(subnets)
        halves = runner.half(images[0]), runner.half(images[2])
        expected = runner.estimate_flow(*halves)["correction"]
    with open_graphs(calibrated, precision, flavour) as subnets:
        moved = SequentialRunner(subnets).estimate_flow(*halves)
    found = moved["correction"]
    assert found.dtype == np.float32
    # Random weights of narrow linear blocks lose much in INT8; a broken graph keeps nothing.
    alike = np.corrcoef(found.ravel(), expected.ravel())[0, 1]
    assert alike > (0.8 if precision == "int8" else 0.999)


def test_the_stems_of_both_networks_read_blocks_of_pixels(bundle, images):
    given = onnx.load_from_string(bundle.graph_bytes("fp32", "flow"))
    rewritten = rewrite_stem(given)

    # Each has a cast of its own, of joined bytes, and an Add in place of Sub.
    operators = Counter(node.op_type for node in rewritten.graph.node)
    assert (operators["Cast"], operators["Sub"]) == (2, 0)
    found = []
    with open_graphs(bundle, "fp32") as subnets:
        halves = [SequentialRunner(subnets).half(image) for image in images[:2]]
    for model in (given, rewritten):
        with OrtEngine(model.SerializeToString(), name="flow") as engine:
            found.append(run_engine(engine, {"key_half": halves[0], "frame_half": halves[1]}))
    for name, expected in found[0].items():
        np.testing.assert_allclose(found[1][name], expected, rtol=1e-4, atol=1e-4)


def test_int8_computes_it_in_integers(calibrated, tmp_path):
    graph = calibrated.graph_bytes("int8", "flow")
    operators = optimised_operators(graph, tmp_path)
    floats = {"Conv", "Gemm", "MatMul", "FusedConv"}
    assert sum(operators[name] for name in floats) == 2  # those of the flow and of the gate
    assert operators["QGemm"] + operators["QLinearMatMul"] == 1  # the scores of the correction


def test_hand_crafted_flow_leaves_it_out(tmp_path):
    checkpoint = tiny_checkpoint(correction=True)
    bundle = export_bundle(checkpoint, tmp_path / "bundle", interval=4, flow="farneback")
    assert bundle.manifest.correction is None
    assert list(bundle.manifest.contract("fp32", "task").inputs) == ["features"]


def test_a_model_without_it_has_the_contract_and_the_manifest_of_before(tmp_path):
    bundle = export_bundle(tiny_checkpoint(), tmp_path / "bundle", interval=4)
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    assert "correction" not in manifest
    contract = bundle.manifest.contract("fp32", "propagate")
    assert list(contract.inputs) == ["features", "flow", "scale"]
    assert list(bundle.manifest.contract("fp32", "flow").outputs) == ["flow", "scale"]
    assert Bundle.open(bundle.path).manifest.correction is None
    assert contract.outputs["scores"].shape[3] == CLASSES
