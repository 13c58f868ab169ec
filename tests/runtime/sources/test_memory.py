"""Images in memory as a recording."""

import itertools

import numpy as np
import pytest

from dff_edge.errors import SourceError
from dff_edge.runtime.sources.memory import MemorySource

IMAGES = [np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)]


def values(source, count):
    return [int(frame.image[0, 0, 0]) for frame in itertools.islice(source, count)]


def test_images_are_played_there_and_back_as_often_as_needed():
    with MemorySource(IMAGES, 8) as source:
        assert source.length == 8
        assert source.size == (2, 3)
        assert values(source, 99) == [10, 20, 30, 30, 20, 10, 10, 20]
        assert source.counts.read == 8


def test_frames_are_numbered_and_the_images_not_copied():
    with MemorySource(IMAGES) as source:
        frames = list(itertools.islice(source, 20))
    assert source.length is None
    assert [frame.index for frame in frames] == list(range(20))
    assert frames[2].image is IMAGES[2]


def test_nothing_to_play_is_refused():
    with pytest.raises(SourceError, match="no images in memory"):
        MemorySource([])
