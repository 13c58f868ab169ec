"""Other split points and their task networks, from export to calibration to the runtime."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.bundle.reader import Bundle
from dff_edge.calibration import calibrate_bundle
from dff_edge.export import export_bundle
from dff_edge.frames import Frame
from dff_edge.runtime.pipeline import Pipeline
from tests.calibration.optimised import optimised_operators
from tests.export.checkpoints import tiny_checkpoint

SMALL = {"max_keys": 8, "pairs_per_key": 1, "precisions": ["int8"]}

# split, task, scale, channels that travel, convolutions of the task network
CASES = [
    ("layer4.1", "segmentation", True, 64, 3),
    # 6 anchors, their deltas, 3 x 3 bins of 5 classes, and of 4 deltas.
    ("none", "detection", False, 6 + 24 + 45 + 36, 0),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request):
    return request.param


@pytest.fixture(scope="module")
def bundle(case, clips, tmp_path_factory):
    split, task, scale, *_ = case
    path = tmp_path_factory.mktemp("split") / "bundle"
    export_bundle(tiny_checkpoint(split=split, task=task, scale=scale), path, interval=4)
    calibrate_bundle(path, clips, source="the clips", **SMALL)
    return Bundle.open(path)


def test_task_network_has_the_layers_behind_the_split(bundle, case, tmp_path):
    *_, channels, convolutions = case
    graph = "task" if bundle.manifest.task == "segmentation" else "task_maps"

    assert bundle.manifest.channels == channels
    found = bundle.graph_summary("fp32", graph).operators
    assert found.get("Conv", 0) == convolutions
    whole = 20 + 1 + (4 if bundle.manifest.task == "detection" else 0)  # with R-FCN's, without
    assert bundle.graph_summary("fp32", "feature").operators["Conv"] == whole - convolutions
    int8 = optimised_operators(bundle.graph_bytes("int8", graph), tmp_path)
    assert int8["QLinearConv"] == convolutions
    assert int8["Conv"] == int8["FusedConv"] == 0


def test_task_network_is_near_fp32_in_int8(bundle):
    errors = [
        record.relative_error
        for record in bundle.manifest.parity
        if record.precision == "int8" and record.subnet in ("task", "task_maps")
    ]

    assert 2 <= len(errors)
    assert max(errors) < 0.1  # of the range


def test_int8_runs_and_is_near_fp32(bundle, case, clips):
    answers = {}
    for precision in ("fp32", "int8"):
        with Pipeline.open(bundle, precision=precision, policy="fixed:3", threads=1) as pipeline:
            frames = [Frame(clips[0].image(i), i, i / 10) for i in range(5)]
            answers[precision] = [
                result.labels if result.labels is not None else result.detections
                for result in pipeline.run(frames)
            ]

    # Random weights have no slack.
    for one, other in zip(answers["fp32"], answers["int8"], strict=True):
        if case[1] == "segmentation":
            assert np.mean(one == other) > 0.6  # of 4 classes
        else:
            assert abs(len(one) - len(other)) <= 5
