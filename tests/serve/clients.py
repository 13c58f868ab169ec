"""Plain HTTP clients of the page's server."""

import http.client
import json
import time

import cv2
import numpy as np

from tests.serve.runs import COLOURS

WAIT_S = 20  # for what must happen; far more than it takes

_PART_START = b"--dff-edge-the-next-picture\r\nContent-Type: image/jpeg\r\n\r\n"


class Client(http.client.HTTPConnection):
    """One connection to the server."""

    def __init__(self, server):
        super().__init__("127.0.0.1", server.address.port, timeout=WAIT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def ask(self, path, method="GET", **headers):
        """Give status, headers and body."""
        self.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = self.getresponse()
        return answer.status, answer.headers, answer.read()


class Viewer(Client):
    """Watches the stream."""

    def __init__(self, server, name="viewer"):
        super().__init__(server)
        self.request("GET", f"/stream.mjpg?viewer={name}")
        self.answer = self.getresponse()
        self._read = b""

    def picture(self):
        """The next picture; it is over when the start of the one behind it is there."""
        while (end := self._read.find(b"\r\n" + _PART_START)) < 0:
            data = self.answer.read1(1 << 20)
            assert data, "the stream has ended"
            self._read += data
        part, self._read = self._read[:end], self._read[end + 2 :]
        assert part.startswith(_PART_START)
        return part[len(_PART_START) :]

    def pictures_until_the_end(self):
        while True:
            self.picture()

    def shade(self):
        """Grey value of the frame under the next picture."""
        image = cv2.imdecode(np.frombuffer(self.picture(), np.uint8), cv2.IMREAD_COLOR)
        return 2 * image[40, 48].mean() - np.mean(COLOURS[0])

    def close(self):
        if hasattr(self, "answer"):
            self.answer.close()
        super().close()


def ask(server, path, method="GET", **headers):
    with Client(server) as client:
        return client.ask(path, method, **headers)


def numbers(server, viewer=""):
    status, _, body = ask(server, f"/stats.json?viewer={viewer}")
    assert status == 200
    return json.loads(body)


def wait_until(condition):
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)  # of another thread, seen only by asking
