"""A machine whose networks take a made-up time, by a clock that only they and a camera move.

The engines, the scheduler and its threads are real; so is what they compute.
"""

from __future__ import annotations

import math
import threading

from dff_edge.frames import Frame

WAIT_S = 5  # of a wait that ends at once when the code is right


class VirtualClock:
    """Stands in for the module ``time``: its clocks return virtual seconds."""

    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        return self.now_s

    perf_counter = monotonic


class VirtualMachine:
    """Gives the networks of a pipeline made-up times, in seconds of a virtual clock.

    Args:
        pipeline: of depth 1.
        feature_s, flow_s, task_s: times of its networks. In the background the features of a key
            frame are there ``feature_s`` after it was read from the camera.
    """

    def __init__(self, pipeline, clock, monkeypatch, *, feature_s, flow_s, task_s):
        self.pipeline, self.clock = pipeline, clock
        self.is_background = not pipeline.keys.is_in_order
        self.is_waited_for, self.is_played = True, False
        self._released = None
        self.feature_s = feature_s
        self.read_s = 0.0  # when the latest frame was read
        self.due_s = math.inf  # when the features that are computed will be there
        self._go_on = threading.Event()
        self._begun = threading.Event()
        subnets = pipeline._opened.subnets
        for engine, seconds in ((subnets.flow, flow_s), (subnets.task, task_s)):
            monkeypatch.setattr(engine, "run", self._timed(engine.run, seconds))
        monkeypatch.setattr(subnets.feature, "run", self._feature(subnets.feature.run))
        enqueuer = pipeline._scheduler._enqueuer
        monkeypatch.setattr(enqueuer, "extract", self._noted(enqueuer.extract))

    def _timed(self, compute, seconds):
        def run(inputs, outputs):
            compute(inputs, outputs)
            self.clock.now_s += seconds

        return run

    def _noted(self, extract):
        def run(frame, key, stages):
            self.is_waited_for = stages is not key
            extract(frame, key, stages)

        return run

    def _feature(self, compute):
        def run(inputs, outputs):
            if self.is_waited_for or not self.is_played:  # by the frame itself, or not timed
                compute(inputs, outputs)
                self.clock.now_s += self.feature_s
                return
            self._begun.set()
            assert self._go_on.wait(WAIT_S)
            self._go_on.clear()
            compute(inputs, outputs)

        return run

    def look(self):
        """Let the features be there that are due by now, and note those that were begun."""
        pending = self.pipeline._scheduler._pending
        if not self.is_background or pending is None or pending is self._released:
            return
        if self.due_s == math.inf:
            assert self._begun.wait(WAIT_S)
            self._begun.clear()
            self.due_s = self.read_s + self.feature_s
        if self.due_s <= self.clock.now_s + 1e-9:
            self._go_on.set()
            pending.ready.synchronize()
            self.due_s, self._released = math.inf, pending  # two of them take turns

    def begin(self):
        """Take the times from the clock from now on."""
        self._begun.clear()
        self._go_on.clear()
        self.due_s, self._released, self.is_played = math.inf, None, True

    def end(self):
        """Let a feature network go that waits."""
        self.is_played = False
        self._go_on.set()


class VirtualCamera:
    """The frames of images at a rate, the newest first, by the virtual clock."""

    live = True

    def __init__(self, machine, images, *, rate, count=None):
        self._machine, self._images = machine, images
        self._rate, self._count = rate, count
        machine.begin()
        self._begin_s = machine.clock.now_s
        self._read = -1

    def __iter__(self):
        return self

    def __next__(self):
        machine, clock = self._machine, self._machine.clock
        machine.look()  # what the frame before began
        newest = math.floor((clock.now_s - self._begin_s) * self._rate + 1e-9)
        newest = newest if self._count is None else min(newest, self._count - 1)
        if newest <= self._read:
            newest = self._read + 1
            if newest == self._count:
                raise StopIteration
            clock.now_s = self._begin_s + newest / self._rate
        machine.look()
        machine.read_s = clock.now_s
        self._read = newest
        stamp_s = self._begin_s + newest / self._rate
        image = self._images[newest % len(self._images)]
        return Frame(image, newest, stamp_s, live=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._machine.end()


def quick(monkeypatch, clock):
    """Have the pipeline read the virtual clock."""
    for module in ("runtime.slots", "runtime.pipeline", "plan.timing"):
        monkeypatch.setattr(f"dff_edge.{module}.time", clock)
