"""The base of live sources: the newest frame, and waiting for it."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections import deque
from contextlib import suppress
from typing import Literal

from dff_edge.errors import DffEdgeError, SourceError
from dff_edge.frames import Frame
from dff_edge.runtime.sources.base import Source

State = Literal["live", "stalled", "lost", "closed"]


class Signal:
    """Wakes one waiting thread; if set beforehand, the next that waits.

    It is a lock that only native code acquires and releases. ``threading.Event`` and ``Condition``
    are Python code: Ctrl-C inside them can leave their lock acquired, and all others waiting.
    """

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        with suppress(RuntimeError):  # set already
            self._unset.release()

    def wait(self, timeout_s: float = threading.TIMEOUT_MAX) -> None:
        self._unset.acquire(timeout=max(0.0, min(timeout_s, threading.TIMEOUT_MAX)))


class LiveSource(Source):
    """A source that runs by itself: a frame that is not read in time is replaced by the next.

    Read frames in one thread. ``state``, ``counts`` and ``close`` are for any thread; ``close``
    ends a waiting ``next`` or ``read`` at once. Frames are numbered from the first
    request on.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri, live=True)
        self._newest: deque[Frame] = deque()  # one or none: its operations are atomic
        self._has_news = Signal()
        self._is_asked = Signal()
        self._is_wanted = False
        self._is_closed = False
        self._is_over = False  # no frame will come any more
        self._failure: str | Exception | None = None  # why, when that is an error

    @property
    @abstractmethod
    def state(self) -> State:
        """State of the source at this moment.

        "live": frames come. "stalled": none for a while, the connection is open. "lost": being
        reconnected. "closed": closed, at its end, or given up; no frame will come.
        """

    def __next__(self) -> Frame:
        frame = self._take(None)
        if frame is None:
            raise StopIteration
        return frame

    def read(self, timeout_s: float) -> Frame | None:
        """Return the newest frame that was not read yet; wait for it up to ``timeout_s``.

        Returns:
            None when there was none in time, and at once when ``state`` is "closed".

        Raises:
            SourceError: the source has failed for good.
        """
        return self._take(timeout_s)

    def _take(self, timeout_s: float | None) -> Frame | None:
        if not self._is_wanted:
            self._is_wanted = True
            self._is_asked.set()
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            is_over = self._is_over  # checked first: the last frame comes before the end
            if self._is_closed:
                self._has_news.set()  # for other threads that may be waiting
                return None
            with suppress(IndexError):
                frame = self._newest.popleft()
                self.counts.read += 1
                return frame
            if is_over:
                if self._failure is not None:
                    raise _as_error(self._failure)
                return None
            if end_s is None:
                self._has_news.wait()
            elif (left_s := end_s - time.monotonic()) > 0:
                self._has_news.wait(left_s)
            else:
                return None

    def _put(self, frame: Frame) -> None:
        """Make this the newest frame. Called by the one thread that makes frames."""
        with suppress(IndexError):
            self._newest.popleft()
            self.counts.dropped += 1
        self.size = self.size or (frame.image.shape[0], frame.image.shape[1])
        self._newest.append(frame)
        self._has_news.set()

    def _end(self, failure: str | Exception | None = None) -> None:
        """Note that no frame will come any more."""
        self._failure = failure
        self._is_over = True
        self._has_news.set()


def _as_error(failure: str | Exception) -> SourceError:
    """Return the exception of a failure: a new one each time, as it collects a traceback."""
    if isinstance(failure, str):
        return SourceError(failure)
    if isinstance(failure, DffEdgeError):
        return SourceError(str(failure))
    error = SourceError(f"{type(failure).__name__}: {failure}")
    error.__cause__ = failure  # a fault of the program: with its traceback
    return error
