"""Limits on the clients of the page's server, and timeouts for those that do not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

REFUSAL_S = 2.0  # time of a refused client to send its request and read the refusal
_TEXT = b"The page has as many connections as it may. Come back later.\n"
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\n"
    b"Cache-Control: no-store\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_TEXT), _TEXT)
)


class Doorkeeper:
    """Admits a limited number of connections, and drops those that do not read.

    Data for a client is buffered in this process until the system accepts it. A client that leaves
    some of it buffered for ``stall_s`` is disconnected, whatever it requests and however much it
    sends meanwhile; without that, one that pipelines requests and reads nothing would keep its
    place for ever.

    Args:
        handlers: creates the protocol of an admitted connection.
        most: maximum number of connections. Further ones get a 503, and are limited to the same
            number.
        stall_s: how long a client may leave data unread.
    """

    def __init__(self, handlers: Callable[[], asyncio.Protocol], most: int, stall_s: float) -> None:
        self._handlers = handlers
        self._most = most
        self.stall_s = stall_s
        self.guests: set[asyncio.Protocol] = set()
        self.refused: set[asyncio.Protocol] = set()

    def admit(self) -> asyncio.Protocol:
        """Create the protocol of the next connection."""
        if len(self.guests) < self._most:
            return _Guest(self, self._handlers())
        return _Refused(self, has_room=len(self.refused) < self._most)


class _Guest(asyncio.Protocol):
    """Wraps the handler of a connection, and measures how long the client does not read."""

    def __init__(self, doorkeeper: Doorkeeper, handler: asyncio.Protocol) -> None:
        self._doorkeeper = doorkeeper
        self._handler = handler
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        doorkeeper.guests.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)  # pause_writing as soon as anything waits
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._doorkeeper.stall_s, self._transport.abort)
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._stop_timer()
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._doorkeeper.guests.discard(self)
        self._handler.connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Refused(asyncio.Protocol):
    """Refuses a client when it sends its request: an earlier response may be lost."""

    def __init__(self, doorkeeper: Doorkeeper, *, has_room: bool) -> None:
        self._doorkeeper = doorkeeper
        self._has_room = has_room
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_answered = False
        doorkeeper.refused.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._has_room:
            transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(REFUSAL_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if not self._has_answered:
            self._has_answered = True
            self._transport.write(_REFUSAL)
            self._transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._doorkeeper.refused.discard(self)
