"""Presentation times of the pictures of a file."""

from __future__ import annotations

from collections import deque
from typing import Any

FALLBACK_FPS = 25.0  # FFmpeg's own guess for streams without time


class Stamps:
    """Presentation times of a file's pictures, in seconds from its start.

    They are those of the container, from the start that it states. Exceptions:

    - AVI numbers its pictures in the order of decoding only, which FFmpeg reports as their
      presentation time. So the n-th picture that is shown gets the n-th of these times.
    - Raw streams have no times, or guessed ones: the frame rate is used, from 0.
    - Where times stand still or go back, as in joined recordings, they advance by the frame period.
    """

    def __init__(self, format_name: str, stream: Any, fps: float | None) -> None:
        self._start: int | None = stream.start_time
        self._unit = stream.time_base
        self._period_s = 1.0 / (fps or FALLBACK_FPS)
        self._slots: deque[int | None] | None = deque() if format_name == "avi" else None
        self._last_index = -1
        self._last_s = -self._period_s

    @property
    def are_of_decoding(self) -> bool:
        """Whether the container states the order of decoding only."""
        return self._slots is not None

    def send(self, packet: Any) -> None:
        """Register a packet that is passed to the decoder."""
        if self._slots is not None:
            self._slots.append(packet.dts)

    def drop(self, packet: Any) -> None:
        """Register that a packet yields no picture."""
        if self._slots is not None and packet.dts in self._slots:
            self._slots.remove(packet.dts)

    def time_of(self, picture: Any) -> int | None:
        """Return the container's time of the next picture that the decoder outputs."""
        if self._slots is not None:
            return self._slots.popleft() if self._slots else None
        time: int | None = picture.pts
        return time

    def stamp(self, time: int | None, index: int) -> float:
        """Return the stamp of a picture that is returned, in seconds.

        Args:
            time: result of ``time_of`` for it.
            index: its number; pictures that failed are numbered too.
        """
        stamp_s = None
        if time is not None and self._unit:
            if self._start is None:
                self._start = time
            stamp_s = float((time - self._start) * self._unit)
        if stamp_s is None or stamp_s <= self._last_s:
            stamp_s = self._last_s + (index - self._last_index) * self._period_s
        self._last_s, self._last_index = stamp_s, index
        return stamp_s
