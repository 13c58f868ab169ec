"""A receiving thread that never decodes, so that no data waits in the connection unseen."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from typing import Generic, TypeVar

from dff_edge.lifetime import Worker

Item = TypeVar("Item")

_LOOK_S = 0.5  # `take` returns after this time without data


class Receiver(ABC, Generic[Item]):
    """Receives items in a thread of its own, and queues them for the thread that decodes.

    A subclass defines how to receive, and which items are dropped when too many are queued. It
    starts the thread by ``_start`` when it is complete.
    """

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._queue: deque[Item] = deque()
        self._failure: Exception | None = None
        self._is_stopped = False
        self._thread: Worker | None = None

    def take(self) -> Item | None:
        """Return the next item, waiting for it briefly; None when there was none.

        Raises:
            Exception: the one that ended the receiving, after all items before it have been taken.
        """
        with self._news:
            if not self._queue and self._failure is None:
                self._news.wait(_LOOK_S)
            if self._queue:
                return self._queue.popleft()
            if self._failure is not None:
                raise self._failure
            return None

    def stop(self) -> None:
        """Wait until the thread has ended; make it end soon before, where that is possible."""
        self._is_stopped = True
        if self._thread is not None:
            self._thread.join()

    @abstractmethod
    def _receive(self) -> Item | None:
        """Wait for the next item; None when there was none. Raise at the end."""

    @abstractmethod
    def _put(self, item: Item) -> None:
        """Append an item to ``_queue``, and drop surplus ones. ``_news`` is held."""

    def _start(self, name: str) -> None:
        self._thread = Worker(self._run, name)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._is_stopped:
                item = self._receive()
                if item is not None:
                    with self._news:
                        self._put(item)
                        self._news.notify()
        except Exception as error:  # raised where items are taken
            with self._news:
                self._failure = error.with_traceback(None)
                self._news.notify()
