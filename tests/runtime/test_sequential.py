"""Algorithm 1 step by step, against the definition and the scheduler."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.frames import Frame
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.runtime.kernels.warp import warp_features
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sequential import SequentialRunner, open_graphs, run_engine
from dff_edge.runtime.tasks import decoder_of
from tests.bundle.bundles import make_bundle
from tests.bundle.detection_bundles import make_detection_bundle

SIZE = (70, 100)


@pytest.fixture(scope="module")
def images():
    return list(np.random.default_rng(1).integers(0, 256, (3, *SIZE, 3), np.uint8))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    precisions = ("fp32", "int8")
    return make_bundle(tmp_path_factory.mktemp("s") / "bundle", (64, 96), precisions=precisions)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_each_step_is_its_graph_and_the_warp_between(bundle, images, precision):
    def graph(name, inputs):
        with OrtEngine(bundle.graph_bytes(precision, name), name=name) as engine:
            return run_engine(engine, inputs)

    resizer = FrameResizer((64, 96))
    full, halves = np.empty((1, 64, 96, 3), np.uint8), []
    resizer.full(images[0], full)
    for image in images[:2]:
        halves.append(np.empty((1, 32, 48, 3), np.uint8))
        resizer.half(image, halves[-1])

    with open_graphs(bundle, precision) as subnets:
        runner = SequentialRunner(subnets)
        features = runner.extract(runner.full(images[0]))
        moved = runner.estimate_flow(runner.half(images[0]), runner.half(images[1]))
        warped, outputs = runner.warp(features, moved), runner.propagate(features, moved)

    np.testing.assert_array_equal(features, graph("feature", {"frame": full})["features"])
    expected = graph("flow", {"key_half": halves[0], "frame_half": halves[1]})
    for name in ("flow", "scale"):
        np.testing.assert_array_equal(moved[name], expected[name])
    levels = bundle.manifest.map_levels(precision)
    own = warp_features(features, expected["flow"], expected["scale"], levels=levels)
    np.testing.assert_array_equal(warped, own)
    np.testing.assert_array_equal(outputs["scores"], graph("task", {"features": own})["scores"])


def test_a_graph_that_warps_takes_the_place_of_warp_and_task_network(bundle, images):
    with open_graphs(bundle, "fp32", propagate=True) as whole, open_graphs(bundle, "fp32") as parts:
        assert (whole.propagate is None, parts.propagate is None) == (False, True)
        runners = [SequentialRunner(subnets) for subnets in (whole, parts)]
        found = []
        for runner in runners:
            features = runner.extract(runner.full(images[0]))
            moved = runner.estimate_flow(runner.half(images[0]), runner.half(images[2]))
            found.append(runner.propagate(features, moved)["scores"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [make_bundle, make_detection_bundle])
def test_it_gives_what_the_pipeline_gives(make, images, tmp_path):
    bundle = make(tmp_path / "bundle")
    decoder, found = decoder_of(bundle.manifest), []
    with open_graphs(bundle, "fp32", propagate=make is make_detection_bundle) as subnets:
        assert subnets.propagate is None  # of a detector it gives boxes, which the decoder makes
        runner = SequentialRunner(subnets)
        features = runner.extract(runner.full(images[0]))
        found.append(decoder.decode(runner.score(features), SIZE).content)
        for image in images[1:]:
            moved = runner.estimate_flow(runner.half(images[0]), runner.half(image))
            found.append(decoder.decode(runner.propagate(features, moved), SIZE).content)

    with Pipeline.open(bundle, policy="fixed:3", threads=1) as pipeline:
        results = list(pipeline.run(Frame(x, i, i / 30) for i, x in enumerate(images)))

    for result, own in zip(results, found, strict=True):
        if make is make_bundle:
            assert (result.labels == own).mean() > 0.99  # optimised graphs round otherwise
        else:
            assert len(own)
            np.testing.assert_allclose(result.detections.scores, own.scores, atol=1e-4)


def test_arrays_are_the_receivers(bundle, images):
    with open_graphs(bundle, "fp32") as subnets:
        runner = SequentialRunner(subnets)
        first = runner.extract(runner.full(images[0]))
        kept = first.copy()
        second = runner.extract(runner.full(images[1]))
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)
