"""The base of all sources, and of those that never drop a frame."""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections.abc import Iterator

from dff_edge.frames import Frame, FrameCounts
from dff_edge.lifetime import Closing, bind

DEFAULT_FPS = 30.0  # of sources without times of their own: images and scenes

_LOG = logging.getLogger("dff_edge.runtime")
_LOGGED_SKIPS = 10


class Source(Closing):
    """An open source: an iterator of frames and a context manager.

    Iterate in one thread; ``close`` may be called in any other, and ends the iteration. Iterating
    over a closed source yields nothing.

    Attributes:
        uri: as the user wrote it, without credentials.
        live: whether frames that are not read in time are replaced by newer ones.
        fps: nominal frames per second, None where it is not known.
        length: number of frames that the source states, None where it does not. Containers are
            sometimes wrong: use it for progress only.
        size: ``(H, W)`` of the first frame, None before it is known; later frames may differ.
        counts: outcome of the frames so far.
    """

    def __init__(self, uri: str, *, live: bool) -> None:
        self.uri = uri
        self.live = live
        self.fps: float | None = None
        self.length: int | None = None
        self.size: tuple[int, int] | None = None
        self.counts = FrameCounts()
        bind(self)

    def __iter__(self) -> Iterator[Frame]:
        return self

    @abstractmethod
    def __next__(self) -> Frame:
        """Return the next frame; blocks until there is one."""

    @abstractmethod
    def close(self) -> None:
        """Release the resources of the source. Safe to call twice."""

    def _skip(self, what: str) -> None:
        """Count a frame that cannot be used; log the first ten."""
        self.counts.fail(what)
        if self.counts.failed <= _LOGGED_SKIPS:
            _LOG.warning("%s: skipped a frame: %s", self.uri, what)
        if self.counts.failed == _LOGGED_SKIPS:
            _LOG.warning("%s: further skipped frames are only counted", self.uri)


class PulledSource(Source):
    """A source that produces a frame on request, and so never drops any.

    A subclass implements ``_frames`` (a generator), then calls ``_look_ahead``: the first frame is
    decoded at once, so that an unreadable source fails on opening.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri, live=False)
        self._lock = threading.Lock()  # decoding and closing exclude each other
        self._closed = False
        self._iterator: Iterator[Frame] = iter(())
        self._first: Frame | None = None

    def __next__(self) -> Frame:
        with self._lock:
            frame, self._first = self._first, None
            if frame is None:
                frame = next(self._iterator)
            self.counts.read += 1
            return frame

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._first = None
                self._iterator = iter(())
                self._release()

    @abstractmethod
    def _frames(self) -> Iterator[Frame]:
        """Yield the frames, counting undecodable ones with ``_skip``."""

    def _release(self) -> None:
        """Close all open resources; the generator has ended by then."""

    def _look_ahead(self) -> None:
        self._iterator = self._frames()
        try:
            self._first = next(self._iterator, None)
        except BaseException:
            self.close()
            raise
        if self._first is not None:
            height, width = self._first.image.shape[:2]
            self.size = (height, width)
        bind(self, at_exit=PulledSource.close)
