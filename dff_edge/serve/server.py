"""The web server of a run's page, in a thread of its own.

A run of several sources has a page of all of them, and one for each: ``/?source=1``.

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

from dff_edge.lifetime import Closing, Worker, bind, inner_of
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.sinks import Style
from dff_edge.serve.address import Address, is_own_host, own_names
from dff_edge.serve.channel import BOUNDARY, STALL_S, Channel
from dff_edge.serve.doorkeeper import Doorkeeper

MAX_VIEWERS = 8
MAX_CONNECTIONS = 64
IDLE_S = 15.0  # a connection without requests for so long is closed
LINGER_S = 2.0  # data after an answered request is read and dropped for so long
FAREWELL_S = 2.5  # pages poll every second: the end of the run is served for so long

_VIEWER = re.compile(r"[A-Za-z0-9-]{1,40}")
_NUMBER = re.compile(r"[0-9]{1,4}")
_LOG = logging.getLogger("dff_edge.serve")
_HTTP_LOG = logging.getLogger("dff_edge.serve.http")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server(Closing):
    """Serves one run, of one source or of several.

    ``close`` is for one thread; the channels are for the threads that run the sources.

    Args:
        address: where to serve; not reachable from outside unless it says so.
        listener: its open port, which is closed with the server.
        sources: the sources, as their user wrote them, without credentials.
        classes: names of the classes, by index.
        colours: ``(red, green, blue)`` of the classes, by index.
        style: which parts of results are drawn, and how.
        policy, keys: key-frame policy and key mode of the run, to be shown.

    Attributes:
        address: the address, with the actual port for port 0.
        channels: what is shown of each source.
        is_open_to_others: whether other machines reach it.
    """

    def __init__(
        self,
        address: Address,
        listener: socket.socket,
        *,
        sources: Sequence[str],
        classes: Sequence[str],
        colours: Colours,
        style: Style,
        policy: str,
        keys: str,
    ) -> None:
        self.channels = tuple(
            Channel(uri, classes, colours, style, policy=policy, keys=keys) for uri in sources
        )
        self._viewers: dict[asyncio.Task[object], tuple[Channel, str | None]] = {}  # their names
        self._asked_s = float("-inf")

        self._socket = listener
        self._ip, port = self._socket.getsockname()[:2]
        self.address = Address(address.host, port)
        self.is_open_to_others = not ipaddress.ip_address(self._ip).is_loopback
        self._names = own_names(address, on_loopback=not self.is_open_to_others)
        self._page, self._policy = _read_page("page.html")
        self._overview, self._overview_policy = _read_page("overview.html")

        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
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

    def close(self) -> None:
        """End the server and its thread.

        Waits up to ``FAREWELL_S`` after the last channel's ``finish``, if a page is open, so that
        it can show the end. Safe to call twice.
        """
        finished_s = self._finished_s
        if finished_s is not None and finished_s - self._asked_s < FAREWELL_S:
            rest_s = finished_s + FAREWELL_S - time.monotonic()
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
        if error is not None:
            for channel in self.channels:
                if channel.finished_s is None:
                    channel.finish("failed", str(error) or type(error).__name__)
        self.close()

    @property
    def _finished_s(self) -> float | None:
        """When all channels were finished; None while one is not."""
        ends = [channel.finished_s for channel in self.channels]
        known = [end_s for end_s in ends if end_s is not None]
        return max(known) if len(known) == len(ends) else None

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
        app.router.add_get("/sources.json", self._get_sources, allow_head=False)
        app.router.add_get("/picture.jpg", self._get_picture, allow_head=False)
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
        artists = [asyncio.create_task(channel.draw()) for channel in self.channels]
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((*artists, stop), return_when=asyncio.FIRST_COMPLETED)
            for artist in artists:
                if artist.done():
                    await artist  # raises: it never returns otherwise
        finally:
            listener.close()
            tasks = [*artists, stop, *self._viewers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()

    async def _get_page(self, request: web.Request) -> web.StreamResponse:
        if len(self.channels) > 1 and "source" not in request.query:
            text, policy = self._overview, self._overview_policy
        else:
            self._channel_of(request)
            text, policy = self._page, self._policy
        headers = {"Content-Security-Policy": policy}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _get_numbers(self, request: web.Request) -> web.StreamResponse:
        channel = self._channel_of(request)
        self._asked_s = time.monotonic()
        viewer = request.query.get("viewer")
        of_viewer = {
            "sources": len(self.channels),
            "viewers": len(self._viewers),
            "most_viewers": MAX_VIEWERS,
            "watching": viewer is not None and (channel, viewer) in self._viewers.values(),
        }
        text = f"{channel.numbers_text()[:-1]}, {json.dumps(of_viewer)[1:]}"
        return web.Response(text=text, content_type="application/json")

    async def _get_sources(self, request: web.Request) -> web.StreamResponse:
        self._asked_s = time.monotonic()
        text = ", ".join(channel.numbers_text() for channel in self.channels)
        return web.Response(text=f'{{"sources": [{text}]}}', content_type="application/json")

    async def _get_picture(self, request: web.Request) -> web.StreamResponse:
        picture = self._channel_of(request).picture()
        if not picture:
            raise web.HTTPNotFound(text="There is no result yet.\n")
        return web.Response(body=picture, content_type="image/jpeg")

    def _channel_of(self, request: web.Request) -> Channel:
        """Return the channel that a request names by its number, the first without one.

        Raises:
            HTTPNotFound: there is none of the number.
        """
        number = request.query.get("source", "0")
        if _NUMBER.fullmatch(number) and int(number) < len(self.channels):
            return self.channels[int(number)]
        raise web.HTTPNotFound(
            text=f"There is no such source, expected a number from 0 to {len(self.channels) - 1}.\n"
        )

    async def _get_stream(self, request: web.Request) -> web.StreamResponse:
        channel = self._channel_of(request)
        if len(self._viewers) >= MAX_VIEWERS:
            raise web.HTTPServiceUnavailable(
                text=f"{MAX_VIEWERS} viewers are watching, the most that may. Come back later.\n",
                headers={"Retry-After": "10"},
            )
        response = web.StreamResponse(
            headers={"Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}"}
        )
        response.force_close()
        task = asyncio.current_task()
        assert task is not None
        viewer = request.query.get("viewer", "")
        self._viewers[task] = (channel, viewer if _VIEWER.fullmatch(viewer) else None)
        try:
            await response.prepare(request)
            await channel.send_pictures(response, self._stop)
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
        return response

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
        response.headers.setdefault("Content-Security-Policy", self._policy)
        response.headers.update(
            {
                "Cache-Control": "no-store",
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


def _read_page(name: str) -> tuple[str, str]:
    """Return a page, and the policy that allows it its own style and script and nothing else."""
    page = (Path(__file__).parent / name).read_text(encoding="utf-8")
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
