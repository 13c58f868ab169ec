"""One source on the page: its numbers, and its newest result as a picture."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence

from aiohttp import web

from dff_edge.frames import Result
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.sinks import FanOut, Style
from dff_edge.runtime.sources import Source
from dff_edge.serve.numbers import RunNumbers, RunState
from dff_edge.serve.pictures import draw_jpeg

PICTURES_PER_S = 10
NUMBERS_S = 0.2  # numbers are gathered at most so often, for all clients
REPEAT_S = 5.0  # the same picture is sent again, where none is new, to show that the run is alive
STALL_S = 10.0  # a client that leaves data unread for so long is dropped

BOUNDARY = "dff-edge-the-next-picture"  # so long that no picture holds it
_PART_START = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()


class Channel:
    """The numbers and pictures of one source.

    ``begin``, ``show`` and ``finish`` are for the thread that runs the source, and wait for
    nothing; the other methods run in the server's thread.

    Args:
        uri: the source, as its user wrote it, without credentials.
        classes: names of the classes, by index.
        colours: ``(red, green, blue)`` of the classes, by index.
        style: which parts of results are drawn, and how.
        policy, keys: key-frame policy and key mode of the run.

    Attributes:
        finished_s: ``time.monotonic()`` when the run was over; None while it is not.
        viewers: number of open streams.
    """

    def __init__(
        self,
        uri: str,
        classes: Sequence[str],
        colours: Colours,
        style: Style,
        *,
        policy: str,
        keys: str,
    ) -> None:
        self.finished_s: float | None = None
        self.viewers = 0
        self._numbers = RunNumbers(uri, classes, colours, policy=policy, keys=keys)
        self._how_to_draw = (classes, colours, style)
        self._newest: Result | None = None
        self._drawn: Result | None = None
        self._drawn_s = float("-inf")
        self._picture = b""
        self._picture_number = 0
        self._numbers_text = ""
        self._numbers_s = float("-inf")
        self._has_viewers = asyncio.Event()
        self._next_picture = asyncio.Event()

    def begin(self, source: Source, sinks: FanOut) -> None:
        """Show the state and counts of the source, and the losses of the sinks, from now on."""
        self._numbers.begin(source, sinks)

    def show(self, result: Result) -> None:
        """Publish the newest result; its arrays must not change any more."""
        self._newest = result
        self._numbers.add(result)

    def finish(self, state: RunState, reason: str | None = None) -> None:
        """Report to the viewers that the run is over, and how it ended."""
        self._numbers.finish(state, reason)
        self.finished_s = time.monotonic()

    def numbers_text(self) -> str:
        """Return the numbers as JSON, gathered at most once in ``NUMBERS_S``."""
        now_s = time.monotonic()
        if now_s - self._numbers_s >= NUMBERS_S or self.finished_s is not None:
            self._numbers_text = json.dumps(self._numbers.as_dict(), allow_nan=False)
            self._numbers_s = now_s
        return self._numbers_text

    def picture(self) -> bytes:
        """Return the newest result as a JPEG, drawn anew ``PICTURES_PER_S`` times a second at most.

        Empty when there is none yet.
        """
        if not self._picture or time.monotonic() - self._drawn_s >= 1 / PICTURES_PER_S:
            self._draw_newest()
        return self._picture

    async def draw(self) -> None:
        """Draw each newest result while there are viewers; never returns."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_viewers.wait()
            start_s = loop.time()
            self._draw_newest()
            took_s = loop.time() - start_s
            # At least half of the time is for everything else, however long a picture takes.
            await asyncio.sleep(max(took_s, 1 / PICTURES_PER_S - took_s))

    def _draw_newest(self) -> None:
        result = self._newest
        if result is not None and result is not self._drawn:
            self._drawn = result
            self._picture = draw_jpeg(result, *self._how_to_draw)
            self._drawn_s = time.monotonic()
            self._picture_number += 1
            self._next_picture.set()
            self._next_picture = asyncio.Event()

    async def send_pictures(self, response: web.StreamResponse, stop: asyncio.Event) -> None:
        """Send each new picture to a viewer until ``stop``.

        Raises:
            asyncio.TimeoutError: it does not read.
            ConnectionError: it has gone.
        """
        self.viewers += 1
        self._has_viewers.set()
        try:
            await response.write(_PART_START)
            seen = 0
            # Checked each time: before Python 3.12, wait_for swallows a cancel that comes when its
            # awaitable is done.
            while not stop.is_set():
                if not self._picture or seen == self._picture_number:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._next_picture.wait(), REPEAT_S)
                if not self._picture:
                    continue
                seen = self._picture_number
                # The start of the next part goes at once: Chromium shows a picture when it sees it.
                part = b"".join((self._picture, b"\r\n", _PART_START))
                await asyncio.wait_for(response.write(part), STALL_S)
        finally:
            self.viewers -= 1
            if not self.viewers:
                self._has_viewers.clear()
                self._picture, self._drawn = b"", None  # outdated when the next viewer comes
