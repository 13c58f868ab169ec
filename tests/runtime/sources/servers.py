"""Servers that send what a test has them send, over HTTP, HTTPS and RTSP, well-behaved or not.

    python servers.py

serves all of ``HOSTILE`` and ``HOSTILE_RTSP`` in a process of its own, so that its memory is not
the client's, and prints their addresses as JSON.
"""

import json
import socket
import ssl
import struct
import sys
import threading
from contextlib import suppress

CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg06K+/1iThqxUH5Ec
icOwQsV1tUQi0yqY6tYtwPER/ZKhRANCAAQin808UWZmuM41mm1q9MnfyzL91hXY
ZS+HUywLilq9Tq/sONm+9JrUJtA+yHyCh7ZsESth2Dd6px48qMCD/Wcz
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBgjCCASmgAwIBAgIUMuO0ItzCzfHzwT9vaVghMDM2yhcwCgYIKoZIzj0EAwIw
FjEUMBIGA1UEAwwLY2FtZXJhLnRlc3QwIBcNMjYxMTI4MTU1ODE0WhgPMjEyNjEx
MDQxNTU4MTRaMBYxFDASBgNVBAMMC2NhbWVyYS50ZXN0MFkwEwYHKoZIzj0CAQYI
KoZIzj0DAQcDQgAEIp/NPFFmZrjONZptavTJ38sy/dYV2GUvh1MsC4pavU6v7DjZ
vvSa1CbQPsh8goe2bBErYdg3eqcePKjAg/1nM6NTMFEwHQYDVR0OBBYEFO05i/iq
STIbxTYh2Up+JYczj5PCMB8GA1UdIwQYMBaAFO05i/iqSTIbxTYh2Up+JYczj5PC
MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgRrolRSAIlGD5xWZ6
pd3TJ92nqgxqnYyzxpJZiT3TFTICIDzCLLW8yHeZSdxqUbLvZRUPfHOkNxoZaXK8
qrK0ScHo
-----END CERTIFICATE-----
"""


class RawServer:
    """Has ``script(connection, head)`` answer each connection, when its head has come.

    Args:
        script: gets a connected socket and the request up to its empty line; what it raises when
            the client goes away ends the connection.
        tls: a context, to serve HTTPS.
    """

    def __init__(self, script, tls=None):
        self.heads = []
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._connections = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self):
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/video"

    def _serve(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with suppress(OSError), connection:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                head = read_head(connection)
                self.heads.append(head)
                self._script(connection, head)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def read_head(connection):
    """Read a request up to its empty line; empty when there is none."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(4096)
        if not data:
            return ""
        head += data
    return head.decode("latin-1")


def ok(*headers):
    """The head of an answer."""
    return "\r\n".join(("HTTP/1.1 200 OK", *headers, "", "")).encode()


def multipart(*headers):
    return ok("Content-Type: multipart/x-mixed-replace; boundary=picture", *headers)


def for_ever(data):
    """A script that sends something, then something else for ever."""
    begin, rest = data

    def script(connection, head):
        connection.sendall(begin)
        while True:
            connection.sendall(rest)

    return script


def drip(connection, data):
    """Send byte by byte, for ever, without a word for seconds on end."""
    done = threading.Event()
    for place in range(len(data)):
        connection.sendall(data[place : place + 1])
        done.wait(0.05)


_BLOCK = bytes(1 << 20)


def _drip_headers(connection, head):
    drip(connection, b"HTTP/1.1 200 OK\r\n" + b"X-Filler: yes\r\n" * 1000)


def _drip_picture(connection, head):
    connection.sendall(multipart() + b"--picture\r\nContent-Length: 100000\r\n\r\n")
    drip(connection, b"\xff\xd8" + bytes(100000))


def _long_redirection(connection, head):
    connection.sendall(
        b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 2000000000\r\n\r\n"
    )
    while True:
        connection.sendall(_BLOCK)


HOSTILE = {
    "endless headers": for_ever((b"HTTP/1.1 200 OK\r\n", b"X-Filler: yes\r\n" * 10000)),
    "one endless header": for_ever((b"HTTP/1.1 200 OK\r\nX-Filler: ", _BLOCK)),
    "endless interim answers": for_ever((b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10000)),
    "endless redirection": _long_redirection,
    "part of 2 GB": for_ever(
        (multipart() + b"--picture\r\nContent-Length: 2000000000\r\n\r\n\xff\xd8", _BLOCK)
    ),
    "part without an end": for_ever((multipart() + b"--picture\r\n\r\n\xff\xd8", _BLOCK)),
    "no boundary": for_ever((multipart(), _BLOCK)),
    "endless part headers": for_ever(
        (multipart() + b"--picture\r\n", b"X-Filler: yes\r\n" * 10000)
    ),
    "endless boundary": for_ever(
        (ok("Content-Type: multipart/mixed; boundary=" + "x" * 60000), b"x")
    ),
    "endless JPEG": for_ever((ok(), b"\xff\xd8\xff\xe0\x00\x10" + bytes(14) + _BLOCK)),
    "endless nothing known": for_ever((ok("Content-Type: video/mp4"), _BLOCK)),
    "endless chunk size": for_ever((multipart("Transfer-Encoding: chunked"), b"f" * (1 << 16))),
    "compressed": for_ever((multipart("Content-Encoding: gzip"), b"\x1f\x8b" + _BLOCK)),
    "dripping headers": _drip_headers,
    "dripping picture": _drip_picture,
}
"""By name, HTTP scripts that would take all memory, or all time."""


class RtspScript:
    """Answers RTSP requests; ``behaviour`` says where it goes wrong."""

    SDP = (
        b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=control:*\r\n"
        b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        b"a=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
    )

    def __init__(self, behaviour):
        self.behaviour = behaviour

    def __call__(self, connection, head):
        while head:
            method = head.split()[0]
            number = next(
                line.split(":")[1] for line in head.splitlines() if line.lower().startswith("cseq")
            )
            if self.behaviour == f"no answer to {method}":
                threading.Event().wait(60)
            self._answer(connection, method, f"RTSP/1.0 200 OK\r\nCSeq:{number}\r\n".encode())
            head = read_head(connection)

    def _answer(self, connection, method, begin):
        if method == "DESCRIBE":
            if self.behaviour == "endless headers":
                for_ever((begin, b"X-Filler: yes\r\n" * 10000))(connection, "")
            if self.behaviour == "session description of 2 GB":
                begin += b"Content-Type: application/sdp\r\nContent-Length: 2000000000\r\n\r\n"
                for_ever((begin, b"a=x\r\n" * 20000))(connection, "")
            begin += b"Content-Type: application/sdp\r\nContent-Length: %d\r\n" % len(self.SDP)
            connection.sendall(begin + b"\r\n" + self.SDP)
        elif method == "SETUP":
            transport = b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            connection.sendall(begin + transport + b"\r\n")
        elif method == "OPTIONS":
            connection.sendall(begin + b"Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n\r\n")
        else:
            connection.sendall(begin + b"Session: 1\r\n\r\n")
            if method == "PLAY" and self.behaviour == "junk between":
                for_ever((b"", b"$\x07\xff\xff" + bytes(65535)))(connection, "")
            if method == "PLAY" and self.behaviour == "picture without an end":
                self._send_endless_picture(connection)

    @staticmethod
    def _send_endless_picture(connection):
        number = 0
        while True:
            packets = b""
            for _ in range(20):
                begin = 0x85 if number == 0 else 0x05  # of one FU-A, as RFC 6184 has it
                payload = bytes([0x7C, begin]) + b"\x55" * 60000
                header = struct.pack(">BBHII", 0x80, 96, number & 0xFFFF, 1000, 1)
                packets += b"$\x00" + struct.pack(">H", len(header + payload)) + header + payload
                number += 1
            connection.sendall(packets)


HOSTILE_RTSP = (
    "endless headers",
    "session description of 2 GB",
    "junk between",
    "picture without an end",
)


def tls_context(folder):
    """A context of a server whose certificate nobody has signed."""
    path = folder / "certificate.pem"
    path.write_text(CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def main():
    http = {kind: RawServer(script).address for kind, script in HOSTILE.items()}
    rtsp = {kind: RawServer(RtspScript(kind)).address for kind in HOSTILE_RTSP}
    rtsp = {kind: address.replace("http", "rtsp") for kind, address in rtsp.items()}
    sys.stdout.write(json.dumps([http, rtsp]) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
