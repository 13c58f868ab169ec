"""Cameras that a test operates by hand."""

import queue
import threading
import time

import numpy as np

from dff_edge.errors import SourceError
from dff_edge.runtime.sources.camera import Patience
from dff_edge.runtime.sources.capture import Shot

LONG_S = 30.0  # never reached when the code is right
CALM = Patience(gap_s=LONG_S, lost_s=LONG_S, connect_s=LONG_S, first_retry_s=0.001, join_s=LONG_S)


class FakeCapture:
    """Gives what the test puts in; ``read`` blocks until then."""

    fps = None
    size = None

    def __init__(self):
        self.inbox = queue.Queue()
        self.reads = threading.Semaphore(0)
        self.released_by = []

    def read(self):
        self.reads.release()  # the result of the read before has been taken care of
        item = self.inbox.get(timeout=LONG_S)
        if isinstance(item, Exception):
            raise item
        if item is None or isinstance(item, Shot | str):
            return item
        return Shot(item, time.monotonic())

    def release(self):
        self.released_by.append(threading.current_thread().name)

    def give(self, *items):
        """Hand over items and wait until the reader comes back for more after the last."""
        for item in items:
            assert self.reads.acquire(timeout=LONG_S)
            self.inbox.put(item)
        assert self.reads.acquire(timeout=LONG_S)
        self.reads.release()


class Cameras:
    """Connects to the captures that the test lays out, in order; an exception is a failure."""

    def __init__(self, *captures):
        self.waiting = list(captures)
        self.tries = 0

    def __call__(self):
        self.tries += 1
        item = self.waiting.pop(0) if self.waiting else SourceError("unplugged")
        if isinstance(item, Exception):
            raise item
        return item


def picture(number, shape=(4, 6, 3)):
    return np.full(shape, number, np.uint8)


def eventually(condition):
    end_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.001)
    return True


class Mortal:
    """Gives some frames, one at a time that ``live`` makes pass, and dies."""

    fps = None
    size = None

    def __init__(self, frames=1, live=lambda: None):
        self.left = frames
        self.live = live

    def read(self):
        self.left -= 1
        if self.left < 0:
            raise SourceError("dead again")
        self.live()
        return Shot(picture(1), time.monotonic())

    def release(self):
        pass
