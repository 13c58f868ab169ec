"""How the work of a pipeline is shared out, and why: for its log and its user."""

from __future__ import annotations

from dataclasses import dataclass

from dff_edge.runtime.keys import IN_ORDER, KeyMode
from dff_edge.runtime.overlap import OverlapChoice
from dff_edge.runtime.sharing import ThreadShare


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the networks are scheduled.

    Attributes:
        overlap: whether those of several frames run side by side.
        keys: when the features of a new key frame are used.
        share: threads of the feature network where it runs in the background on the CPU.
    """

    overlap: OverlapChoice
    keys: KeyMode = IN_ORDER
    share: ThreadShare | None = None

    def __str__(self) -> str:
        parts = [str(self.overlap)]
        if not self.keys.is_in_order:
            parts.append(f"keys {self.keys}")
        if self.share is not None:
            parts.append(str(self.share))
        return "; ".join(parts)
