"""A calibrated bundle: its graphs and records, and what they compute beside fp32."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.bundle.reader import Bundle
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.frames import Frame
from dff_edge.names import TENSORRT_GRAPHS
from dff_edge.runtime.kernels.warp import warp_features
from dff_edge.runtime.pipeline import Pipeline
from tests.calibration.conftest import INTERVAL
from tests.calibration.ort.test_int8 import outputs_of

# Pixels whose two best classes are closer than the error change sides. With random weights
# classes are close everywhere: 0.888 and 0.9947 are measured. Trained ones: 0.9988 for int8.
MIN_AGREEMENT = {"int8": 0.82, "fp16": 0.98}


def test_bundle_opens_with_all_graphs_of_all_precisions(calibrated):
    made, _ = calibrated
    bundle = Bundle.open(made.path)

    assert bundle.precisions == ("fp32", "fp16", "int8")
    for precision in ("fp16", "int8"):
        assert set(bundle.manifest.graphs["ort"][precision]) == {
            "feature",
            "flow",
            "task",
            "propagate",
        }
    assert bundle.size_bytes("int8") < bundle.size_bytes("fp16") < bundle.size_bytes("fp32")


def test_manifest_says_what_it_was_calibrated_on(calibrated, samples):
    made, _ = calibrated
    record = made.manifest.calibration["ort"]["int8"]

    assert record.source == "the clips"
    assert record.sha256 == samples.digest
    assert (record.clips, record.frames) == (2, len(samples.half))
    assert record.pairs == sum(samples.pairs_by_distance.values())
    assert record.max_distance == INTERVAL - 1
    assert {"dff_edge", "onnx", "onnxruntime"} <= record.versions.keys()


@pytest.mark.parametrize("flavour", ["ort", "trt"])
def test_errors_against_fp32_are_in_the_manifest(calibrated, flavour):
    made, _ = calibrated
    errors = {
        (r.precision, r.subnet, r.output): r.relative_error
        for r in made.manifest.parity
        if r.inputs == "calibration frames, against fp32" and r.flavour == flavour
    }
    outputs = [
        ("feature", "features"),
        ("flow", "flow"),
        ("flow", "scale"),
        ("task", "scores"),
        ("propagate", "scores"),
    ]

    assert errors.keys() == {(p, *o) for p in ("fp16", "int8") for o in outputs}
    for output in outputs:
        assert 0 < errors[("fp16", *output)] < errors[("int8", *output)]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_graphs_for_tensorrt_are_all_there(calibrated, precision):
    made, _ = calibrated

    assert set(made.manifest.graphs["trt"][precision]) == set(TENSORRT_GRAPHS)
    for graph in TENSORRT_GRAPHS:
        operators = made.graph_summary(precision, graph, "trt").operators
        assert operators["dff::DffWarp"] == (graph == "propagate")
        assert operators["GridSample"] == (graph == "propagate_portable")
    record = made.manifest.calibration["trt"]["int8"]
    assert record.source == "the clips"
    assert record.sha256 == made.manifest.calibration["ort"]["int8"].sha256  # the same samples


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_graphs_for_tensorrt_give_the_scores_of_fp32(calibrated, samples, precision):
    """From frames to scores, as a device does it, with the portable form of the warp."""
    made, _ = calibrated

    def scores(precision, flavour, key):
        halves = samples.half
        pair = {
            "key_half": halves[key.clip, key.index],
            "frame_half": halves[key.clip, key.index + key.distances[0]],
        }
        maps = {}
        for subnet, inputs in (
            ("feature", {"frame": samples.full[key.clip, key.index]}),
            ("flow", pair),
        ):
            maps |= outputs_of(made.graph_bytes(precision, subnet, flavour), inputs)
        name = "propagate_portable" if flavour == "trt" else "propagate"
        return outputs_of(made.graph_bytes(precision, name, flavour), maps)["scores"]

    def error(flavour):
        errors = []
        for key in samples.keys[:4]:
            expected, found = scores("fp32", "ort", key), scores(precision, flavour, key)
            errors.append(np.abs(found - expected).mean() / np.abs(expected).max())
        return np.mean(errors)

    # Random weights have no slack; measured: 0.079 for int8, 0.0024 for fp16, and 0.068 for int8
    # of ONNX Runtime, which has a bit more behind a ReLU.
    assert error("trt") <= {"fp32": 1e-6, "fp16": 5e-3, "int8": 0.1}[precision]
    assert error("trt") <= 1.4 * error("ort")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_labels_agree_with_fp32(calibrated, clips, precision):
    made, _ = calibrated
    agreement = []
    with BundlePredictor(made, "fp32") as fp32, BundlePredictor(made, precision) as other:
        for clip in clips:
            keys = [r.extract(clip.image(0)) for r in (fp32, other)]
            for image in (None, clip.image(1), clip.image(3)):
                labels = [r.predict(k, image) for r, k in zip((fp32, other), keys, strict=True)]
                agreement.append(np.mean(labels[0] == labels[1]))

    assert np.mean(agreement) > MIN_AGREEMENT[precision]


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_pipeline_gives_what_its_graphs_and_the_warp_give_in_turn(
    calibrated, clips, precision, depth
):
    made, _ = calibrated
    images = [clips[0].image(index) for index in range(6)]
    with Pipeline.open(
        made, precision=precision, policy="fixed:4", depth=depth, threads=1
    ) as pipeline:
        frames = [Frame(image, index, 0.0) for index, image in enumerate(images)]
        results = list(pipeline.run(frames))
    with BundlePredictor(made, precision, threads=1) as predictor:
        for index, result in enumerate(results):
            if index % 4 == 0:
                key = predictor.extract(images[index])
            expected = predictor.predict(key, images[index] if index % 4 else None)
            np.testing.assert_array_equal(result.labels, expected)


def test_propagated_bytes_mean_what_the_fp32_networks_and_warp_give(calibrated, samples):
    """By the manifest's levels: wrong ones would not show in labels that are right all the same."""
    made, _ = calibrated
    levels = made.manifest.map_levels("int8")
    pair, frame = next(samples.flow_inputs()), next(samples.feature_inputs())
    maps = {"fp32": {}, "int8": {}}
    for precision, own in maps.items():
        for subnet, inputs in (("feature", frame), ("flow", pair)):
            own.update(outputs_of(made.graph_bytes(precision, subnet), inputs))
    means = {
        key: getattr(levels, key).dequantize(maps["int8"][key]) for key in ("features", "scale")
    }

    # Measured: 0.0135 and 0.025.
    features = maps["fp32"]["features"]
    assert np.abs(means["features"] - features).mean() < 0.03 * features.max()
    assert np.abs(means["scale"] - maps["fp32"]["scale"]).mean() < 0.05
    # With one flow: that of random networks in int8 is a sixth of a cell off, which would outweigh
    # the bytes, and by how much changes with the last bit of the weights.
    flow = maps["int8"]["flow"]
    found = warp_features(maps["int8"]["features"], flow, maps["int8"]["scale"], levels=levels)
    expected = warp_features(means["features"], flow, means["scale"])
    expected = expected.clip(0, levels.features.dequantize(np.uint8([255]))[0])
    error = np.abs(levels.features.dequantize(found) - expected)
    assert error.max() < 0.51 * levels.features.step  # rounded once
