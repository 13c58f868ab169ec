"""The synthetic street as a source: its frames are those of the scene."""

import numpy as np
import pytest

from dff_edge.errors import ConfigError
from dff_edge.runtime.sources import open_source
from dff_edge.synthetic import StreetScene


def test_frames_are_those_of_the_scene():
    uri = "synthetic://street?seed=5&frames=3&height=64&width=128&split=test&fps=10&motion=mixed"
    scene = StreetScene(seed=5, split="test", size=(64, 128), length=3, motion="mixed")

    with open_source(uri) as source:
        assert (source.length, source.size, source.fps, source.live) == (3, (64, 128), 10, False)
        frames = list(source)

    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.stamp_s for frame in frames] == pytest.approx([0, 0.1, 0.2])
    for frame in frames:
        np.testing.assert_array_equal(frame.image, scene.render(frame.index)[0])


def test_defaults_are_those_that_the_documentation_names():
    with open_source("synthetic://street") as source:
        assert (source.length, source.size, source.fps) == (100, (256, 512), 30)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("split=dev", "split is 'dev', expected one of train, val, test"),
        ("motion=fast", "motion is 'fast', expected one of steady, mixed"),
        ("frames=0", "frames is '0'"),
        ("height=8", "8"),
    ],
)
def test_unfit_values_are_refused(query, message):
    with pytest.raises(ConfigError, match=message):
        open_source(f"synthetic://street?{query}")
