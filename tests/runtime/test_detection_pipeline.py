"""A bundle that detects, from frames to boxes: what the scheduler and the predictor make of it."""

import numpy as np
import pytest

from dff_edge.boxes import Detections
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import ConfigError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.frames import Frame
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.kernels.detect import Detector
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.scheduler import Scheduler
from dff_edge.runtime.tasks import decoder_of
from dff_edge.runtime.tasks.decoders import Answer
from dff_edge.runtime.tasks.detection import BoxDecoder
from tests.bundle.bundles import make_bundle
from tests.bundle.detection_bundles import CLASSES, FRAME_SIZE, SETTINGS, make_detection_bundle
from tests.runtime.test_scheduler import FarDevice, FarEngine, frame_of, make_subnets

INTERVAL = 3
SIZE = (90, 130)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_detection_bundle(tmp_path_factory.mktemp("detection") / "bundle")


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(7)
    shape = (7, *SIZE, 3)
    images = rng.integers(0, 256, shape, np.uint8)
    return [Frame(image, index, index / 30) for index, image in enumerate(images)]


@pytest.fixture(scope="module")
def expected(bundle, frames):
    """Of every frame by itself, engine by engine."""
    answers = []
    with BundlePredictor(bundle, threads=1) as predictor:
        for frame in frames:
            if frame.index % INTERVAL == 0:
                key = predictor.extract(frame.image)
            answers.append(predictor.predict(key, frame.image if frame.index % INTERVAL else None))
    return answers


def arrays_of(found):
    return found.boxes, found.scores, found.labels


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_boxes_are_the_same_to_the_bit_however_they_are_scheduled(
    bundle, frames, expected, depth, overlap
):
    policy = f"fixed:{INTERVAL}"
    with Pipeline.open(bundle, policy=policy, depth=depth, overlap=overlap, threads=2) as pipeline:
        results = list(pipeline.run(frames))

    assert [result.frame.index for result in results] == list(range(len(frames)))
    assert max(len(result.detections) for result in results) > 3
    for result, wanted in zip(results, expected, strict=True):
        assert result.labels is None
        assert result.confidence is None
        for got, right in zip(arrays_of(result.detections), arrays_of(wanted), strict=True):
            np.testing.assert_array_equal(got, right)


def test_results_own_their_boxes(bundle, frames):
    with Pipeline.open(bundle, policy="fixed:1", depth=1, threads=1) as pipeline:
        first, *_ = results = list(pipeline.run(frames))
    assert all(result.detections.boxes.flags.owndata for result in results)
    assert not np.shares_memory(first.detections.boxes, results[-1].detections.boxes)
    assert not np.array_equal(first.detections.boxes, results[-1].detections.boxes)


def test_decoder_finishes_the_maps_and_stretches_the_boxes():
    rng = np.random.default_rng(3)
    cells, bins = (FRAME_SIZE[0] // 16, FRAME_SIZE[1] // 16), SETTINGS.bins**2
    depths = {
        "objectness": SETTINGS.anchors,
        "deltas": 4 * SETTINGS.anchors,
        "class_maps": bins * (CLASSES + 1),
        "box_maps": 4 * bins,
    }
    maps = {n: rng.normal(0, 1, (1, *cells, d)).astype(np.float32) for n, d in depths.items()}

    size = (3 * FRAME_SIZE[0], 4 * FRAME_SIZE[1])
    answer = BoxDecoder(SETTINGS, FRAME_SIZE, CLASSES).decode(maps, size)

    own = Detector(SETTINGS, cells, CLASSES).finish(**{n: m[0] for n, m in maps.items()})
    assert len(own)
    np.testing.assert_allclose(answer.detections.boxes, own.boxes * [4, 3, 4, 3], rtol=1e-6)
    np.testing.assert_array_equal(answer.detections.scores, own.scores)
    assert (answer.detections.boxes.max(axis=0)[2:] <= size[::-1]).all()
    assert answer.labels is None


def test_confidence_of_boxes_is_refused(bundle):
    with pytest.raises(ConfigError, match="needs label maps; this bundle does detection"):
        Pipeline.open(bundle, confidence=True)


def test_bundles_that_segment_have_no_detections(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    decoder = decoder_of(bundle.manifest)
    answer = decoder.decode({"scores": np.zeros((1, 2, 4, 3), np.float32)}, (32, 64))
    assert answer.detections is None
    assert answer.labels.shape == (32, 64)


class SumDecoder:
    """Boxes that say what was in each output; no decoder of a device."""

    def decode(self, outputs, size):
        sums = np.float32([[outputs[name].sum() for name in ("a", "b", "c", "d")]])
        return Answer(detections=Detections(sums, np.ones(1, np.float32), np.zeros(1, np.int32)))


class FarImage:
    """An image in the memory of a device."""

    def __init__(self, image):
        self.image = image
        self.shape = image.shape


class ImageFarDevice(FarDevice):
    def resize(self, image, buffer, stream):
        rows = buffer.spec.shape[1]
        step = image.shape[0] // rows
        stream.enqueue(lambda: np.copyto(buffer.far, image.image[None, ::step, ::step]))


@pytest.mark.parametrize("in_device_memory", [False, True])
def test_all_outputs_are_copied_to_the_host_and_decoded_there(in_device_memory):
    base = make_subnets()
    specs = [TensorSpec(name, np.dtype(np.float32), (1, 2, 4, 1)) for name in ("a", "b", "c", "d")]

    def task_net(inputs, outputs):
        for factor, name in enumerate(outputs, 1):
            outputs[name][:] = factor * inputs["features"]

    engines = [
        FarEngine(list(e.inputs.values()), list(e.outputs.values()), e._compute)
        for e in (base.feature, base.flow)
    ]
    task = FarEngine(list(base.task.inputs.values()), specs, task_net)
    scheduler = Scheduler(ImageFarDevice(), Subnets(*engines, task), SumDecoder(), depth=2)
    boxes = []
    for index, value in enumerate((50, 200, 60)):
        if scheduler.is_full:
            boxes.append(scheduler.collect().detections.boxes)
        frame = frame_of(value, index)
        if in_device_memory:
            frame = Frame(FarImage(frame.image), index, 0.0)
        scheduler.submit(frame, is_key=index == 0)
    while scheduler.in_flight:
        boxes.append(scheduler.collect().detections.boxes)
    scheduler.close()
    expected = [[8 * value * factor for factor in (1, 2, 3, 4)] for value in (50, 200, 60)]
    np.testing.assert_allclose(np.concatenate(boxes), expected, rtol=1e-6)


@pytest.mark.parametrize(("classes", "threads"), [(3, 1), (30, 3)])
def test_few_votes_are_not_worth_a_second_thread(classes, threads, monkeypatch):
    """It is 10 ms late on a busy machine, where all of the work takes one."""
    used = []

    def finish(self, *maps, threads):
        used.append(threads)
        return Detections(*(np.empty(shape, np.float32) for shape in ((0, 4), 0, 0)))

    monkeypatch.setattr(Detector, "finish", finish)
    decoder = BoxDecoder(RfcnSettings(), (64, 96), classes, threads=8)
    maps = ("objectness", "deltas", "class_maps", "box_maps")

    decoder.decode({name: np.zeros((1, 4, 6, 1), np.float32) for name in maps}, (64, 96))

    assert used == [threads]
