"""Images in memory as a recording: for measurements, in which nothing is to be decoded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from dff_edge.errors import SourceError
from dff_edge.frames import Frame, Image
from dff_edge.runtime.sources.base import DEFAULT_FPS, PulledSource


class MemorySource(PulledSource):
    """Images, there and back again as often as needed, so that motion has no jumps.

    Args:
        images: uint8 ``(H, W, 3)`` BGR; they must not change.
        count: frames that it gives; None for no end.

    Raises:
        SourceError: there is no image.
    """

    def __init__(self, images: Sequence[Image], count: int | None = None) -> None:
        super().__init__("memory")
        if not images:
            raise SourceError("there are no images in memory to be played, expected at least one.")
        self._images, self.length = images, count
        self._look_ahead()

    def _frames(self) -> Iterator[Frame]:
        there_and_back = itertools.cycle([*self._images, *reversed(self._images)])
        for index, image in enumerate(itertools.islice(there_and_back, self.length)):
            yield Frame(image, index, index / DEFAULT_FPS)
