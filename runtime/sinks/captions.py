"""The line that tells in a picture which frame it is and whose features answered it."""

from __future__ import annotations

from dff_edge.runtime.frames import Result


def caption_of(result: Result) -> str:
    """For example ``frame 12  key``, or ``frame 15  key -3``: answered from three frames before."""
    age = "" if result.is_key else f" -{result.distance}"
    return f"frame {result.frame.index}  key{age}"
