"""A camera that is reconnected when it is lost.

One thread per connection reads it (`_Reader`); another watches (`CameraSource._watch`), so that
a read or a connect that hangs is detected too. A hanging call is left behind and releases the
camera when it returns, if ever.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dff_edge.errors import FrameError, SourceError
from dff_edge.frames import Frame
from dff_edge.lifetime import Worker, bind, inner_of
from dff_edge.runtime.kernels.resize import check_image
from dff_edge.runtime.sources.capture import Capture, Shot
from dff_edge.runtime.sources.live import LiveSource, Signal, State

MAX_STUCK = 3  # hanging connections after which no further one is tried

_LOG = logging.getLogger("dff_edge.runtime")


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits on waiting for a camera, in seconds.

    Attributes:
        gap_s: after this time without a frame it is "stalled", and its next frame begins a new
            segment. For a camera that states its rate, at least three of its frame periods.
        lost_s: after this time without a frame it is "lost", and is reconnected.
        connect_s: limit for connecting, and then for the first frame, if no data comes at all.
        first_retry_s: pause before the first try to reconnect, doubled for each further one
            until frames have come for ``lost_s``. Each pause is shortened at random, to half at
            most, so that many robots do not query a camera at the same moment.
        max_retry_s: longest pause.
        join_s: how long ``close`` waits at most for a read that hangs.
    """

    gap_s: float = 1.0
    lost_s: float = 5.0
    connect_s: float = 20.0
    first_retry_s: float = 0.2
    max_retry_s: float = 5.0
    join_s: float = 12.0  # OpenCV's V4L2 read times out after 10


class CameraSource(LiveSource):
    """Frames of a camera, only the newest ones, over all its connections.

    Opening it waits for the first connection. Frames that arrive before the first one is
    requested are dropped, so that it is current. An outage loses an unknown number of frames:
    numbers continue, and ``segment`` marks the gap.

    Args:
        connect: creates a connection; called for each one, in a thread of its own.
        uri: for messages; without credentials.
        retry_s: how long an outage may last before it is an error; None for ever, 0 not at all. A
            connection that yields frames for less than ``lost_s`` does not end an outage.
        patience: when the camera counts as lost, and how it is retried.

    Raises:
        SourceError, ConfigError, MissingDependencyError: the first connection failed.
    """

    def __init__(
        self,
        connect: Callable[[], Capture],
        uri: str,
        *,
        retry_s: float | None = None,
        patience: Patience | None = None,
    ) -> None:
        super().__init__(uri)
        self.patience = patience or Patience()
        self._connect = connect
        self._retry_s = math.inf if retry_s is None else retry_s
        self._lock = threading.Lock()  # between the threads below: no caller's thread acquires it
        self._state: State = "live"
        self._next_index = 0
        self._segment = 0
        self._is_new_segment = False
        self._last_size: tuple[int, int] | None = None
        self._outage_s = math.nan  # when the latest one began
        self._stuck: list[_Reader] = []
        self._wake = Signal()  # for the watching thread
        self._gap_s = self.patience.gap_s
        try:
            inner = inner_of(self)
            reader = _Reader(inner)
            reader.has_begun.wait(self.patience.connect_s)
            if not reader.is_connected:
                raise reader.error or SourceError(
                    f"'{uri}' did not connect within {self.patience.connect_s:g} s. Check that "
                    "the camera is on and that this machine reaches it."
                )
            self._thread = Worker(inner._stay_connected, f"dff-edge {uri}", (reader,))
            bind(self, dropped=inner.close)
            self._thread.start()
        except BaseException:
            self._is_closed = True  # ends the threads: Ctrl-C may come when they have begun
            self._wake.set()
            raise

    @property
    def state(self) -> State:
        if self._is_closed or (self._is_over and not self._newest):
            return "closed"
        return self._state

    @property
    def stuck(self) -> int:
        """Number of connections in a call that has not returned yet; at most ``MAX_STUCK``."""
        return sum(reader.thread.is_alive() for reader in self._stuck)

    def close(self) -> None:
        self._is_closed = True
        self._newest.clear()
        self._has_news.set()
        self._wake.set()
        self._thread.join()

    def _stay_connected(self, reader: _Reader) -> None:
        pause_s = give_up_s = math.inf
        last_reason = ""
        while True:
            reason = self._watch(reader, give_up_s)
            with self._lock:
                reader.is_stopped = True
            if self._is_closed:
                break
            now_s = time.monotonic()
            live_s = reader.heard_s - reader.first_s if reader.has_frames else 0.0
            if live_s >= self.patience.lost_s or math.isinf(pause_s):
                give_up_s = now_s + self._retry_s
                pause_s = self.patience.first_retry_s
            if self._state != "lost":
                self._outage_s = now_s
                self._change("lost", reason)
            elif reason != last_reason:
                _LOG.warning("camera %s: still lost: %s", self.uri, reason)
            last_reason = reason
            self._rest(min(now_s + pause_s * random.uniform(0.5, 1.0), give_up_s))
            self._leave(reader)
            while self.stuck >= MAX_STUCK and time.monotonic() < give_up_s and not self._is_closed:
                self._rest(min(time.monotonic() + self.patience.max_retry_s, give_up_s))
            if self._is_closed:
                break
            if time.monotonic() >= give_up_s:
                self._give_up(reason)
                break
            pause_s = min(2 * pause_s, self.patience.max_retry_s)
            reader = _Reader(self)
        self._let_go(reader)

    def _watch(self, reader: _Reader, give_up_s: float) -> str:
        """Wait until the connection has failed, and return the reason."""
        while not self._is_closed:
            if reader.failure is not None:
                return reader.failure
            now_s = time.monotonic()
            if reader.has_frames:
                limit_s, missing = self.patience.lost_s, "no frame for"
            else:
                limit_s, missing = self.patience.connect_s, "no first frame within"
                if now_s >= give_up_s:
                    has_data = reader.alive_s > reader.heard_s
                    return "data comes, no frame yet" if has_data else "no first frame yet"
            with self._lock:
                silent_s = now_s - reader.heard_s
                left_s = reader.alive_s + limit_s - now_s
                if left_s <= 0:
                    reader.is_stopped = True
                    return f"{missing} {limit_s:g} s"
                if silent_s >= self._gap_s and self._state == "live":
                    self._change("stalled", f"no frame for {self._gap_s:g} s")
            next_s = left_s
            if self._state == "live":
                next_s = min(next_s, self._gap_s - silent_s)
            if not reader.has_frames:
                next_s = min(next_s, give_up_s - now_s)
            self._wake.wait(next_s)
        return "closed"

    def _take_on(self, capture: Capture) -> None:
        """Take over the properties of the camera from a new connection."""
        self.fps = capture.fps
        self.size = self.size or capture.size
        self._gap_s = max(self.patience.gap_s, 3 / capture.fps if capture.fps else 0.0)

    def _take_shot(self, reader: _Reader, shot: Shot | str | None) -> None:
        """Make a frame of a reader's shot."""
        with self._lock:
            if reader.is_stopped or self._is_closed:
                reader.is_stopped = True
                return
            if shot is None:
                if not reader.has_frames:
                    reader.alive_s = time.monotonic()
                return
            if isinstance(shot, str):
                self._count_failure(shot)
                return
            try:
                image = check_image(shot.image)
            except FrameError as error:
                self._count_failure(str(error))
                return
            self._note_continuity(reader, shot, (image.shape[0], image.shape[1]))
            if not self._is_wanted:
                return
            self._segment += self._is_new_segment
            self._is_new_segment = False
            skipped = shot.skipped if self._next_index else 0  # earlier ones were not requested
            self.counts.dropped += skipped
            index = self._next_index + skipped
            self._next_index = index + 1
            self._put(Frame(image, index, shot.stamp_s, segment=self._segment, live=True))

    def _count_failure(self, why: str) -> None:
        if self._is_wanted:
            self._skip(f"frame {self._next_index}: {why}")
            self._next_index += 1

    def _note_continuity(self, reader: _Reader, shot: Shot, size: tuple[int, int]) -> None:
        now_s = time.monotonic()
        is_first = self._last_size is None
        self._is_new_segment |= not is_first and (
            not reader.has_frames
            or not shot.follows
            or now_s - reader.heard_s >= self._gap_s
            or size != self._last_size
        )
        self._last_size = size
        reader.heard_s = reader.alive_s = now_s
        if not reader.has_frames:
            reader.has_frames, reader.first_s = True, now_s
        if self._state == "lost":
            self.counts.reconnects += 1
            self._change("live", f"back after {now_s - self._outage_s:.1f} s")
        elif self._state == "stalled":
            self._change("live", "frames come again")

    def _change(self, state: State, why: str) -> None:
        self._state = state
        _LOG.warning("camera %s: %s: %s", self.uri, state, why)
        if state == "live":
            self._wake.set()  # to watch anew

    def _give_up(self, reason: str) -> None:
        self._end(
            f"Camera '{self.uri}' was lost after {self.counts.read} frames and did not come back "
            f"within {self._retry_s:g} s: {reason.rstrip('.')}. Check its power and cable or "
            "network; ?retry=SECONDS waits longer, without retry the wait has no limit."
        )
        _LOG.warning("camera %s: closed: given up after %g s", self.uri, self._retry_s)

    def _rest(self, until_s: float) -> None:
        while not self._is_closed and (left_s := until_s - time.monotonic()) > 0:
            self._wake.wait(left_s)

    def _leave(self, reader: _Reader) -> None:
        """Join a connection that is no longer used, or count it as stuck."""
        self._stuck = [other for other in self._stuck if other.thread.is_alive()]
        if reader.failure is not None:
            reader.thread.join()  # it has nothing left to do
        else:
            self._stuck.append(reader)
            _LOG.warning(
                "camera %s: its driver does not return; left behind (%d of at most %d)",
                self.uri,
                len(self._stuck),
                MAX_STUCK,
            )

    def _let_go(self, reader: _Reader) -> None:
        """Wait for the last connection to end, and for those before it."""
        end_s = time.monotonic() + self.patience.join_s
        for other in (*self._stuck, reader):
            other.thread.join(max(0.0, end_s - time.monotonic()))
        if self.stuck or reader.thread.is_alive():
            _LOG.warning("camera %s: its driver does not return from a call; left behind", self.uri)


class _Reader:
    """One connection, from connecting to release, and the thread that runs it."""

    def __init__(self, source: CameraSource) -> None:
        self.heard_s = time.monotonic()  # when the latest frame came, or the connection was begun
        self.alive_s = self.heard_s  # the same, or when data came before the first frame
        self.first_s = math.nan  # when the first frame came
        self.has_frames = False
        self.is_stopped = False
        self.has_begun = Signal()  # connected, or failed to
        self.is_connected = False
        self.error: Exception | None = None
        self.failure: str | None = None  # why it has ended; the camera is released by then
        self._source = source
        self.thread = Worker(self._run, f"dff-edge {source.uri} reader")
        self.thread.start()

    def _run(self) -> None:
        capture: Capture | None = None
        try:
            capture = self._source._connect()
            self._source._take_on(capture)
            self.is_connected = True
            self.has_begun.set()
            while not (self.is_stopped or self._source._is_closed):
                self._source._take_shot(self, capture.read())
        except Exception as error:  # raised by the constructor, or reported by the watching thread
            # Its traceback would create a reference cycle that keeps the connection's memory.
            self.error = error.with_traceback(None)
        try:
            # Here and not in close: releasing while another thread reads is not safe.
            if capture is not None:
                capture.release()
        except Exception as error:
            self.error = self.error or error.with_traceback(None)
        self.failure = str(self.error or "stopped")
        self.has_begun.set()
        self._source._wake.set()
