"""An HTTP server for tests and benchmarks: an MJPEG camera that can be stalled and killed.

It listens on the loopback only. As a process of its own, `MjpegProcess`, it leaves the measured one
its memory and its interpreter to itself.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

TIME_BITS = 32


def draw_time(image: np.ndarray, time_s: float) -> None:
    """Draw a time into the top of an image, at least 8 x 256, so that it outlives JPEG."""
    number = round(time_s * 1e3) % 2**TIME_BITS
    width = image.shape[1] // TIME_BITS
    for bit in range(TIME_BITS):
        image[:8, bit * width : (bit + 1) * width] = 255 * (number >> bit & 1)


def read_time(image: np.ndarray) -> float:
    """The time that `draw_time` drew, in seconds, rounded to ms."""
    width = image.shape[1] // TIME_BITS
    number = 0
    for bit in range(TIME_BITS):
        block = image[2:6, bit * width + 2 : (bit + 1) * width - 2]
        number |= int(block.mean() > 127) << bit
    return number / 1e3


class ClockedPictures:
    """Large JPEGs, each with the time drawn in, at a fraction of the time of encoding them.

    The pictures are encoded beforehand, with a restart mark behind each row of blocks, before which
    nothing of the row before is needed; the first row alone is encoded anew with the time in it.

    Args:
        size: ``(H, W)``, multiples of 16.
        count: different pictures, which take turns.
    """

    def __init__(self, size: tuple[int, int], count: int = 4) -> None:
        height, width = size
        self._settings = [cv2.IMWRITE_JPEG_RST_INTERVAL, width // 16]
        rng = np.random.default_rng(0)
        scene = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), np.uint8), (0, 0), 3)
        scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
        self._top = scene[:16].copy()
        self._pictures = []
        for number in range(count):
            scene[16:] = np.roll(scene[16:], 8 * number, axis=1)
            jpeg = self._encode(scene)
            data = _scan_start(jpeg)
            self._pictures.append((jpeg[:data], jpeg[jpeg.index(b"\xff\xd0", data) :]))

    def encode(self, number: int, time_s: float) -> bytes:
        """Return picture ``number`` of an endless stream, with the time drawn in."""
        draw_time(self._top, time_s)
        row = self._encode(self._top)
        head, rest = self._pictures[number % len(self._pictures)]
        return head + row[_scan_start(row) : -2] + rest

    def _encode(self, image: np.ndarray) -> bytes:
        return cv2.imencode(".jpg", image, self._settings)[1].tobytes()


def _scan_start(jpeg: bytes) -> int:
    scan = jpeg.index(b"\xff\xda") + 2
    return scan + int.from_bytes(jpeg[scan : scan + 2], "big")


class MjpegServer:
    """Serves ``/stream`` as multipart JPEGs, and what ``files`` holds under its names.

    Args:
        port: 0 for any free one; another takes the place of a server that was stopped.
        rate: pictures per second.
        size: ``(H, W)`` of the pictures; may be set while it serves. Wide ones hold the time.
        files: bodies by path, each with its length.
        streams: the same without: what a camera sends that ends.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        rate: float = 50.0,
        size: tuple[int, int] = (48, 64),
        files: dict[str, bytes] | None = None,
        streams: dict[str, bytes] | None = None,
    ) -> None:
        self.rate = rate
        self.size = size
        self.files = files or {}
        self.streams = streams or {}
        self.piece = 0  # bytes of a stream sent every 10 ms, 0 for all at once
        self.connections = 0
        self.paths = []
        self.stopped = threading.Event()
        self._may_send = threading.Event()
        self._may_send.set()
        self._sockets = []
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client that went away
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.daemon = True
        self._thread.start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}/stream"

    def stall(self):
        """Keep all connections and send nothing."""
        self._may_send.clear()

    def go_on(self):
        self._may_send.set()

    def drop_clients(self):
        """Cut all connections; new ones are taken."""
        sockets, self._sockets = self._sockets, []
        for connection in sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stop(self):
        """Cut all connections and close the port, as if killed."""
        self.stopped.set()
        self.go_on()
        self._server.shutdown()
        self._thread.join()
        self.drop_clients()
        self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.stopped.is_set():
            self.stop()

    def _picture(self, number: int) -> bytes:
        image = np.full((*self.size, 3), 40 + 8 * (number % 20), np.uint8)
        if self.size[1] >= 8 * TIME_BITS:
            draw_time(image, time.monotonic())
        return cv2.imencode(".jpg", image)[1].tobytes()

    def _handler(server):  # noqa: N805 - `self` is the handler's below
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                server._sockets.append(self.connection)
                server.paths.append(self.path)
                path = self.path.partition("?")[0]
                if path in server.files:
                    self._answer("application/octet-stream", length=len(server.files[path]))
                    self.wfile.write(server.files[path])
                elif path in server.streams:
                    self._answer("application/octet-stream")
                    body = server.streams[path]
                    for place in range(0, len(body), server.piece or len(body)):
                        self.wfile.write(body[place : place + (server.piece or len(body))])
                        server.stopped.wait(0.01 if server.piece else 0)
                elif path == "/stream":
                    server.connections += 1
                    self._answer("multipart/x-mixed-replace; boundary=picture")
                    self._stream()
                else:
                    self.send_error(404)

            def log_message(self, *_):
                pass

            def _answer(self, kind, length=None):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                if length is not None:
                    self.send_header("Content-Length", str(length))
                self.end_headers()

            def _stream(self):
                number, due_s = 0, time.monotonic()
                large = ClockedPictures(server.size) if server.size[0] >= 1080 else None
                while not server.stopped.is_set():
                    server._may_send.wait()
                    if large is not None:
                        body = large.encode(number, time.monotonic())
                    else:
                        body = server._picture(number)
                    head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}"
                    self.wfile.write(head.encode() + b"\r\n\r\n" + body + b"\r\n")
                    number += 1
                    due_s = max(due_s + 1 / server.rate, time.monotonic())
                    server.stopped.wait(due_s - time.monotonic())

        return Handler


class MjpegProcess:
    """The server in a process of its own, which ends with this one."""

    def __init__(self, *, rate: float, size: tuple[int, int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(rate), str(size[0]), str(size[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()

    def drop_clients(self) -> None:
        """Cut all connections; new ones are taken."""
        assert self._process.stdin is not None
        self._process.stdin.write("drop\n")
        self._process.stdin.flush()

    def __enter__(self) -> MjpegProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)


def main() -> None:
    rate, height, width = sys.argv[1:]
    with MjpegServer(rate=float(rate), size=(int(height), int(width))) as server:
        print(server.address, flush=True)
        for _ in sys.stdin:
            server.drop_clients()


if __name__ == "__main__":
    main()
