"""Turns of several streams at one feature network, so that their key frames never coincide.

A key frame that is begun while another stream's is computed would wait for it, and its features
would be older by that when they are used. It is put off instead: a later frame of the same stream
becomes the key frame, as soon as the network is free. The stream that has waited longest since its
latest key frame goes first, so that all get equally many: a camera of any rate, beside streams of
any policy.

Key frames that cannot be put off, the first and those after a gap, wait at the engine, in order.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Callable

# A stream that was put off has its turn kept for so long: the period of a camera of 4 Hz. The
# network may stand idle meanwhile, so a camera that was lost must not keep it longer.
KEPT_S = 0.25


class KeyTurns:
    """The streams of one feature network, and whose turn it is.

    Args:
        clock: seconds, in which turns are kept.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._streams: weakref.WeakSet[KeyTurn] = weakref.WeakSet()
        self._numbers = itertools.count(1)

    def join(self, is_busy: Callable[[], bool]) -> KeyTurn:
        """Add a stream.

        Args:
            is_busy: whether the features of a key frame of it are being computed, or about to be;
                for any thread.
        """
        stream = KeyTurn(self, is_busy)
        with self._lock:
            self._streams.add(stream)
        return stream

    def _ask(self, stream: KeyTurn) -> bool:
        with self._lock:
            now_s = self._clock()
            put_off_s = stream._put_off_s
            others = [other for other in self._streams if other is not stream]
            if any(other._has_begun or other._is_busy() for other in others):
                # A camera that is slower than KEPT_S would find it busy again and again. It waits
                # at the engine; its frames come so rarely that features of that age are fresh.
                is_free = put_off_s is not None and now_s - put_off_s > KEPT_S
            else:
                is_free = not any(
                    other._put_off_s is not None
                    and now_s - other._put_off_s <= KEPT_S
                    and other._latest < stream._latest
                    for other in others
                )
            if is_free:
                self._begin(stream)
            else:
                stream._put_off_s = now_s
            return is_free

    def _begin(self, stream: KeyTurn) -> None:
        stream._put_off_s = None
        stream._latest = next(self._numbers)
        stream._has_begun = True


class KeyTurn:
    """One stream among those of a ``KeyTurns``. Its owner uses it from one thread at a time."""

    def __init__(self, turns: KeyTurns, is_busy: Callable[[], bool]) -> None:
        self._turns = turns
        self._is_busy = is_busy
        self._has_begun = False  # and the work may not be enqueued yet
        self._put_off_s: float | None = None
        self._latest = 0  # number of its latest turn among all

    def ask(self) -> bool:
        """Return whether a key frame may be begun now; call ``enqueued`` when it was."""
        return self._turns._ask(self)

    def insist(self) -> None:
        """Begin a key frame that cannot be put off; call ``enqueued`` when that was done."""
        with self._turns._lock:
            self._turns._begin(self)

    def enqueued(self) -> None:
        """Note that the work is enqueued, so that ``is_busy`` tells of it, or was given up."""
        self._has_begun = False

    def leave(self) -> None:
        """Leave the others to themselves: ``is_busy`` is not called any more afterwards."""
        with self._turns._lock:
            self._turns._streams.discard(self)
