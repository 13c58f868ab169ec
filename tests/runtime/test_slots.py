"""Stage times of a frame in flight."""

from types import SimpleNamespace

import numpy as np
import pytest

from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.slots import Origin, Slot
from tests.runtime.test_scheduler import frame_of, make_subnets


class CoarseEvent:
    """Tells times as CUDA does, as float32 milliseconds."""

    def __init__(self, at_ms):
        self.at_ms = at_ms

    def elapsed_ms_since(self, start):
        return float(np.float32(self.at_ms - start.at_ms))


def test_spans_of_a_long_trace_keep_their_lengths():
    hour_ms = 3_600_000.0
    events = iter([CoarseEvent(hour_ms + 0.1), CoarseEvent(hour_ms + 0.15)])
    stream = SimpleNamespace(name="task", event=lambda: next(events), record=lambda event: None)
    slot = Slot(CpuDevice(), make_subnets())
    slot.start(frame_of(50, 0))
    with slot.stage("task", stream):
        pass
    (span,) = slot.spans({CoarseEvent: Origin(CoarseEvent(0.0), 7.0)}, begin_s=5.0)
    assert span.start_ms == pytest.approx(2000 + hour_ms, abs=0.25)
    assert span.end_ms - span.start_ms == pytest.approx(0.05, abs=1e-6)
