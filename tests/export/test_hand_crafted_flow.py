"""A bundle whose flow is hand-crafted (SFF): exported, calibrated, deployed and run."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.writer import BundleWriter
from dff_edge.calibration import calibrate_bundle
from dff_edge.data.clips import open_clips
from dff_edge.deploy import deploy_bundle, open_target
from dff_edge.errors import BundleError, CalibrationError, ConfigError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.export import export_bundle
from dff_edge.frames import Frame
from dff_edge.runtime.engines.cache import EngineCache
from dff_edge.runtime.engines.open import open_subnets
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import FixedInterval
from dff_edge.trainer.predictor import TorchPredictor
from tests.bundle.bundles import make_graphs, manifest_fields
from tests.export.checkpoints import FRAME_SIZE, tiny_checkpoint

SIZE = f"height={FRAME_SIZE[0]}&width={FRAME_SIZE[1]}"


@pytest.fixture(scope="module")
def clips():
    return open_clips(f"synthetic://street?split=train&seed=40&clips=2&frames=8&{SIZE}")


@pytest.fixture(scope="module")
def sff(clips, tmp_path_factory):
    """FP32 and INT8. It is shared: do not change it."""
    path = tmp_path_factory.mktemp("sff") / "bundle"
    export_bundle(tiny_checkpoint(), path, interval=4, flow="dis-medium")
    small = {"max_keys": 8, "pairs_per_key": 1}
    return calibrate_bundle(path, clips, source="clips", precisions=["int8"], **small)


def test_flow_has_no_graph_and_tensorrt_none_at_all(sff):
    assert sff.manifest.flow_function == "dis-medium"
    for precision in ("fp32", "int8"):
        assert set(sff.manifest.graph_paths()[precision]) == {"feature", "task", "propagate"}
    assert sff.manifest.graph_paths("trt") == {}
    assert {path.name for path in sff.path.rglob("*.onnx")} == {
        "feature.onnx",
        "task.onnx",
        "propagate.onnx",
    }
    held = sff.manifest.graphs["ort"]["fp32"]
    assert sff.size_bytes("fp32") == sum(
        (sff.path / name).stat().st_size for name in (held["feature"], held["task"])
    )
    with pytest.raises(BundleError, match="no flow graph in int8: its flow is .* 'dis-medium'"):
        sff.graph_bytes("int8", "flow")


def test_labels_equal_those_of_the_torch_model_with_the_same_flow(sff, clips):
    model = tiny_checkpoint().model
    torch_models = {
        flow: TorchPredictor(model, FRAME_SIZE, flow=flow) for flow in ("dis-medium", "network")
    }
    same = dict.fromkeys(torch_models, 0.0)
    with BundlePredictor(sff, threads=1) as predictor:
        for clip in clips:
            labels = predictor.predict(predictor.extract(clip.image(0)), clip.image(6))
            for flow, torch_model in torch_models.items():
                expected = torch_model.predict(torch_model.extract(clip.image(0)), clip.image(6))
                same[flow] += np.mean(labels == expected) / len(clips)

    assert same["dis-medium"] > 0.999
    assert same["network"] < 0.99


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_pipeline_gives_what_the_predictor_gives(sff, clips, precision):
    images = [clips[0].image(index) for index in range(6)]
    with BundlePredictor(sff, precision, threads=1) as predictor:
        keys = [predictor.extract(images[i]) for i in (0, 3)]
        expected = [predictor.predict(keys[i // 3], images[i] if i % 3 else None) for i in range(6)]

    frames = [Frame(image, i, i / 30) for i, image in enumerate(images)]
    with Pipeline.open(sff, precision=precision, policy=FixedInterval(3), threads=1) as pipeline:
        labels = [result.labels for result in pipeline.run(frames)]

    np.testing.assert_array_equal(labels, expected)


def test_scale_of_int8_is_the_byte_that_means_one(sff):
    levels = sff.manifest.map_levels("int8").scale
    opened = open_subnets(sff, "int8", threads=1)
    flow = opened.subnets.flow
    frame = np.random.default_rng(0).integers(0, 256, flow.inputs["key_half"].shape, np.uint8)
    outputs = {name: spec.empty() for name, spec in flow.outputs.items()}
    flow.run({"key_half": frame, "frame_half": frame}, outputs)
    opened.close()

    np.testing.assert_array_equal(levels.dequantize(outputs["scale"]), 1)


def test_deploys_to_the_cpu(sff, tmp_path):
    cache = EngineCache(tmp_path)
    with open_target("cpu", cache) as target:
        source = f"synthetic://street?seed=8&{SIZE}"
        done = list(deploy_bundle(sff, target, ["fp32", "int8"], cache, source=source))

    assert [set(deployed.engines) for deployed in done] == [{"feature", "task"}] * 2
    assert done[0].agreement > 0.999


def test_gpus_are_refused(sff, clips):
    for engine in ("cuda", "tensorrt"):
        with pytest.raises(ConfigError, match="onnxruntime or openvino: .* by 'dis-medium'"):
            open_subnets(sff, "fp32", engine)
    with pytest.raises(CalibrationError, match="'dis-medium' on the CPU.*--flavour ort"):
        calibrate_bundle(sff.path, clips, source="clips", flavours=["ort", "trt"])
    assert Bundle.open(sff.path).digest == sff.digest


@pytest.mark.parametrize(
    ("flow_function", "subnets", "expected"),
    [
        ("farneback", ("feature", "flow", "task", "propagate"), "feature, propagate, task, for"),
        ("network", ("feature", "task", "propagate"), "feature, flow, propagate, task, for"),
        ("optimal", ("feature", "task", "propagate"), "flow_function: received 'optimal'"),
    ],
)
def test_bundle_has_a_flow_graph_or_a_function(tmp_path, flow_function, subnets, expected):
    graphs = make_graphs()
    with BundleWriter.create(tmp_path / "bundle") as writer:
        for subnet in subnets:
            writer.add_graph("fp32", subnet, graphs[subnet])
        writer.update(**manifest_fields(), flow_function=flow_function)
        with pytest.raises(BundleError, match=expected):
            writer.commit()
