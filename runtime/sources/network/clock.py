"""Time of capture of a network camera's pictures, from the camera's time and the arrival."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dff_edge.runtime.sources.network.parts import Part

JUMP_S = 1.0  # between two pictures, of the camera's clock against ours: the clock was set
WINDOW_S = 5.0

HOLD_UP_S = 0.1  # beyond the usual interval, before a picture counts as delayed
USUAL = 15  # number of intervals that define the usual one
BEHIND_S = 0.01  # a picture that comes so soon after the one before was queued behind it
PROBATION_S = 1.0  # how long a camera's times must agree with ours before they are used


class CameraClock:
    """Converts a camera's times to ours.

    The picture with the least delay in the last 5 to 10 seconds defines the difference of the
    clocks; a later one was delayed on the network, and its stamp is that much before its arrival.
    The delay of even the fastest one is unknown and not in the stamp. A delay that lasts longer
    counts as the usual one of the network; so neither drift nor a wrong rate accumulates.
    """

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None  # (the camera's time, arrival)
        self._offsets_s = (0.0, 0.0)  # smallest of arrival - camera's time: this window, the last
        self._window_end_s = 0.0

    def stamp(self, time_s: float, arrival_s: float) -> tuple[float, bool]:
        """Return the stamp of a picture, and whether the camera's clock has continued.

        Args:
            time_s: by the camera's clock.
            arrival_s: by ``time.monotonic()``.
        """
        last, self._last = self._last, (time_s, arrival_s)
        offset_s = arrival_s - time_s
        went_on = last is None or 0 <= time_s - last[0] < arrival_s - last[1] + JUMP_S
        if last is None or not went_on:
            self._offsets_s = (offset_s, offset_s)
            self._window_end_s = arrival_s + WINDOW_S
        elif arrival_s >= self._window_end_s:
            self._offsets_s = (offset_s, self._offsets_s[0])
            self._window_end_s = arrival_s + WINDOW_S
        else:
            self._offsets_s = (min(offset_s, self._offsets_s[0]), self._offsets_s[1])
        # With a time too large for fractions, the sum may lie after the arrival.
        return min(time_s + min(self._offsets_s), arrival_s), went_on


class PartClock:
    """Stamps of the pictures of an MJPEG stream.

    A camera that sends times (``X-Timestamp``) is believed once they have advanced like ours for a
    second; until then, and for all others, a picture's arrival counts. A time that stands still or
    jumps ends that.
    """

    def __init__(self) -> None:
        self._arrivals = ArrivalClock()
        self._camera = CameraClock()
        self._since: tuple[float, float] | None = None  # (the camera's time, arrival)
        self._time_s = 0.0
        self._is_believed = False

    def stamp(self, part: Part) -> tuple[float, bool]:
        """Return the stamp of a picture, and whether the camera's clock has continued."""
        by_arrival_s = self._arrivals.stamp(part.first_s, part.last_s)
        if part.time_s is None:
            self._since, self._is_believed = None, False
            return by_arrival_s, True
        by_camera_s, went_on = self._camera.stamp(part.time_s, part.first_s)
        last_s, self._time_s = self._time_s, part.time_s
        if self._since is None or not went_on or part.time_s <= last_s:
            was_believed, self._is_believed = self._is_believed, False
            self._since = part.time_s, part.first_s
            return by_arrival_s, not was_believed
        ours_s = part.first_s - self._since[1]
        if not self._is_believed and ours_s >= PROBATION_S:
            # A time in other units runs at another rate.
            self._is_believed = abs(part.time_s - self._since[0] - ours_s) < 0.1 * ours_s
            self._since = part.time_s, part.first_s
        return (by_camera_s if self._is_believed else by_arrival_s), True


class ArrivalClock:
    """Stamps of pictures that carry no time of their own: the arrival of their first bytes.

    After a longer silence than usual that is too young: the next picture may have been delayed on
    the network, or in the camera, since it was due, and so may those right after it. Such pictures
    are stamped with the earliest time at which they can have been taken: rather too old than too
    young. A delay that lasts counts as the usual one after ``WINDOW_S``.
    """

    def __init__(self) -> None:
        self._intervals_s: deque[float] = deque(maxlen=USUAL)
        self._last: tuple[float, float, float] | None = None  # first bytes, last bytes, stamp
        self._late_s = 0.0  # how late the current pictures may be
        self._late_until_s = -math.inf

    def stamp(self, first_s: float, last_s: float) -> float:
        """Return the stamp of a picture by the arrival of its first and last bytes."""
        last, stamp_s = self._last, first_s
        if last is not None:
            interval_s, silence_s = first_s - last[0], first_s - last[1]
            usual_s = statistics.median(self._intervals_s) if self._intervals_s else math.inf
            is_late = interval_s > max(3 * usual_s, usual_s + HOLD_UP_S)
            if is_late:
                self._late_s = interval_s - usual_s
                self._late_until_s = first_s + WINDOW_S
                stamp_s = first_s - self._late_s
            elif first_s < self._late_until_s and silence_s < min(usual_s / 2, BEHIND_S):
                stamp_s = min(max(last[2] + usual_s, first_s - self._late_s), first_s)
                self._late_s = first_s - stamp_s
            else:
                self._late_until_s = -math.inf
            if is_late or first_s >= self._late_until_s:
                self._intervals_s.append(interval_s)
        self._last = first_s, last_s, stamp_s
        return stamp_s
