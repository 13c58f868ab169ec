"""Selection of key frames: which frames of a stream become one, for which reasons.

In this order: a frame that no older features reach (the first, after a gap, of another size), one
that was asked for, one at a cut that the policy sees, and one that the policy wants. The last may
be put off while the feature network computes another stream's.
"""

from __future__ import annotations

from collections import deque

from dff_edge.frames import Frame, Result
from dff_edge.runtime.key_turns import KeyTurn
from dff_edge.runtime.policy import (
    MEASURED_RESULTS,
    FrameContext,
    KeyFramePolicy,
    Measured,
)
from dff_edge.runtime.scheduler import Scheduler


class KeySelector:
    """Submits the frames of a stream to its scheduler, as key frames or not.

    Not thread-safe but for ``force``.

    Args:
        scheduler: where frames are computed.
        turn: at the feature network, among the pipelines that share it.

    Attributes:
        segment: of the latest frame.
    """

    def __init__(self, scheduler: Scheduler, turn: KeyTurn) -> None:
        self.segment = 0
        self._scheduler = scheduler
        self._turn = turn
        self._size: tuple[int, int] | None = None
        self._measured: deque[Measured] = deque(maxlen=MEASURED_RESULTS)
        self._is_key_wanted = False

    def force(self) -> None:
        """Make the next frame a key frame that waits for its own features; for any thread."""
        self._is_key_wanted = True

    def submit(self, frame: Frame, policy: KeyFramePolicy) -> None:
        """Decide whether a frame is a key frame, and start it.

        Args:
            frame: with a checked image.
            policy: when to take a key frame.

        Raises:
            PipelineError: as ``Scheduler.submit``. A key frame that was asked for is owed still.
        """
        size = (frame.image.shape[0], frame.image.shape[1])
        wanted, self._is_key_wanted = self._is_key_wanted, False
        try:
            wanted |= policy.is_cut(frame)
            is_cut = wanted or self._is_cut(frame, size)
            is_key = is_cut or self._is_key(frame, policy)
            if is_cut:
                self._turn.insist()
            self._scheduler.submit(frame, is_key=is_key, is_cut=is_cut)
        except BaseException:
            self._is_key_wanted |= wanted
            raise
        finally:
            self._turn.enqueued()
        self._size = size
        self.segment = frame.segment

    def add(self, result: Result) -> None:
        """Note a result that was handed out, for policies to see."""
        self._measured.append(Measured.of(result))

    def forget(self) -> None:
        """Forget the frames and results so far, for a new source."""
        self._size = None
        self.segment = 0
        self._measured.clear()

    def _is_cut(self, frame: Frame, size: tuple[int, int]) -> bool:
        """Return whether no older features can be propagated to a frame, as across a gap."""
        no_key = self._scheduler.key_index is None
        return no_key or size != self._size or frame.segment != self.segment

    def _is_key(self, frame: Frame, policy: KeyFramePolicy) -> bool:
        self._scheduler.take_up(frame.index)
        key_index = self._scheduler.key_index
        assert key_index is not None  # without one every frame is a cut
        if self._scheduler.is_key_pending:
            return False
        distance, lag = frame.index - key_index, self._scheduler.lag
        context = FrameContext(
            frame,
            distance=distance,
            distance_s=frame.stamp_s - self._scheduler.key_stamp_s,
            measured=tuple(self._measured),
            is_feature_idle=self._scheduler.is_feature_idle,
            keys=self._scheduler.keys,
            lag=lag,
            expected_disagreement=self._foretell(distance + lag),
        )
        if not policy.is_key(context):
            return False
        if self._may_be_put_off(frame, policy):
            return self._turn.ask()
        self._turn.insist()
        return True

    def _may_be_put_off(self, frame: Frame, policy: KeyFramePolicy) -> bool:
        """Whether a key frame may be a later one: where results depend on the machine anyway.

        Not in order where every frame is to be one, and none to be propagated.
        """
        lag = self._scheduler.keys.lag
        return lag is None or (lag == 0 and frame.live and policy.interval != 1)

    def _foretell(self, distance: int) -> float | None:
        """Return the disagreement to expect at a distance, by the latest propagated result."""
        staleness = self._scheduler.staleness
        if staleness is None:
            return None
        for result in reversed(self._measured):
            if result.distance and result.expected_disagreement is not None:
                return staleness.foretell(result.expected_disagreement, result.distance, distance)
        return None
