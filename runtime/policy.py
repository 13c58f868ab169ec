"""Key-frame policies: which frames become key frames, line 6 of Algorithm 1."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from dff_edge.errors import ConfigError
from dff_edge.frames import Frame, Result
from dff_edge.runtime.cuts import CutDetector
from dff_edge.runtime.keys import IN_ORDER, KeyMode

if TYPE_CHECKING:
    from typing_extensions import Self  # of typing since Python 3.11

MEASURED_RESULTS = 8  # number of results that a policy gets
_MOST_DISTANCE = 1000


@dataclass(frozen=True, slots=True)
class Measured:
    """Times of an earlier result, as ``Result`` has them, without its images.

    Attributes:
        index: number of its frame.
        key_index: number of its key frame.
        latency_s: seconds from ``submit`` to the result.
        age_s: seconds from capture to the result; None where the frame was not live.
        stage_ms: milliseconds of each stage that ran, by its name.
        expected_disagreement: how stale its answer is expected to be, 0..1; None where the bundle
            has no model of it.
    """

    index: int
    key_index: int
    latency_s: float
    age_s: float | None
    stage_ms: Mapping[str, float]
    expected_disagreement: float | None = None

    @classmethod
    def of(cls, result: Result) -> Measured:
        """Return what was measured of a result."""
        return cls(
            result.frame.index,
            result.key_index,
            result.latency_s,
            result.age_s,
            result.stage_ms,
            result.expected_disagreement,
        )

    @property
    def distance(self) -> int:
        """Captured frames between its frame and its key frame."""
        return self.index - self.key_index


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
            of another would begin at once; with key frames after a lag, whether the lag is over,
            which does not depend on the machine.
        keys: when the features of a new key frame are used.
        lag: frames by which those of a key frame begun now will be late: 0 in order, n after a lag
            of n, and in the background what the latest ones took.
        expected_disagreement: how stale, 0..1, the last answer would be from the features in use,
            if this frame became a key frame: that of the frame itself in order, of the one ``lag``
            frames later elsewhere. Foretold from the latest propagated result; None without one,
            or where the bundle has no model of it.
    """

    frame: Frame
    distance: int
    distance_s: float
    measured: tuple[Measured, ...]
    is_feature_idle: bool
    keys: KeyMode = IN_ORDER
    lag: int = 0
    expected_disagreement: float | None = None


class KeyFramePolicy(Protocol):
    """Chooses key frames. Subclass it for a policy of your own.

    One object serves one pipeline; it is called for the frames in their order.
    """

    @property
    def interval(self) -> int | None:
        """Maximum of captured frames from one key frame to the next; None without a bound."""
        return None

    def is_cut(self, frame: Frame) -> bool:
        """Return whether a frame shows another scene than the frame before it.

        Asked of every frame, in their order, before ``is_key``. At a cut a frame waits for its own
        features, as the first one does: nothing is propagated into it.
        """
        return False

    def is_key(self, context: FrameContext) -> bool:
        """Return whether a frame becomes a key frame.

        Frames that have no key frame to be propagated from, the first and those after a gap, are
        key frames without this being called, and while a key frame is pending no other is. With
        ``Pipelines`` a key frame may be put off while another stream's is computed; then this is
        called again for the next frame.
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
    def parse(cls, value: str | None) -> FixedInterval:
        """Return the policy of an l in decimal digits.

        Raises:
            ValueError: for anything else.
        """
        if not (value and value.isascii() and value.isdecimal() and len(value) < 10):
            raise ValueError(value)
        return cls(int(value))

    def is_cut(self, frame: Frame) -> bool:
        return False

    def is_key(self, context: FrameContext) -> bool:
        return context.distance >= self.interval

    def __str__(self) -> str:
        return f"fixed:{self.interval}"


@dataclass(frozen=True, slots=True)
class AsSoonAsIdle(KeyFramePolicy):
    """A key frame whenever the one before is done: features as fresh as the machine can have them.

    Of key frames in the background; in order it would make nearly every frame a key frame.
    """

    @classmethod
    def parse(cls, value: str | None) -> AsSoonAsIdle:
        """Return the policy, which takes no value.

        Raises:
            ValueError: for one.
        """
        if value is not None:
            raise ValueError(value)
        return cls()

    def is_key(self, context: FrameContext) -> bool:
        return context.is_feature_idle

    def __str__(self) -> str:
        return "idle"


class ForetoldPolicy(KeyFramePolicy):
    """Key frames by how stale answers would become, and at a cut of the scene.

    Args:
        limit: of what ``is_due`` looks at.
        least, most: bounds of the frames from one key frame to the next, whatever is expected; at
            a cut there is none.

    Raises:
        ConfigError: a bound is out of range.
    """

    name: ClassVar[str]

    def __init__(self, limit: float, least: int = 2, most: int = 30) -> None:
        if not 1 <= least <= most <= _MOST_DISTANCE:
            raise ConfigError(
                f"bounds of {self.name} key frames are {least}..{most}, expected frames from 1 to "
                f"{_MOST_DISTANCE}, the smaller bound first, as in {self.name}:{limit:g},2..30."
            )
        self.limit, self.least, self.most = limit, least, most
        self._cuts = CutDetector()

    @classmethod
    def parse(cls, value: str | None) -> Self:
        """Return the policy of ``limit`` or ``limit,least..most``.

        Raises:
            ValueError: for anything else.
            ConfigError: for values out of range.
        """
        found = re.fullmatch(r"(\d{0,9}\.?\d{1,9})(?:,(\d{1,9})\.\.(\d{1,9}))?", value or "", re.A)
        if found is None:
            raise ValueError(value)
        if found[2] is None:
            return cls(float(found[1]))
        return cls(float(found[1]), int(found[2]), int(found[3]))

    @property
    def interval(self) -> int:
        return self.most

    def is_cut(self, frame: Frame) -> bool:
        return self._cuts.is_cut(frame)

    def is_key(self, context: FrameContext) -> bool:
        if not (context.keys.is_in_order or context.is_feature_idle):
            return False  # features begun now would wait for those at work
        is_due = self.is_due(context)
        if context.distance < self.least:
            return False
        return is_due or context.distance + context.lag >= self.most

    @abstractmethod
    def is_due(self, context: FrameContext) -> bool:
        """Return whether what is foretold asks for a key frame; called once for each frame."""

    def __str__(self) -> str:
        return f"{self.name}:{self.limit:g},{self.least}..{self.most}"


class Adaptive(ForetoldPolicy):
    """A key frame where answers would become too stale: it bounds how bad the worst are.

    Args:
        threshold: largest expected disagreement of an answer, above 0 and below 1.
        least, most: see ``ForetoldPolicy``.

    Raises:
        ConfigError: one of them is out of range.
    """

    name = "adaptive"

    def __init__(self, threshold: float, least: int = 2, most: int = 30) -> None:
        if not 0 < threshold < 1:
            raise ConfigError(
                f"threshold of adaptive key frames is {threshold}, expected the largest share of "
                "an answer that may be stale, above 0 and below 1, as in adaptive:0.05."
            )
        super().__init__(threshold, least, most)

    def is_due(self, context: FrameContext) -> bool:
        expected = context.expected_disagreement
        return expected is not None and expected > self.limit


class Saving(ForetoldPolicy):
    """A key frame where it saves enough: the best mean of all answers for so many key frames.

    Features that serve t frames with a mean disagreement of m cost ``m + answers / t`` a frame,
    where a key frame costs as much as ``answers`` that are all wrong. That is least when the next
    frame's disagreement d passes it, ``t * (d - m) > answers``: the marginal value theorem. So
    answers may become staler in fast motion than in slow. Where they are uncertain from the first
    frame after a key frame on, it is that which the next one has to be worth, once.

    Args:
        answers: what a key frame has to save, in answers that are all wrong, above 0.
        least, most: see ``ForetoldPolicy``.

    Raises:
        ConfigError: one of them is out of range.

    Reference:
        Charnov, Optimal foraging, the marginal value theorem, Theoretical Population Biology 1976.
    """

    name = "saving"

    def __init__(self, answers: float, least: int = 2, most: int = 30) -> None:
        if not 0 < answers <= _MOST_DISTANCE:
            raise ConfigError(
                f"what a key frame has to save is {answers}, expected a number of wholly wrong "
                f"answers above 0, at most {_MOST_DISTANCE}, as in saving:0.3."
            )
        super().__init__(answers, least, most)
        self._asked = -1
        self._forget(-1)

    def _forget(self, key: int) -> None:
        self._key, self._total, self._count = key, 0.0, 0
        self._newest, self._latest = -1, 0.0

    def is_due(self, context: FrameContext) -> bool:
        index, expected = context.frame.index, context.expected_disagreement
        if index - context.distance != self._key or index <= self._asked:  # or another source
            self._forget(index - context.distance)
        self._asked = index
        for own in context.measured:
            told = own.expected_disagreement
            if own.key_index == self._key and own.index > self._newest and told is not None:
                self._newest, self._latest = own.index, told
                self._total += told
                self._count += 1
        if not self._count or expected is None:
            return False
        # Frames in flight, and those until the features come: between the latest and the next.
        unseen = (context.distance - self._count) * (self._latest + expected) / 2
        return context.distance * expected - self._total - unseen > self.limit


class PolicyForm(NamedTuple):
    """Syntax of a policy.

    Attributes:
        expected: the form in words, for error messages.
        parse: makes a policy of the text behind the colon, None where there is no colon; raises
            ValueError where it cannot.
    """

    expected: str
    parse: Callable[[str | None], KeyFramePolicy]


POLICIES: dict[str, PolicyForm] = {
    "fixed": PolicyForm("fixed:l with a whole number l, as in fixed:10", FixedInterval.parse),
    "idle": PolicyForm("idle", AsSoonAsIdle.parse),
    "adaptive": PolicyForm(
        "adaptive:share with the largest share of an answer that may be stale, as in adaptive:0.05 "
        "or, with bounds of the distance, adaptive:0.05,2..30",
        Adaptive.parse,
    ),
    "saving": PolicyForm(
        "saving:answers with the wholly wrong answers that a key frame has to save, as in "
        "saving:0.3 or, with bounds of the distance, saving:0.3,2..30",
        Saving.parse,
    ),
}


def parse_policy(text: str) -> KeyFramePolicy:
    """Return a policy by its name in ``POLICIES``, such as ``fixed:10`` or ``idle``.

    Raises:
        ConfigError: for another name, or values that the policy does not accept.
    """
    kind, colon, value = text.partition(":")
    try:
        return POLICIES[kind].parse(value if colon else None)
    except ConfigError:  # which says more
        raise
    except (KeyError, ValueError) as error:
        expected = ", or ".join(form.expected for form in POLICIES.values())
        raise ConfigError(f"key-frame policy is '{text}', expected {expected}.") from error
