"""The whole task graph of detection and the native code against torch, on the same maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from dff_edge.boxes import Detections
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.detection_matching import detections_of
from dff_edge.onnx_graphs.detection import MAPS, whole_task
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.kernels.detect import Detector
from dff_edge.trainer.models import RfcnMaps, detect
from dff_edge.trainer.models.box_coding import BOX_STDS, PROPOSAL_STDS

CLASSES = 2
MAP_SIZE = (5, 7)
SETTINGS = RfcnSettings(
    bins=3,
    anchor_scales=(1, 2.5),
    proposals_before_nms=60,
    proposals=20,
    detections=15,
    min_score=0.1,
)
MANY = {"proposals_before_nms": 5000, "proposals": 150, "detections": 400, "min_score": 0.0}


def depths(settings):
    bins = settings.bins**2
    return (settings.anchors, 4 * settings.anchors, bins * (CLASSES + 1), bins * 4)


def random_maps(settings, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    spreads = (spread, 0.2 * spread, 3 * spread, 0.2 * spread)
    return {
        name: (own * rng.standard_normal((1, *MAP_SIZE, depth))).astype(np.float32)
        for name, depth, own in zip(MAPS, depths(settings), spreads, strict=True)
    }


def trained_like_maps(settings):
    """One object: anchors around it are sure, the rest is nearly equal background."""
    maps = random_maps(settings, 9, spread=0.01)
    maps["objectness"] -= 5
    maps["objectness"][0, 1:4, 2:5] += 9
    by_class = maps["class_maps"].reshape(*MAP_SIZE, -1, CLASSES + 1)
    by_class[..., 0] += 6
    by_class[1:4, 2:5, :, 2] += 10
    return maps


def by_graph(maps, settings, opset=17):
    """The graph behind maps that go in as they come out."""
    values = [
        [helper.make_tensor_value_info(f"{kind}{name}", TensorProto.FLOAT, maps[name].shape)
         for name in MAPS]
        for kind in ("given_", "")
    ]  # fmt: skip
    nodes = [helper.make_node("Identity", [f"given_{name}"], [name]) for name in MAPS]
    graph = helper.make_graph(nodes, "maps", *values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    with OrtEngine(whole_task(model.SerializeToString(), settings, 16), name="whole") as engine:
        outputs = {name: spec.empty() for name, spec in engine.outputs.items()}
        engine.run({f"given_{name}": array for name, array in maps.items()}, outputs)
    return outputs


def natively(maps, settings, threads=1):
    detector = Detector(settings, MAP_SIZE, CLASSES)
    return detector.finish(*(maps[name][0] for name in MAPS), threads=threads)


def by_torch(maps, settings):
    raw = [torch.from_numpy(maps[name]).permute(0, 3, 1, 2).contiguous() for name in MAPS]
    raw[1] /= torch.tensor(PROPOSAL_STDS * settings.anchors)[:, None, None]
    raw[3] /= torch.tensor(BOX_STDS * settings.bins**2)[:, None, None]
    size = (16 * MAP_SIZE[0], 16 * MAP_SIZE[1])
    (found,) = detect(RfcnMaps(*raw), size, settings)
    return found


def assert_same(found: Detections, expected: Detections):
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-5)


CASES = {
    "random": (lambda s: random_maps(s, 0), SETTINGS),
    "other seed": (lambda s: random_maps(s, 1), SETTINGS),
    "trained-like": (trained_like_maps, SETTINGS),
    "all proposals, padded": (lambda s: random_maps(s, 2), SETTINGS.model_copy(update=MANY)),
    "far-flung boxes": (lambda s: random_maps(s, 3, spread=30.0), SETTINGS),
}


@pytest.mark.parametrize("case", CASES)
def test_graph_and_native_code_equal_torch(case):
    make, settings = CASES[case]
    maps = make(settings)
    expected = by_torch(maps, settings)

    assert len(expected) > 0
    assert_same(detections_of(by_graph(maps, settings)), expected)
    assert_same(natively(maps, settings), expected)


def test_ties_are_broken_alike():
    maps = {name: np.zeros_like(array) for name, array in random_maps(SETTINGS, 0).items()}
    expected = by_torch(maps, SETTINGS)

    assert len(set(expected.scores)) == 1
    assert_same(detections_of(by_graph(maps, SETTINGS)), expected)
    assert_same(natively(maps, SETTINGS), expected)


def test_operator_sets_18_and_19_give_the_same():
    maps = random_maps(SETTINGS, 4)
    expected = by_graph(maps, SETTINGS)

    for opset in (18, 19):
        for name, array in by_graph(maps, SETTINGS, opset).items():
            np.testing.assert_array_equal(array, expected[name])


def test_rows_behind_the_count_are_zero():
    outputs = by_graph(trained_like_maps(SETTINGS), SETTINGS)
    count = int(outputs["count"][0])

    assert 0 < count < SETTINGS.detections
    for name in ("boxes", "scores", "labels"):
        assert not outputs[name][0, count:].any()


def test_nothing_is_found_where_objectness_and_deltas_are_nan():
    maps = random_maps(SETTINGS, 5)
    maps["deltas"][:] = np.nan

    assert by_graph(maps, SETTINGS)["count"].tolist() == [0]
    assert len(natively(maps, SETTINGS)) == 0
    assert len(by_torch(maps, SETTINGS)) == 0
