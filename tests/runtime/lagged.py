"""Key frames that are used exactly n frames later, written out without scheduler or streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Shot(NamedTuple):
    """A frame: its number, the value of its picture, and whether it begins a new segment."""

    index: int
    value: int
    is_cut: bool


def lagged(
    shots: Sequence[Shot],
    lag: int,
    wants_key: Callable[[int], bool],
    extract: Callable[[int], Any],
    answer: Callable[[Any, int, int], Any],
) -> list[tuple[int, Any]]:
    """Return the key frame and the answer of each frame.

    ``wants_key`` is asked with the distance, ``answer`` gets features, and the values of the key
    frame and of the frame.
    """
    results = []
    key: Shot | None = None
    pending: Shot | None = None
    for shot in shots:
        if pending is not None and shot.index >= pending.index + lag:
            key, pending = pending, None
        if key is None or shot.is_cut:
            key, pending = shot, None
        elif pending is None and wants_key(shot.index - key.index):
            pending = shot
            if lag == 0:
                key, pending = pending, None
        results.append((key.index, answer(extract(key.value), key.value, shot.value)))
    return results
