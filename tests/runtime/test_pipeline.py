"""The pipeline against Algorithm 1 of the paper, written out without scheduler or buffers."""

import threading
import time

import cv2
import numpy as np
import onnxruntime as ort
import pytest

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError, FrameError, PipelineError
from dff_edge.frames import Frame
from dff_edge.runtime.pipeline import Pipeline
from tests.bundle.bundles import make_bundle
from tests.runtime.kernels.resizing import resize_by_convention

FRAME_SIZE = (32, 64)


def algorithm_1(bundle, images, interval):
    """Label maps and key numbers, by the paper's Algorithm 1, one engine after the other."""
    session = {
        name: ort.InferenceSession(bundle.graph_bytes("fp32", name))
        for name in ("feature", "flow", "task", "propagate")
    }
    height, width = bundle.manifest.frame_size
    results, k = [], None
    for i, image in enumerate(images):
        half = resize_by_convention(image, (height // 2, width // 2))[None]
        if k is None or i - k >= interval:
            full = resize_by_convention(image, (height, width))[None]
            k, key_half = i, half
            (features,) = session["feature"].run(None, {"frame": full})
            (scores,) = session["task"].run(None, {"features": features})
        else:
            flow, scale = session["flow"].run(None, {"key_half": key_half, "frame_half": half})
            inputs = {"features": features, "flow": flow, "scale": scale}
            (scores,) = session["propagate"].run(None, inputs)
        full_scores = cv2.resize(scores[0], image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        results.append((full_scores.argmax(axis=-1).astype(np.uint8), k))
    return results


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", FRAME_SIZE)


@pytest.fixture
def images():
    rng = np.random.default_rng(7)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (120, 260, 3), dtype=np.uint8), (0, 0), 2)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    return [np.ascontiguousarray(scene[2 * i : 2 * i + 80, 5 * i : 5 * i + 160]) for i in range(17)]


def frames_of(images):
    return [Frame(image, index, index / 30) for index, image in enumerate(images)]


def assert_same_labels(labels, expected):
    """Equal but for ties: 99.9% of pixels, the native and OpenCV's interpolation rounding apart."""
    assert labels.shape == expected.shape
    assert (labels == expected).mean() >= 0.999


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("interval", [1, 2, 3, 5, 100])
def test_results_equal_algorithm_1(bundle, images, interval, depth):
    expected = algorithm_1(bundle, images, interval)
    assert len({labels.tobytes() for labels, _ in expected}) > len(images) // 3, (
        "frames must differ"
    )

    with Pipeline.open(bundle, policy=f"fixed:{interval}", depth=depth, threads=1) as pipeline:
        results = list(pipeline.run(frames_of(images)))

    assert [result.frame.index for result in results] == list(range(len(images)))
    for result, (labels, key) in zip(results, expected, strict=True):
        assert result.key_index == key
        assert_same_labels(result.labels, labels)


def test_one_frame_video(bundle, images):
    (labels, _), *_ = algorithm_1(bundle, images[:1], 10)
    with Pipeline.open(bundle, threads=1) as pipeline:
        (result,) = pipeline.run(frames_of(images[:1]))
    assert result.is_key
    assert_same_labels(result.labels, labels)


def test_empty_video_gives_no_results(bundle):
    with Pipeline.open(bundle, threads=1) as pipeline:
        assert list(pipeline.run([])) == []


def test_distance_is_counted_in_captured_frames(bundle, images):
    captured = [frame for frame in frames_of(images) if frame.index not in (2, 3, 7)]
    with Pipeline.open(bundle, policy="fixed:4", threads=1) as pipeline:
        results = list(pipeline.run(captured))
    keys = {result.frame.index: result.key_index for result in results}
    # By hand: 0 is the key of 0, 1; 2 and 3 were lost; 4 - 0 >= 4; 7 was lost; 8 - 4 >= 4; ...
    assert keys == {0: 0, 1: 0, 4: 4, 5: 4, 6: 4, 8: 8, 9: 8, 10: 8, 11: 8,
                    12: 12, 13: 12, 14: 12, 15: 12, 16: 16}  # fmt: skip


def test_stage_times_name_what_ran(bundle, images):
    with Pipeline.open(bundle, policy="fixed:3", threads=1) as pipeline:
        results = list(pipeline.run(frames_of(images[:5])))
    for result in results:
        ran = {"resize", "task", "decode"} | ({"feature"} if result.is_key else {"flow", "warp"})
        assert set(result.stage_ms) == ran
        assert all(value >= 0 for value in result.stage_ms.values())
        assert sum(result.stage_ms.values()) / 1e3 <= result.latency_s * 1.01 + 1e-3


def test_submit_and_poll_in_a_robots_loop(bundle, images):
    expected = algorithm_1(bundle, images, 4)
    results = []
    with Pipeline.open(bundle, policy="fixed:4", threads=1) as pipeline:
        camera_memory = np.empty_like(images[0])  # filled again for every frame
        for image in images:
            if pipeline.is_full:
                results.append(pipeline.poll(block=True))
            camera_memory[:] = image
            pipeline.submit(camera_memory)
        while (result := pipeline.poll(block=True)) is not None:
            results.append(result)
        assert pipeline.poll() is None
    for result, image, (labels, _) in zip(results, images, expected, strict=True):
        assert_same_labels(result.labels, labels)
        np.testing.assert_array_equal(result.frame.image, image)


def test_full_pipeline_refuses_another_frame(bundle, images):
    with Pipeline.open(bundle, depth=2, threads=1) as pipeline:
        pipeline.submit(images[0])
        pipeline.submit(images[1])
        with pytest.raises(PipelineError, match=r"2 frames are in flight; collect"):
            pipeline.submit(images[2])
        assert pipeline.poll(block=True).frame.index == 0
        assert pipeline.poll(block=True).frame.index == 1


def test_confidence_is_given_where_it_is_asked_for(bundle, images):
    with Pipeline.open(bundle, policy="fixed:3", threads=1, confidence=True) as pipeline:
        sure = list(pipeline.run(frames_of(images[:4])))
    with Pipeline.open(bundle, policy="fixed:3", threads=1) as pipeline:
        plain = list(pipeline.run(frames_of(images[:4])))
    for with_it, without in zip(sure, plain, strict=True):
        np.testing.assert_array_equal(with_it.labels, without.labels)
        assert without.confidence is None
        assert with_it.confidence.shape == with_it.labels.shape
        # The best of K classes has at least the K-th part.
        assert with_it.confidence.min() >= 255 // len(bundle.manifest.classes) - 1
    assert not np.array_equal(sure[0].confidence, sure[1].confidence), (
        "no buffer is handed out twice"
    )


def test_age_counts_from_capture_and_is_told_of_live_frames_only(bundle, images):
    with Pipeline.open(bundle, threads=1, depth=1) as pipeline:
        before = time.monotonic()
        pipeline.submit(images[0], stamp_s=before - 5.0)
        live = pipeline.poll(block=True)
        longest = time.monotonic() - before + 5.0
        pipeline.submit(Frame(images[1], 1, 123.0))
        recorded = pipeline.poll(block=True)
    assert 5.0 + live.latency_s <= live.age_s <= longest
    assert recorded.age_s is None


def test_stamp_that_makes_nonsense_of_ages_is_refused_and_not_counted(bundle, images):
    later_s = time.monotonic() + 1e6
    with Pipeline.open(bundle, threads=1, depth=1) as pipeline:
        for wrong_s in (float("nan"), later_s):
            with pytest.raises(FrameError, match="stamp"):
                pipeline.submit(images[0], stamp_s=wrong_s)
            with pytest.raises(FrameError, match="stamp"):
                pipeline.submit(Frame(images[0], 0, wrong_s, live=True))
        pipeline.submit(images[0])
        result = pipeline.poll(block=True)
        pipeline.submit(Frame(images[1], 1, later_s))  # of a recording: any time will do
        pipeline.poll(block=True)
    assert result.frame.index == 0
    assert 0 <= result.age_s < 60


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 32), (2160, 3840), (640, 360)])
def test_frames_of_any_size_are_answered_at_their_size(bundle, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    with Pipeline.open(bundle, threads=1) as pipeline:
        pipeline.submit(image)
        assert pipeline.poll(block=True).labels.shape == size


@pytest.mark.parametrize(
    "shape", [(40, 60), (40, 60, 1), (40, 60, 4)], ids=["grey", "grey1", "alpha"]
)
def test_grey_and_alpha_are_converted(bundle, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with Pipeline.open(bundle, threads=1) as pipeline:
        pipeline.submit(image)
        assert pipeline.poll(block=True).frame.image.shape == (40, 60, 3)


def test_bad_frame_is_refused_and_takes_no_number(bundle, images):
    with Pipeline.open(bundle, threads=1) as pipeline:
        pipeline.submit(images[0])
        with pytest.raises(FrameError, match="float32"):
            pipeline.submit(images[1].astype(np.float32))
        pipeline.submit(images[1])
        assert [pipeline.poll(block=True).frame.index for _ in range(2)] == [0, 1]


def test_bad_frame_of_a_source_is_skipped_and_counted(bundle, images, caplog):
    frames = frames_of(images[:4])
    frames[2] = Frame(np.zeros((0, 4, 3), np.uint8), 2, 0.1)
    with Pipeline.open(bundle, threads=1) as pipeline:
        results = list(pipeline.run(frames))
    assert [result.frame.index for result in results] == [0, 1, 3]
    assert "frame 2 skipped" in caplog.text


def test_what_is_no_frame_is_skipped(bundle, images, caplog):
    with Pipeline.open(bundle, threads=1) as pipeline:
        results = list(pipeline.run([images[0], None, images[1]]))
    assert [result.frame.index for result in results] == [0, 1]
    assert "NoneType" in caplog.text


def test_frame_numbers_must_grow(bundle, images):
    with Pipeline.open(bundle, threads=1) as pipeline:
        pipeline.submit(Frame(images[0], 5, 0.0))
        with pytest.raises(FrameError, match="frame 5 was submitted after frame 5"):
            pipeline.submit(Frame(images[1], 5, 0.1))


def test_breaking_off_leaves_the_pipeline_usable(bundle, images):
    with Pipeline.open(bundle, policy="fixed:4", threads=1) as pipeline:
        for result in pipeline.run(frames_of(images)):
            if result.frame.index == 5:
                break
        again = list(pipeline.run(frames_of(images)))
    assert [result.frame.index for result in again] == list(range(len(images)))
    assert again[0].is_key


def test_run_that_was_left_lying_does_not_disturb_the_next(bundle, images):
    with Pipeline.open(bundle, policy="fixed:100", threads=1) as pipeline:
        left = pipeline.run(frames_of(images))
        next(left)
        results = []
        for result in pipeline.run(frames_of(images)):
            results.append(result)
            if result.frame.index == 4:
                left.close()  # what the garbage collector does, at any time
    assert [result.frame.index for result in results] == list(range(len(images)))
    assert {result.key_index for result in results} == {0}


def test_run_ends_when_another_is_begun(bundle, images):
    with Pipeline.open(bundle, threads=1) as pipeline:
        first = pipeline.run(frames_of(images))
        next(first)
        second = pipeline.run(frames_of(images))
        assert next(second).frame.index == 0
        with pytest.raises(PipelineError, match="another run was begun"):
            next(first)
        assert [result.frame.index for result in second] == list(range(1, len(images)))


def test_every_result_before_a_failure_of_the_source_is_handed_out(bundle, images):
    def unplugged():
        yield from frames_of(images[:5])
        raise OSError("the camera is gone")

    indices = []
    with Pipeline.open(bundle, depth=3, threads=1) as pipeline:
        results = (result.frame.index for result in pipeline.run(unplugged()))
        with pytest.raises(OSError, match="the camera is gone"):
            indices.extend(results)  # what came before the failure stays
    assert indices == [0, 1, 2, 3, 4]


def test_memory_mapped_image_is_copied_too(bundle, images, tmp_path):
    camera_memory = np.memmap(tmp_path / "camera", np.uint8, "w+", shape=images[0].shape)
    camera_memory[:] = images[0]
    with Pipeline.open(bundle, threads=1) as pipeline:
        pipeline.submit(camera_memory)
        camera_memory[:] = 0
        np.testing.assert_array_equal(pipeline.poll(block=True).frame.image, images[0])


def test_several_pipelines_at_once(bundle, images):
    expected = algorithm_1(bundle, images, 3)
    with (
        Pipeline.open(bundle, policy="fixed:3", threads=1) as first,
        Pipeline.open(bundle, policy="fixed:3", threads=1) as second,
    ):
        for left, right, (labels, _) in zip(
            first.run(frames_of(images)), second.run(frames_of(images)), expected, strict=True
        ):
            assert_same_labels(left.labels, labels)
            assert_same_labels(right.labels, labels)


def test_close_leaves_no_thread(bundle, images):
    before = set(threading.enumerate())
    pipeline = Pipeline.open(bundle, threads=1)
    pipeline.submit(images[0])
    pipeline.close()
    pipeline.close()
    assert set(threading.enumerate()) == before
    with pytest.raises(PipelineError, match="closed"):
        pipeline.submit(images[1])


def test_interrupted_close_can_be_repeated(bundle, monkeypatch):
    def ctrl_c():
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    pipeline = Pipeline.open(bundle, threads=1)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(pipeline._scheduler, "close", ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            pipeline.close()
    pipeline.close()
    assert set(threading.enumerate()) == before


def test_missing_precision_is_refused(bundle):
    from dff_edge.errors import BundleError

    with pytest.raises(BundleError, match="int8"):
        Pipeline.open(bundle, precision="int8")


@pytest.mark.parametrize(
    "policy", ["fixed:0", "fixed:", "fixed:x", "adaptive", "fixed:-3", "fixed:²"]
)
def test_unknown_policy_is_refused(bundle, policy):
    with pytest.raises(ConfigError, match=r"expected fixed:l|expected 1 or more"):
        Pipeline.open(bundle, policy=policy)


def test_bundle_by_path(bundle, images):
    with Pipeline.open(str(bundle.path), threads=1) as pipeline:
        assert isinstance(pipeline.bundle, Bundle)
        assert len(list(pipeline.run(frames_of(images[:2])))) == 2


def test_nothing_global_is_touched(bundle, images):
    import logging
    import signal

    def state():
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return handlers, cv2.getNumThreads(), list(logging.getLogger().handlers)

    before = state()
    with Pipeline.open(bundle, threads=1) as pipeline:
        list(pipeline.run(frames_of(images[:3])))
    assert state() == before


def test_pipeline_works_in_a_thread_of_the_caller(bundle, images):
    collected = []

    def robot():
        with Pipeline.open(bundle, threads=1) as pipeline:
            collected.extend(pipeline.run(frames_of(images[:4])))

    thread = threading.Thread(target=robot)
    thread.start()
    thread.join(60)
    assert [result.frame.index for result in collected] == [0, 1, 2, 3]
