"""Warnings that answers come from older features than a model was trained and calibrated for.

How far features may be carried is learned, so beyond it the accuracy is not known; it is no error.
"""

from __future__ import annotations

import logging

from dff_edge.bundle.reader import Bundle
from dff_edge.frames import Result
from dff_edge.names import Precision
from dff_edge.runtime.engines.backends import backend_of
from dff_edge.runtime.keys import KeyMode
from dff_edge.runtime.policy import KeyFramePolicy

_log = logging.getLogger("dff_edge.runtime")


class KnownDistances:
    """Compares the distances of a pipeline with those that its bundle is known for; warns once.

    Args:
        known: largest i - k that the model was trained and calibrated for, in frames; None where
            that is not known, and nothing is compared.
        stream: name of the stream, where there are several.
    """

    def __init__(self, known: int | None, stream: str | None = None) -> None:
        self.known = known
        self._prefix = "" if stream is None else f"{stream}: "
        self._is_told = known is None

    @classmethod
    def of(
        cls, bundle: Bundle, precision: Precision, engine: str, stream: str | None = None
    ) -> KnownDistances:
        """Return those of a bundle's precision."""
        return cls(bundle.manifest.known_distance(precision, backend_of(engine).flavour), stream)

    def expect(self, policy: KeyFramePolicy, keys: KeyMode) -> None:
        """Warn if a policy and a key mode exceed them by themselves, however fast the machine is.

        Args:
            policy: when key frames are taken; without a bound of its own it exceeds nothing.
            keys: when their features are used.
        """
        if policy.interval is not None:
            self._warn_beyond(policy.interval - 1 + (keys.lag or 0), f"with {policy}, {keys}")

    def add(self, result: Result) -> None:
        """Warn at the first result that exceeds them, because frames were dropped or keys late."""
        if not self._is_told:
            self._warn_beyond(result.key_distance, f"at frame {result.frame.index}")

    def _warn_beyond(self, distance: int, where: str) -> None:
        if self._is_told or self.known is None or distance <= self.known:
            return
        self._is_told = True
        _log.warning(
            "%sfeatures are up to %d frames old %s; this model was trained and calibrated for %d. "
            "Measure the accuracy there: dff-edge evaluate BUNDLE --max-interval %d",
            self._prefix,
            distance,
            where,
            self.known,
            distance + 1,
        )
