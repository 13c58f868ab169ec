"""A recording played as if it were live: at a given rate, whether frames are read or not."""

from __future__ import annotations

import time

from dff_edge.frames import Frame
from dff_edge.lifetime import Worker, bind, inner_of
from dff_edge.runtime.sources.base import PulledSource
from dff_edge.runtime.sources.live import LiveSource, Signal, State


class PacedSource(LiveSource):
    """The frames of a recording, frame ``i`` at ``i / rate`` seconds after the first.

    It begins when the first frame is requested. Stamps are ``time.monotonic()`` as a frame is
    returned. Where decoding is slower than the rate, frames come as fast as they are decoded.

    Args:
        recording: closed with this source.
        rate: frames per second.
    """

    def __init__(self, recording: PulledSource, rate: float) -> None:
        super().__init__(recording.uri)
        self.fps = rate
        self.length = recording.length
        self.size = recording.size
        self._recording = recording
        self._wake = Signal()
        inner = inner_of(self)
        self._thread = Worker(inner._play, f"dff-edge {self.uri}")
        bind(self, dropped=inner.close)
        self._thread.start()

    @property
    def state(self) -> State:
        is_over = self._is_over and not self._newest
        return "closed" if self._is_closed or is_over else "live"

    def close(self) -> None:
        self._is_closed = True
        self._newest.clear()
        self._has_news.set()
        self._is_asked.set()
        self._wake.set()
        self._thread.join()

    def _play(self) -> None:
        self._is_asked.wait()
        failure: Exception | None = None  # raised where frames are read
        try:
            self._play_frames(self.fps or 1.0)
        except Exception as error:
            failure = error
        try:
            self._recording.close()
        except Exception as error:
            failure = failure or error
        self._take_over_failures()  # those after the last frame too
        self._end(failure)

    def _play_frames(self, rate: float) -> None:
        start_s: float | None = None
        first = 0
        for frame in self._recording:
            self._take_over_failures()
            if start_s is None:
                start_s, first = time.monotonic(), frame.index
            due_s = start_s + (frame.index - first) / rate
            while not self._is_closed and (left_s := due_s - time.monotonic()) > 0:
                self._wake.wait(left_s)
            if self._is_closed:
                return
            self._put(Frame(frame.image, frame.index, time.monotonic(), live=True))

    def _take_over_failures(self) -> None:
        self.counts.failed = self._recording.counts.failed
        self.counts.reasons = self._recording.counts.reasons
