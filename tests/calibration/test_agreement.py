"""Agreement with fp32, against the runtime's own results and against numbers by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dff_edge.bundle.records import Parity
from dff_edge.calibration.agreement import MOST_KEYS, Agreement, Reference, describe
from dff_edge.calibration.compare import ANSWERS, Compared
from dff_edge.calibration.sampling.samples import collect_samples
from dff_edge.detection_matching import partners
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.runtime.tasks import RUNTIME_TASKS
from tests.calibration.conftest import INTERVAL
from tests.export.checkpoints import FRAME_SIZE


def as_the_runtime_answers(bundle, clips, keys):
    """Share of pixels, or of sure detections, that int8 answers as fp32: of keys, of pairs."""
    alike, of = np.zeros(2), np.zeros(2)
    one = {"threads": 1}
    with (
        BundlePredictor(bundle, "fp32", **one) as fp32,
        BundlePredictor(bundle, "int8", **one) as int8,
    ):
        for key in keys:
            kept = [r.extract(clips[key.clip].image(key.index)) for r in (fp32, int8)]
            for distance in (0, *key.distances):
                image = clips[key.clip].image(key.index + distance) if distance else None
                expected, found = (
                    r.predict(k, image) for r, k in zip((fp32, int8), kept, strict=True)
                )
                kind = int(distance > 0)
                if isinstance(expected, np.ndarray):
                    alike[kind] += (expected == found).sum()
                    of[kind] += expected.size
                else:
                    sure = expected.above(0.5)
                    alike[kind] += (partners(sure, found, min_iou=0.5) >= 0).sum()
                    of[kind] += len(sure)
    return alike / of


@pytest.mark.parametrize("fixture", ["calibrated", "calibrated_detector"])
def test_shares_are_those_of_the_runtime(request, fixture, clips):
    """Whose warp and detector are other code than the graphs' here."""
    bundle, _ = request.getfixturevalue(fixture)
    samples = collect_samples(clips, FRAME_SIZE, INTERVAL, max_keys=8, pairs_per_key=1)
    names = ("feature", "flow", "task", "propagate")
    graphs = {name: bundle.graph_bytes("int8", name) for name in names}

    found = Reference(bundle, samples).agreement(graphs, "ort", bundle.manifest.map_levels("int8"))

    assert (found.keys, found.pairs) == (8, 8)
    expected = as_the_runtime_answers(bundle, clips, samples.keys)
    np.testing.assert_allclose([found.on_keys, found.propagated], expected, atol=0.03)
    assert found.overall == pytest.approx((found.on_keys + found.propagated) / 2, abs=0.05)
    assert 0.3 < found.overall < 1  # random weights have no slack


def test_fp32_agrees_with_itself_in_both_flavours(bundle, samples):
    reference = Reference(bundle, samples)
    names = ("feature", "flow", "task")
    for flavour, last in (("ort", "propagate"), ("trt", "propagate_portable")):
        graphs = {name: bundle.graph_bytes("fp32", name, flavour) for name in (*names, last)}

        found = reference.agreement(graphs, flavour, None)

        assert found.rule.unit == "pixels"
        assert found.on_keys == 1
        assert found.propagated > 0.9999
        assert found.keys == MOST_KEYS  # of ten


@pytest.mark.parametrize("fixture", ["calibrated", "calibrated_detector"])
def test_the_manifest_and_the_log_say_it(request, fixture):
    bundle, lines = request.getfixturevalue(fixture)
    records = {(r.precision, r.flavour): r for r in bundle.manifest.parity if r.output == ANSWERS}

    assert set(records) == {(p, f) for p in ("int8", "fp16") for f in ("ort", "trt")}
    for (precision, flavour), record in records.items():
        assert re.match(r"8 key frames and \d+ propagated frames, from end to end", record.inputs)
        label = precision + (" for TensorRT" if flavour == "trt" else "")
        (line,) = (line for line in lines if line.startswith(f"wrote {label}, "))
        assert f": {1 - record.relative_error:.1%} of the " in line
        assert "on 8 key frames, " in line


# ---- in words


def agreement(overall, task="segmentation"):
    return Agreement(
        RUNTIME_TASKS.find(task).calibrated, overall, overall, overall, keys=8, pairs=20
    )


def compared(output, mean, largest):
    record = Parity(
        precision="int8", subnet="flow", output=output, inputs="", tolerance=1,
        max_abs_error=0, relative_error=largest,
    )  # fmt: skip
    return Compared(record, mean)


def test_answers_come_first_and_the_worst_value_last():
    maps = [compared("features", 0.004, 0.05), compared("flow", 0.001, 0.252)]

    lines = describe("int8", "int8", 4_500_000, agreement(0.9961), maps)

    assert lines == [
        "wrote int8, 4.5 MB: 99.6% of the pixels have the same label as in fp32 (99.6% on 8 "
        "key frames, 99.6% on 20 propagated frames)",
        "  values of its maps are off by 0.4% of their range on average, at most by 25.2% "
        "(flow); that matters where a result changes",
    ]


@pytest.mark.parametrize(
    ("precision", "task", "overall", "warns"),
    [
        ("int8", "segmentation", 0.96, True),
        ("int8", "segmentation", 0.98, False),
        ("fp16", "segmentation", 0.98, True),
        ("int8", "detection", 0.8, True),
        ("int8", "detection", 0.95, False),
    ],
)
def test_few_answers_alike_are_a_warning(precision, task, overall, warns):
    lines = describe(precision, precision, 1, agreement(overall, task), [])

    assert any("Warning" in line for line in lines) == warns


def test_nothing_to_compare_is_a_warning():
    nothing = Agreement(
        RUNTIME_TASKS.find("detection").calibrated, None, None, None, keys=8, pairs=20
    )

    lines = describe("int8", "int8", 1, nothing, [compared("features", 0.0, 0.0)])

    assert lines[0] == "wrote int8, 0.0 MB"
    assert lines[1].startswith("Warning: detections of int8 were not compared with fp32")
