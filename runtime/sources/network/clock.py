"""When a network camera's picture was taken, told from its own time and its arrival."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dff_edge.runtime.sources.network.parts import Part

JUMP_S = 1.0  # of the camera's clock against ours, between two pictures: it was set
WINDOW_S = 5.0

HOLD_UP_S = 0.1  # beyond the usual interval, before a picture is taken for one that was held up
USUAL = 15  # intervals that say what is usual
BEHIND_S = 0.01  # a picture that comes so soon after the one before was waiting behind it
PROBATION_S = 1.0  # that a camera's times must agree with ours before they are used


class CameraClock:
    """Turns a camera's times into ours.

    The picture that came fastest of the last 5 to 10 seconds says how the two clocks differ; one
    that came later was held up on its way, and its stamp is that much before its arrival. The time
    that even the fastest one took is not known and not in the stamp. A hold-up that lasts longer
    is taken for the way's usual time; so neither drift nor a wrong rate of the camera adds up.
    """

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None  # (the camera's time, arrival)
        self._offsets_s = (0.0, 0.0)  # smallest of arrival - camera's time: this window, the last
        self._window_end_s = 0.0

    def stamp(self, time_s: float, arrival_s: float) -> tuple[float, bool]:
        """Give the stamp of a picture, and whether the camera's clock went on since the last.

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
        # Of a time too large for its fractions to count, the sum may lie beyond the arrival.
        return min(time_s + min(self._offsets_s), arrival_s), went_on


class PartClock:
    """Stamps of the pictures of an MJPEG stream.

    A camera that gives times (``X-Timestamp``) is believed once they have gone on as ours did for a
    second; until then, and of all others, a picture's arrival counts. A time that stands still or
    leaps ends that.
    """

    def __init__(self) -> None:
        self._arrivals = ArrivalClock()
        self._camera = CameraClock()
        self._since: tuple[float, float] | None = None  # (the camera's time, arrival)
        self._time_s = 0.0
        self._is_believed = False

    def stamp(self, part: Part) -> tuple[float, bool]:
        """Return the stamp of a picture, and whether the camera's clock went on since the last."""
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
            # One that counts in other units runs at another rate.
            self._is_believed = abs(part.time_s - self._since[0] - ours_s) < 0.1 * ours_s
            self._since = part.time_s, part.first_s
        return (by_camera_s if self._is_believed else by_arrival_s), True


class ArrivalClock:
    """Stamps of pictures that carry no time of their own: when their first bytes arrived.

    After a longer silence than usual that is too young: what comes then may have waited on its way,
    or in the camera, since it was due, and so may what comes right behind it. Such pictures are
    stamped as early as they can have been taken: rather too old is told than too young. A hold-up
    that lasts is taken for the way's usual time after ``WINDOW_S``.
    """

    def __init__(self) -> None:
        self._intervals_s: deque[float] = deque(maxlen=USUAL)
        self._last: tuple[float, float, float] | None = None  # first bytes, last bytes, stamp
        self._late_s = 0.0  # how late the pictures may be that come now
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
