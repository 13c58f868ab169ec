"""Key-frame policies: which frames become key frames, line 6 of Algorithm 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from dff_edge.errors import ConfigError
from dff_edge.frames import Frame, Result

MEASURED_RESULTS = 8  # number of results that a policy gets


@dataclass(frozen=True, slots=True)
class Measured:
    """Times of an earlier result, as ``Result`` has them, without its images.

    Attributes:
        index: number of its frame.
        key_index: number of its key frame.
        latency_s: seconds from ``submit`` to the result.
        age_s: seconds from capture to the result; None where the frame was not live.
        stage_ms: milliseconds of each stage that ran, by its name.
    """

    index: int
    key_index: int
    latency_s: float
    age_s: float | None
    stage_ms: Mapping[str, float]

    @classmethod
    def of(cls, result: Result) -> Measured:
        """Return the times of a result."""
        return cls(
            result.frame.index, result.key_index, result.latency_s, result.age_s, result.stage_ms
        )


@dataclass(frozen=True, slots=True)
class FrameContext:
    """Everything known of a frame before it is computed.

    Attributes:
        frame: the frame, its image checked.
        distance: captured frames since the key frame, i - k, at least 1.
        distance_s: seconds between the captures of the two, by their stamps.
        measured: the latest results since the source began, the newest last; at most
            ``MEASURED_RESULTS``.
        is_feature_idle: whether the features of the latest key frame are computed, so that those
            of another would begin at once.
    """

    frame: Frame
    distance: int
    distance_s: float
    measured: tuple[Measured, ...]
    is_feature_idle: bool


class KeyFramePolicy(Protocol):
    """Chooses key frames. Subclass it for a policy of your own.

    One object serves one pipeline; it is called for the frames in their order.
    """

    @property
    def interval(self) -> int | None:
        """Maximum of captured frames from one key frame to the next; None without a bound."""
        return None

    def is_key(self, context: FrameContext) -> bool:
        """Return whether a frame becomes a key frame.

        Frames without a key frame to propagate from, the first and those after a gap, become
        key frames without this being called.
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

    @classmethod
    def parse(cls, value: str) -> FixedInterval:
        """Return the policy of an l in decimal digits.

        Raises:
            ValueError: for anything else.
        """
        if not (value.isascii() and value.isdecimal() and len(value) < 10):
            raise ValueError(value)
        return cls(int(value))

    def is_key(self, context: FrameContext) -> bool:
        return context.distance >= self.interval

    def __str__(self) -> str:
        return f"fixed:{self.interval}"


class PolicyForm(NamedTuple):
    """Syntax of a policy.

    Attributes:
        expected: the form in words, for error messages.
        parse: makes a policy of the text after the colon; raises ValueError where it cannot.
    """

    expected: str
    parse: Callable[[str], KeyFramePolicy]


POLICIES: dict[str, PolicyForm] = {
    "fixed": PolicyForm("fixed:l with a whole number l, as in fixed:10", FixedInterval.parse),
}


def parse_policy(text: str) -> KeyFramePolicy:
    """Return a policy by its name in ``POLICIES``, such as ``fixed:10``.

    Raises:
        ConfigError: for another name, or values that the policy does not accept.
    """
    kind, _, value = text.partition(":")
    try:
        return POLICIES[kind].parse(value)
    except (KeyError, ValueError) as error:
        expected = ", or ".join(form.expected for form in POLICIES.values())
        raise ConfigError(f"key-frame policy is '{text}', expected {expected}.") from error
