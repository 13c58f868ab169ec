"""Calibration samples: every distance, propagated features, and nothing synthesised."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dff_edge.calibration.sampling.samples import MIN_KEY_FRAMES, collect_samples, plan_keys
from dff_edge.errors import CalibrationError
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.kernels.resize import FrameResizer
from tests.export.checkpoints import FRAME_SIZE

INTERVAL = 4


class ScaledBundle:
    """A bundle whose scale field is larger by 2 everywhere."""

    def __init__(self, bundle):
        self._bundle, self.manifest = bundle, bundle.manifest

    def graph_bytes(self, precision, subnet, flavour="ort"):
        model = onnx.load_from_string(self._bundle.graph_bytes(precision, subnet, flavour))
        for tensor in model.graph.initializer:
            if tensor.name == "scale.bias":
                larger = numpy_helper.to_array(tensor) + np.float32(2)
                tensor.CopyFrom(numpy_helper.from_array(larger, tensor.name))
        return model.SerializeToString()


class CountingClip:
    """Frames of one grey value each, and a note of every read."""

    name = "counting"

    def __init__(self, length, size=(64, 96)):
        self.reads = []
        self._length, self._size = length, size

    def __len__(self):
        return self._length

    def image(self, index):
        self.reads.append(index)
        return np.full((*self._size, 3), index, np.uint8)


@pytest.mark.parametrize("lengths", [(30,), (12, 5, 30), (2, 2, 2, 11), (10,) * 9])
@pytest.mark.parametrize("interval", [2, 5, 10])
def test_every_distance_is_seen_about_equally_often(lengths, interval):
    keys = plan_keys(lengths, interval, 32, 3)
    counts = np.zeros(interval, int)
    for key in keys:
        for distance in key.distances:
            assert 0 <= key.index
            assert key.index + distance < lengths[key.clip]
            counts[distance] += 1

    assert counts[0] == 0
    assert counts[1:].min() > 0
    if lengths == (30,):  # only at the end of a clip the long ones do not fit
        assert counts[1:].max() < 2 * counts[1:].min()


def test_key_frames_are_spread_over_all_clips():
    keys = plan_keys((20, 20, 20, 20), 5, 8, 2)

    assert [sum(key.clip == clip for key in keys) for clip in range(4)] == [2, 2, 2, 2]
    assert len(set(keys)) == len(keys)


def test_frames_are_read_once_in_rising_order_at_both_sizes():
    clip = CountingClip(14)

    samples = collect_samples([clip], FRAME_SIZE, INTERVAL, max_keys=9, pairs_per_key=2)

    assert clip.reads == sorted(set(clip.reads))
    assert len(samples.full) == len(samples.keys) == 9
    for inputs, key in zip(samples.feature_inputs(), samples.keys, strict=True):
        assert inputs["frame"].shape == (1, 64, 96, 3)
        assert (inputs["frame"] == key.index).all()
    pairs = [(key.index, key.index + d) for key in samples.keys for d in key.distances]
    seen = [
        (int(i["key_half"][0, 0, 0, 0]), int(i["frame_half"][0, 0, 0, 0]))
        for i in samples.flow_inputs()
    ]
    assert seen == pairs
    assert sum(samples.pairs_by_distance.values()) == len(pairs)


def test_task_inputs_are_key_features_and_what_propagation_makes_of_them(bundle, samples, clips):
    resizer = FrameResizer(FRAME_SIZE)

    def half(clip, index):
        out = np.empty((1, 32, 48, 3), np.uint8)
        resizer.half(clips[clip].image(index), out)
        return out

    expected = []
    portable = propagated_features_graph(bundle)
    with (
        OrtEngine(bundle.graph_bytes("fp32", "feature"), name="feature") as feature,
        OrtEngine(bundle.graph_bytes("fp32", "flow"), name="flow") as flow,
        OrtEngine(portable, name="warp") as warp,
    ):
        for key in samples.keys[:3]:
            features = run(feature, frame=clips[key.clip].image(key.index)[None])["features"]
            expected.append(features)
            for distance in key.distances:
                moved = run(
                    flow,
                    key_half=half(key.clip, key.index),
                    frame_half=half(key.clip, key.index + distance),
                )
                expected.append(run(warp, features=features, **moved)["warped"])

    found = [inputs["features"] for inputs, _ in zip(samples.task_inputs(bundle), expected)]  # noqa: B905
    assert len(found) == 9
    for array, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, reference, rtol=0, atol=1e-4)
    assert not np.array_equal(found[0], found[1])


def test_scale_field_shows_in_the_range_of_the_task_inputs(bundle, samples):
    # A scale around 3: features of key frames alone would miss two thirds of the range.
    largest = [float(i["features"].max()) for i in samples.task_inputs(ScaledBundle(bundle))]
    step = 1 + len(samples.keys[0].distances)
    of_key_frames = largest[0::step]
    propagated = [v for n, v in enumerate(largest) if n % step]

    assert max(propagated) > 1.5 * max(of_key_frames)


def test_digest_is_of_the_frames(clips):
    def digest(changed=False):
        clip = CountingClip(14)
        if changed:
            clip.image = lambda i: np.full((64, 96, 3), i + (i == 3), np.uint8)
        arguments = {"max_keys": 9, "pairs_per_key": 2}
        return collect_samples([clip], FRAME_SIZE, INTERVAL, **arguments).digest

    assert digest() == digest()
    assert digest() != digest(changed=True)


def test_interval_of_one_is_refused():
    with pytest.raises(CalibrationError, match="key interval is 1, expected 2 or more"):
        plan_keys((20,), 1, 32, 3)


@pytest.mark.parametrize("lengths", [(), (0,), (9, 9)])
def test_clips_shorter_than_the_interval_are_refused(lengths):
    expected = rf"longest of {len(lengths)} clips has {max(lengths, default=0)} frames, expected at"
    with pytest.raises(CalibrationError, match=expected + " least 10 for key interval 10"):
        plan_keys(lengths, 10, 32, 3)


def test_too_few_key_frames_are_refused():
    message = rf"yield 5 key frames and 15 pairs, expected at least {MIN_KEY_FRAMES} key frames"
    with pytest.raises(CalibrationError, match=message):
        plan_keys((6,), 3, 32, 3)


def test_fewer_pairs_than_distances_are_refused():
    with pytest.raises(CalibrationError, match="8 key frames and 8 pairs, .* and 19 pairs"):
        plan_keys((40,), 20, 8, 1)


def test_distance_that_no_key_frame_takes_is_refused():
    # One long clip among many short ones, and so few key frames that hardly any is in it.
    with pytest.raises(CalibrationError, match="There is no pair at distance [2-9]"):
        plan_keys((2,) * 60 + (10,) + (2,) * 60, 10, 9, 3)


def run(engine, **inputs):
    outputs = {name: spec.empty() for name, spec in engine.outputs.items()}
    engine.run(inputs, outputs)
    return outputs


def propagated_features_graph(bundle):
    """Return propagate.onnx cut off behind the warp: another build than the native kernel."""
    model = onnx.load_from_string(bundle.graph_bytes("fp32", "propagate"))
    (warped,) = (v for v in model.graph.value_info if v.name == "warped")
    del model.graph.node[1:], model.graph.output[:], model.graph.initializer[:]
    model.graph.output.append(warped)
    return model.SerializeToString()
