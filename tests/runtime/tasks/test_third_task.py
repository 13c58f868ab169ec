"""A task from outside the package: depth, a number per pixel, from its contract to its accuracy.

All that depth is stands in this file; no file of the package knows it. A task that comes with the
package has its three classes in modules of its name and adds the name to ``TASKS``.
"""

from __future__ import annotations

import json

import cv2
import numpy as np
import onnx
import pytest

from dff_edge.bundle.tasks import FORMATS, TaskFormat
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.bundle.writer import BundleWriter
from dff_edge.deploy.agreement import agreement
from dff_edge.errors import BundleError, ConfigError, SinkError
from dff_edge.evaluation.accuracy import Accuracy, Metric
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.evaluation.evaluate import evaluate
from dff_edge.evaluation.tasks import MEASURED_TASKS, MeasuredTask
from dff_edge.frames import Frame
from dff_edge.report.pictures import draw_pictures
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sinks import open_sink
from dff_edge.runtime.tasks import RUNTIME_TASKS, AgreementRule, Task
from dff_edge.runtime.tasks.base import no_confidence
from dff_edge.runtime.tasks.decoders import Answer
from tests.bundle.bundles import make_graphs, manifest_fields
from tests.report.clips import NoiseClip

FRAME_SIZE = (32, 64)
SIZE = (40, 72)  # of the source


class DepthFormat(TaskFormat):
    name = "depth"
    decoding = "bilinear"

    def outputs(self, cells, classes, settings):
        return (TensorSpec("depth", np.dtype(np.float32), (1, *cells, 1)),)


class DepthDecoder:
    def decode(self, outputs, size):
        metres = cv2.resize(outputs["depth"][0, ..., 0], size[::-1])
        return Answer(values=metres, task="depth")


class Depth(Task):
    name = "depth"
    deployed = AgreementRule({"fp32": 0.99, "fp16": 0.9, "int8": 0.5}, "pixels", "of the depths")
    calibrated = AgreementRule({"fp16": 0.9, "int8": 0.5}, "pixels", "of the depths are kept")

    def decoder(self, manifest, *, threads=1, confidence=False):
        if confidence:
            raise no_confidence("depth", "a number without a probability")
        return DepthDecoder()

    def record(self, answer, classes, min_score):
        return {"depth": {"mean": round(float(answer.mean()), 4)}}

    def draw(self, image, answer, classes, colours, style, *, size, caption=None):
        near = cv2.resize(answer, image.shape[1::-1]) < answer.mean()
        drawn = image.copy()
        drawn[near] = 255
        return drawn

    def shared(self, answer, expected):
        return float(np.isclose(answer, expected, atol=1e-3).sum()), float(expected.size)

    def kept(self, answer, expected):
        return self.shared(answer, expected)


class DepthAccuracy(Accuracy):
    metric = Metric("close", "share within 0.1", "share")

    def __init__(self, classes, close):
        super().__init__(classes, len(close), 0.0)
        object.__setattr__(self, "close", close)

    def class_scores(self, distances):
        return np.array([np.mean([self.close[distance] for distance in distances])])


class DepthTally:
    def __init__(self, classes, max_interval):
        self.classes, self.close = classes, [[] for _ in range(max_interval)]

    def truth(self, clip, index, size):
        return clip.depths[index]

    def add(self, distance, truth, answer):
        self.close[distance].append(np.mean(np.abs(truth - answer) < 0.1))

    def accuracy(self):
        return DepthAccuracy(tuple(self.classes), self.close)


class MeasuredDepth(MeasuredTask):
    name = "depth"
    metric = DepthAccuracy.metric
    answers = "depths"
    not_scored = "pixels"
    share = "of the pixels within 0.1"

    def tally(self, classes, max_interval):
        return DepthTally(classes, max_interval)

    def is_answer(self, answer):
        return isinstance(answer, np.ndarray) and answer.dtype == np.float32

    def share_right(self, answer, truth, class_count, style):
        return float(np.mean(np.abs(truth - answer) < 0.1))


@pytest.fixture(scope="module", autouse=True)
def depth():
    registered = ((FORMATS, DepthFormat()), (RUNTIME_TASKS, Depth()))
    for registry, thing in (*registered, (MEASURED_TASKS, MeasuredDepth())):
        registry.register("depth", thing)
    yield
    for registry in (FORMATS, RUNTIME_TASKS, MEASURED_TASKS):
        registry.unregister("depth")


def depth_graphs():
    """The graphs of a segmentation with one class, whose score is the depth."""
    graphs = make_graphs(FRAME_SIZE, classes=1)
    for name in ("task", "propagate"):
        model = onnx.load_from_string(graphs[name])
        for node in model.graph.node:
            node.output[:] = ["depth" if output == "scores" else output for output in node.output]
        model.graph.output[0].name = "depth"
        graphs[name] = model.SerializeToString()
    return graphs


def write_bundle(path, graphs, **changes):
    with BundleWriter.create(path) as writer:
        for name, data in graphs.items():
            writer.add_graph("fp32", name, data)
        fields = manifest_fields(FRAME_SIZE, classes=1)
        writer.update(**fields, task="depth", **{"decoding": "bilinear", **changes})
        return writer.commit()


@pytest.fixture(scope="module")
def bundle(depth, tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("depth") / "bundle", depth_graphs())


@pytest.fixture(scope="module")
def images():
    return list(np.random.default_rng(5).integers(0, 256, (5, *SIZE, 3), np.uint8))


def depth_of_key_frame(bundle, image):
    """By the definition: feature network, task network, bilinear resize."""
    resizer = FrameResizer(FRAME_SIZE)
    frame = np.empty((1, *FRAME_SIZE, 3), np.uint8)
    resizer.full(image, frame)
    features = {"features": np.empty((1, 2, 4, 8), np.float32)}
    found = {"depth": np.empty((1, 2, 4, 1), np.float32)}
    with (
        OrtEngine(bundle.graph_bytes("fp32", "feature"), name="feature") as feature,
        OrtEngine(bundle.graph_bytes("fp32", "task"), name="task") as task,
    ):
        feature.run({"frame": frame}, features)
        task.run(features, found)
    return cv2.resize(found["depth"][0, ..., 0], SIZE[::-1])


def test_its_contract_is_held_against_the_graphs(bundle, tmp_path):
    contract = bundle.manifest.contract("fp32", "task")
    assert {name: spec.shape for name, spec in contract.outputs.items()} == {"depth": (1, 2, 4, 1)}
    with pytest.raises(BundleError, match="output 'depth' is missing"):
        write_bundle(tmp_path / "scores", make_graphs(FRAME_SIZE, classes=1))
    with pytest.raises(BundleError, match="decoding 'bilinear' for depth"):
        write_bundle(tmp_path / "decoding", depth_graphs(), decoding="rfcn")


def test_the_pipeline_answers_key_frames_by_definition_and_propagates_to_the_others(bundle, images):
    with (
        Pipeline.open(bundle, policy="fixed:4", threads=1) as pipeline,
        BundlePredictor(bundle, threads=1) as predictor,
    ):
        results = list(pipeline.run(Frame(x, i, i / 30) for i, x in enumerate(images)))
        key = predictor.extract(images[0])
        expected = [predictor.predict(key, image) for image in images[1:4]]

    for index in (0, 4):
        np.testing.assert_allclose(
            results[index].values, depth_of_key_frame(bundle, images[index]), atol=1e-5
        )
    for result in results[1:4]:
        assert (result.task, result.key_distance) == ("depth", result.frame.index)
        assert result.labels is result.detections is None
        assert np.ptp(result.values) > 0.01
    found = [result.answer for result in results[1:4]]
    assert agreement(RUNTIME_TASKS.find("depth"), found, expected) == 1.0


def test_confidence_and_label_files_are_refused(bundle, tmp_path):
    with pytest.raises(ConfigError, match="this bundle does depth, a number without"):
        Pipeline.open(bundle, confidence=True)
    with pytest.raises(SinkError, match="accepts label maps, and this bundle does depth"):
        open_sink(
            f"labels://{tmp_path}/x", classes=["d"], colours=[(0, 0, 0)], fps=None, task="depth"
        )


def test_it_is_written_to_lines_and_drawn(bundle, images, tmp_path):
    how = {"classes": ["depth"], "colours": [(0, 0, 0)], "fps": 30, "task": "depth"}
    with Pipeline.open(bundle, threads=1) as pipeline:
        (result,) = pipeline.run([Frame(images[0], 0, 0.0)])
    for name in ("out.jsonl", "out.png"):
        with open_sink(tmp_path / name, **how) as sink:
            sink.write(result)

    line = json.loads((tmp_path / "out.jsonl").read_text())
    expected = depth_of_key_frame(bundle, images[0])
    assert line["depth"]["mean"] == pytest.approx(expected.mean(), abs=2e-4)
    drawn = cv2.imread(str(tmp_path / "out.png"))
    over_mean = expected - expected.mean()
    assert (drawn[over_mean < -1e-3] == 255).all()
    is_far = over_mean > 1e-3
    assert is_far.mean() > 0.2
    np.testing.assert_array_equal(drawn[is_far], images[0][is_far])


def test_it_is_measured(bundle):
    clip = NoiseClip(3, length=3, size=SIZE, classes=1)
    clip.depths = [depth_of_key_frame(bundle, clip.image(i)) for i in range(3)]
    clip.depths[2][:10] += 1  # a quarter is wrong

    with BundlePredictor(bundle, threads=1) as predictor:
        accuracy = evaluate(predictor, [clip], ["depth"], 1, task="depth")
        with pytest.raises(ConfigError, match="does not predict a label map"):
            evaluate(predictor, [clip], ["depth"], 1, task="segmentation")

    assert accuracy.at_distance(0) == pytest.approx((1 + 1 + 0.75) / 3)
    assert accuracy.metric.title == "share within 0.1"


def test_it_is_drawn_beside_its_truth(bundle, images):
    truths = [depth_of_key_frame(bundle, images[0]), None]
    truths[0][:10] += 1  # a quarter is wrong

    with BundlePredictor(bundle, threads=1) as predictor:
        first, second = draw_pictures(
            predictor, images[:2], truths, [(0, 0, 0)], (0, 1), task="depth", names=["depth"]
        )

    assert (first.right, first.measure) == (0.75, "of the pixels within 0.1")
    assert (second.truth, second.right) == (None, None)
    drawn = cv2.imdecode(np.frombuffer(first.truth, np.uint8), cv2.IMREAD_COLOR)
    over_mean = truths[0] - truths[0].mean()
    assert drawn[over_mean < -1e-3].mean() > drawn[over_mean > 1e-3].mean() + 50


def test_its_accuracy_is_recorded_by_the_name_of_its_measure(bundle, tmp_path):
    measured = {"precision": "fp32", "data": "rooms", "protocol": "at l", "key_interval": 5}
    records = [{**measured, "close": value} for value in (0.8, 0.9)]

    recorded = write_bundle(tmp_path / "x", depth_graphs(), accuracy=records).manifest.accuracy

    assert [(record.metric, record.value) for record in recorded] == [("close", 0.9)]
