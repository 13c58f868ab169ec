"""Reading a TCP connection with the time of arrival of its data.

A reading thread may be late: the process was stopped, the machine is busy. The kernel
continues to receive and, on Linux, keeps the time of arrival of queued data: SO_TIMESTAMPNS, for
TCP since 4.14. A read gets that of its last byte, and small packets that are queued together have
that of the last of them; so only the newest of the queued data has its right time, and `waiting`
tells whether there is more. Elsewhere queued data is assumed to have arrived when the connection
was last seen empty: rather too old than too young.
"""

from __future__ import annotations

import fcntl
import io
import socket
import ssl
import struct
import sys
import termios
import time
from typing import TYPE_CHECKING

from dff_edge.runtime.sources.network import limits

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
_TIMESPEC = struct.Struct("@ll")
_ROOM = socket.CMSG_SPACE(_TIMESPEC.size)
_SLICE_S = 0.25  # interval at which a wait checks its deadline
_AT_ONCE_S = 0.0005  # a faster read has not waited


class SilenceError(TimeoutError):
    """Too little data or none came in time; the message is written for the user."""


class ArrivalReader(io.RawIOBase):
    """The receiving side of a connection.

    Attributes:
        arrival_s: ``time.monotonic()`` at the arrival of the last byte that was read.
        deadline_s: no read lasts longer.
        fills: whether a read waits until its buffer is full. Python acquires its global lock
            again after each call that waits, which takes long while other threads compute.

    Args:
        connection: connected; closed with the reader.
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self.deadline_s = time.monotonic() + limits.OPEN_TIMEOUT_S
        self.fills = False
        self.arrival_s = self._empty_s = time.monotonic()
        self._socket = connection
        self._has_stamps = _ask_for_stamps(connection)
        # Blocking, or MSG_WAITALL would not wait.
        connection.settimeout(None)
        timeout = struct.pack("@ll", int(_SLICE_S), int(1e6 * (_SLICE_S % 1)))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)

    @property
    def waiting(self) -> int:
        """Bytes that have been received and not read."""
        count = bytearray(4)
        fcntl.ioctl(self._socket, termios.FIONREAD, count)
        return int.from_bytes(count, sys.byteorder)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read into a buffer of bytes; return how many, 0 at the end of the connection.

        Raises:
            SilenceError: nothing came for ``READ_TIMEOUT_S``, or ``deadline_s`` has passed.
            OSError: the connection failed.
        """
        view = memoryview(buffer).cast("B")
        filled = 0
        since_s = time.monotonic()
        while filled < len(view):
            start_s = time.monotonic()
            if start_s > self.deadline_s:
                raise SilenceError("it took too long")
            try:
                count, stamp_s = self._receive(view[filled:])
            except (BlockingIOError, ssl.SSLWantReadError):
                count = -1
            now_s = time.monotonic()
            if count < 0:
                if now_s - since_s >= limits.READ_TIMEOUT_S:
                    raise SilenceError(f"no data for {limits.READ_TIMEOUT_S:g} s")
                self._empty_s = start_s
                continue
            filled += count
            since_s = now_s
            if stamp_s is None:
                has_waited = now_s - start_s >= _AT_ONCE_S
                self._empty_s = start_s if has_waited else self._empty_s
                stamp_s = now_s if has_waited else self._empty_s
            # The wall clock may have been set meanwhile.
            self.arrival_s = min(max(stamp_s, self.arrival_s), now_s)
            if not count or not self.fills:
                break
        return filled

    def close(self) -> None:
        if not self.closed:
            self._socket.close()
        super().close()

    def abort(self) -> None:
        """End a read in another thread."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the connection has ended already

    def _receive(self, view: memoryview) -> tuple[int, float | None]:
        """Receive what is available; return the number of bytes and, where known, their arrival."""
        if isinstance(self._socket, ssl.SSLSocket):
            stamp_s = None
            if self._has_stamps and not self._socket.pending():
                # The kernel can be queried while the data is still encrypted.
                peek = socket.socket.recvmsg(self._socket, 1, _ROOM, socket.MSG_PEEK)
                stamp_s = _stamp_in(peek[1])
            elif self._has_stamps:
                stamp_s = self.arrival_s
            return self._socket.recv_into(view), stamp_s
        flags = socket.MSG_WAITALL if self.fills else 0
        if not self._has_stamps:
            return self._socket.recv_into(view, 0, flags), None
        count, ancillary, _, _ = self._socket.recvmsg_into([view], _ROOM, flags)
        return count, _stamp_in(ancillary)


def _ask_for_stamps(connection: socket.socket) -> bool:
    """Make the kernel keep times of arrival; return whether it does."""
    if sys.platform != "linux":
        return False
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:  # in a sandbox that emulates Linux
        return False
    return True


def _stamp_in(ancillary: list[tuple[int, int, bytes]]) -> float | None:
    """Return the time of arrival by ``time.monotonic()``; the kernel's is by the wall clock."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(data) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            age_s = time.time() - (float(seconds) + 1e-9 * float(nanoseconds))
            return time.monotonic() - age_s
    return None
