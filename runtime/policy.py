"""When to take a new key frame: line 6 of Algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dff_edge.errors import ConfigError


class KeyFramePolicy(Protocol):
    """Decides from what is known of a frame before it is computed."""

    def is_key(self, distance: int) -> bool:
        """Whether a frame becomes a key frame.

        Args:
            distance: captured frames since the key frame, i - k, at least 1. Frames that have no
                key frame to be answered from are key frames without being asked about, and while
                a key frame is computed in the background no other is.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedInterval:
    """A key frame in every l captured frames (section 3, "Key Frame Scheduling").

    Attributes:
        interval: l, at least 1; 1 makes every frame a key frame.
    """

    interval: int

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ConfigError(f"key interval is {self.interval}, expected 1 or more.")

    def is_key(self, distance: int) -> bool:
        return distance >= self.interval

    def __str__(self) -> str:
        return f"fixed:{self.interval}"


@dataclass(frozen=True, slots=True)
class AsSoonAsIdle:
    """A key frame whenever the one before is done: features as fresh as the machine can have them.

    Of key frames in the background; in order it would make every frame a key frame.
    """

    def is_key(self, distance: int) -> bool:
        return True

    def __str__(self) -> str:
        return "idle"


def parse_policy(text: str) -> KeyFramePolicy:
    """A policy by name: ``fixed:l``, or ``idle``.

    Raises:
        ConfigError: for another name, or an l that is not a whole number of 1 or more.
    """
    if text == str(AsSoonAsIdle()):
        return AsSoonAsIdle()
    kind, _, value = text.partition(":")
    if kind != "fixed" or not (value.isdecimal() and len(value) < 10):
        raise ConfigError(
            f"key-frame policy is '{text}', expected idle, or fixed:l with a whole number l, as in "
            "fixed:10."
        )
    return FixedInterval(int(value))
