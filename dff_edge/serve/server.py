"""The web server of a run's page, in a thread of its own.

It never slows the run: the run passes references, and pictures are drawn only while there are
viewers, at most ``PICTURES_PER_S``, once for all. A viewer that reads too slowly skips pictures.
Everything that a stranger can make grow or last is bounded: see ``Doorkeeper`` for connections,
``MAX_VIEWERS`` for streams.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ipaddress
import json
import logging
import queue
import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType

from aiohttp import web
from aiohttp.http import HttpProcessingError

from dff_edge.frames import Result
from dff_edge.lifetime import Closing, Worker, bind, inner_of
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.sinks import FanOut, Style
from dff_edge.runtime.sources import Source
from dff_edge.serve.address import Address, is_own_host, own_names
from dff_edge.serve.doorkeeper import Doorkeeper
from dff_edge.serve.numbers import RunNumbers, RunState
from dff_edge.serve.pictures import draw_jpeg

PICTURES_PER_S = 10
MAX_VIEWERS = 8
MAX_CONNECTIONS = 64
STALL_S = 10.0  # a client that leaves data unread for so long is dropped
REPEAT_S = 5.0  # the same picture is sent again, where none is new, to show that the run is alive
NUMBERS_S = 0.2  # numbers are gathered at most so often, for all clients
IDLE_S = 15.0  # a connection without requests for so long is closed
LINGER_S = 2.0  # data after an answered request is read and dropped for so long
FAREWELL_S = 2.5  # pages poll every second: the end of the run is served for so long

_BOUNDARY = "dff-edge-the-next-picture"  # so long that no picture holds it
_PART_START = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
_VIEWER = re.compile(r"[A-Za-z0-9-]{1,40}")
_LOG = logging.getLogger("dff_edge.serve")
_HTTP_LOG = logging.getLogger("dff_edge.serve.http")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server(Closing):
    """Serves one run.

    ``show``, ``finish`` and ``close`` are for one thread, and do not wait for the network.

    Args:
        address: where to serve; not reachable from outside unless it says so.
        listener: its open port, which is closed with the server.
        source: the source whose state and counts are shown.
        sinks: the sinks whose losses are shown.
        classes: names of the classes, by index.
        colours: ``(red, green, blue)`` of the classes, by index.
        style: which parts of results are drawn, and how.
        policy, keys: key-frame policy and key mode of the run, to be shown.

    Attributes:
        address: the address, with the actual port for port 0.
        is_open_to_others: whether other machines reach it.
    """

    def __init__(
        self,
        address: Address,
        listener: socket.socket,
        *,
        source: Source,
        sinks: FanOut,
        classes: Sequence[str],
        colours: Colours,
        style: Style,
        policy: str,
        keys: str,
    ) -> None:
        self._numbers = RunNumbers(source, sinks, classes, colours, policy=policy, keys=keys)
        self._how_to_draw = (classes, colours, style)
        self._newest: Result | None = None
        self._drawn: Result | None = None
        self._picture = b""
        self._picture_number = 0
        self._viewers: dict[asyncio.Task[object], str | None] = {}  # with their names
        self._numbers_text = ""
        self._numbers_s = float("-inf")
        self._asked_s = float("-inf")
        self._finished_s: float | None = None

        self._socket = listener
        self._ip, port = self._socket.getsockname()[:2]
        self.address = Address(address.host, port)
        self.is_open_to_others = not ipaddress.ip_address(self._ip).is_loopback
        self._names = own_names(address, on_loopback=not self.is_open_to_others)
        self._page, self._policy = _read_page()

        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._has_viewers = asyncio.Event()
        self._next_picture = asyncio.Event()
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        inner = inner_of(self)
        self._thread = Worker(inner._run, "dff-serve")
        bind(self, dropped=inner.close)
        self._thread.start()

    @property
    def url(self) -> str:
        """URL for a browser."""
        if ipaddress.ip_address(self._ip).is_unspecified:
            return f"http://{socket.gethostname()}:{self.address.port}/"
        return f"http://{self.address}/"

    def show(self, result: Result) -> None:
        """Publish the newest result; its arrays must not change any more."""
        self._newest = result
        self._numbers.add(result)

    def finish(self, state: RunState, reason: str | None = None) -> None:
        """Report to the viewers that the run is over, and how it ended."""
        self._numbers.finish(state, reason)
        self._finished_s = time.monotonic()

    def close(self) -> None:
        """End the server and its thread.

        Waits up to ``FAREWELL_S`` after ``finish``, if a page is open, so that it can show the
        end. Safe to call twice.
        """
        if self._finished_s is not None and self._finished_s - self._asked_s < FAREWELL_S:
            rest_s = self._finished_s + FAREWELL_S - time.monotonic()
            with contextlib.suppress(queue.Empty):
                self._ended.get(timeout=max(0.0, rest_s))
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._finished_s is None:
            self.finish("failed", str(error) or type(error).__name__)
        self.close()

    # The methods below run in the server's thread.

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except Exception:
            _LOG.exception("the page at %s is gone, the run goes on", self.address)
        finally:
            self._socket.close()
            self._loop.close()
            self._ended.put(None)

    async def _serve(self) -> None:
        app = web.Application(middlewares=[self._check_request])
        app.on_response_prepare.append(self._add_headers)
        app.router.add_get("/", self._get_page, allow_head=False)
        app.router.add_get("/stats.json", self._get_numbers, allow_head=False)
        app.router.add_get("/stream.mjpg", self._get_stream, allow_head=False)
        runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            logger=_HTTP_LOG,
            shutdown_timeout=0.5,
        )
        await runner.setup()
        assert runner.server is not None
        doorkeeper = Doorkeeper(runner.server, MAX_CONNECTIONS, STALL_S)
        listener = await self._loop.create_server(doorkeeper.admit, sock=self._socket)
        artist = asyncio.create_task(self._draw())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((artist, stop), return_when=asyncio.FIRST_COMPLETED)
            if artist.done():
                await artist  # raises: it never returns otherwise
        finally:
            listener.close()
            tasks = [artist, stop, *self._viewers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()

    async def _draw(self) -> None:
        while True:
            await self._has_viewers.wait()
            start_s = self._loop.time()
            result = self._newest
            if result is not None and result is not self._drawn:
                self._drawn = result
                self._picture = draw_jpeg(result, *self._how_to_draw)
                self._picture_number += 1
                self._next_picture.set()
                self._next_picture = asyncio.Event()
            took_s = self._loop.time() - start_s
            # At least half of the time is for everything else, however long a picture takes.
            await asyncio.sleep(max(took_s, 1 / PICTURES_PER_S - took_s))

    async def _get_page(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=self._page, content_type="text/html")

    async def _get_numbers(self, request: web.Request) -> web.StreamResponse:
        now_s = self._asked_s = time.monotonic()
        if now_s - self._numbers_s >= NUMBERS_S or self._finished_s is not None:
            self._numbers_text = json.dumps(self._numbers.as_dict(), allow_nan=False)[:-1]
            self._numbers_s = now_s
        viewer = request.query.get("viewer")
        of_viewer = {
            "viewers": len(self._viewers),
            "most_viewers": MAX_VIEWERS,
            "watching": viewer is not None and viewer in self._viewers.values(),
        }
        text = f"{self._numbers_text}, {json.dumps(of_viewer)[1:]}"
        return web.Response(text=text, content_type="application/json")

    async def _get_stream(self, request: web.Request) -> web.StreamResponse:
        if len(self._viewers) >= MAX_VIEWERS:
            raise web.HTTPServiceUnavailable(
                text=f"{MAX_VIEWERS} viewers are watching, the most that may. Come back later.\n",
                headers={"Retry-After": "10"},
            )
        response = web.StreamResponse(
            headers={"Content-Type": f"multipart/x-mixed-replace; boundary={_BOUNDARY}"}
        )
        response.force_close()
        task = asyncio.current_task()
        assert task is not None
        viewer = request.query.get("viewer", "")
        self._viewers[task] = viewer if _VIEWER.fullmatch(viewer) else None
        self._has_viewers.set()
        try:
            await response.prepare(request)
            await self._send_pictures(response)
            _abort(request)
        except ConnectionError:
            pass  # the client has gone
        except asyncio.TimeoutError:
            _abort(request)
        except asyncio.CancelledError:  # the end of the server, or of the connection
            _abort(request)
            raise
        finally:
            del self._viewers[task]
            if not self._viewers:
                self._has_viewers.clear()
                self._picture, self._drawn = b"", None  # outdated when the next viewer comes
        return response

    async def _send_pictures(self, response: web.StreamResponse) -> None:
        await response.write(_PART_START)
        seen = 0
        # Checked each time: before Python 3.12, wait_for swallows a cancel that comes when its
        # awaitable is done.
        while not self._stop.is_set():
            if not self._picture or seen == self._picture_number:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._next_picture.wait(), REPEAT_S)
            if not self._picture:
                continue
            seen = self._picture_number
            # The start of the next part is sent at once: Chromium shows a picture when it sees it.
            part = b"".join((self._picture, b"\r\n", _PART_START))
            await asyncio.wait_for(response.write(part), STALL_S)

    @web.middleware
    async def _check_request(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if not is_own_host(request.headers.get("Host"), self._names):
            raise web.HTTPMisdirectedRequest(
                text="This server is not known by that name. Use its IP address, or "
                "start it with the name: --serve NAME:PORT\n"
            )
        is_foreign = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        if is_foreign and request.path != "/":
            raise web.HTTPForbidden(text="Pages of other sites may not use this server.\n")
        return await handler(request)

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(
            {
                "Cache-Control": "no-store",
                "Content-Security-Policy": self._policy,
                "Cross-Origin-Resource-Policy": "same-origin",
                "Referrer-Policy": "no-referrer",
                "Server": "dff-edge",
                "X-Content-Type-Options": "nosniff",
            }
        )


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Return whether a failed request is logged: strangers' requests must not fill the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_HTTP_LOG.addFilter(_is_our_fault)


def _abort(request: web.Request) -> None:
    """Close a connection without waiting for a viewer to read its buffers."""
    if request.transport is not None:
        request.transport.abort()


def _read_page() -> tuple[str, str]:
    """Return the page, and the policy that allows it its own style and script and nothing else."""
    page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    hashes = {}
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = hashlib.sha256(content.encode()).digest()
        hashes[tag] = f"'sha256-{base64.b64encode(digest).decode()}'"
    policy = (
        f"default-src 'none'; style-src {hashes['style']}; script-src {hashes['script']}; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return page, policy
