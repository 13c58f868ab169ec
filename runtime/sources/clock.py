"""When a network camera's picture was taken, told from its own time and its arrival."""

from __future__ import annotations

JUMP_S = 1.0  # of the camera's clock against ours, between two pictures: it was set
WINDOW_S = 5.0


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
        return time_s + min(self._offsets_s), went_on
