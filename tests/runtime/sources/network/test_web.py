"""HTTP as cameras speak it, by real servers on the loopback."""

import base64
import hashlib
import logging
import os
import random
import re
import socket
import threading
import time
from contextlib import suppress
from itertools import islice

import pytest

from dff_edge.errors import DffEdgeError, SourceError
from dff_edge.runtime.sources import open_source
from dff_edge.runtime.sources.network import limits
from dff_edge.runtime.sources.network.web import open_web
from tests.runtime.sources.cameras import LONG_S, eventually
from tests.runtime.sources.jpegs import jpeg, picture
from tests.runtime.sources.servers import RawServer, multipart, ok, tls_context
from tests.runtime.sources.streams import free_port

pytestmark = pytest.mark.usefixtures("short_timeouts")


def serve(answer, **options):
    """A server that gives the same answer, or what ``answer(head)`` says, and closes."""

    def script(connection, head):
        connection.sendall(answer(head) if callable(answer) else answer)

    return RawServer(script, **options)


def whole(body):
    data = b""
    while piece := body.read_some():
        data += piece
    return data


def body_of(server, path="/video", user=""):
    address = server.address.replace("://", f"://{user}").replace("/video", path)
    body = open_web(address)
    try:
        return whole(body)
    finally:
        body.close()


def test_answer_says_what_it_is():
    with serve(multipart("ETag: x7")) as server:
        body = open_web(server.address)
        body.close()

    assert (body.kind, body.boundary) == ("multipart/x-mixed-replace", "picture")
    assert (body.length, body.start, body.tag) == (None, 0, "x7")
    assert "Accept-Encoding: identity" in server.heads[0]
    assert f"Host: 127.0.0.1:{server.port}" in server.heads[0]


@pytest.mark.parametrize(
    "answer",
    [
        ok("Content-Length: 5") + b"hello",
        ok() + b"hello",
        ok("Transfer-Encoding: chunked") + b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + ok() + b"hello",
    ],
)
def test_body_ends_as_the_answer_says(answer):
    with serve(answer) as server:
        assert body_of(server) == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        ok("Content-Length: 9") + b"hello",
        ok("Transfer-Encoding: chunked") + b"9\r\nhello",
        ok() + b"hello",
    ],
)
def test_body_that_is_cut_cannot_be_read_into_a_view(answer):
    with serve(answer) as server:
        body = open_web(server.address)
        with pytest.raises(SourceError, match="cut in the middle"):
            body.read_into(memoryview(bytearray(9)))
        body.close()


@pytest.mark.parametrize("length", ["-4", "x", "99999999999999999999", ""])
def test_length_that_is_none_is_not_stated(length):
    with serve(ok(f"Content-Length: {length}") + b"hello") as server:
        body = open_web(server.address)
        body.close()

    assert body.length is None


@pytest.mark.parametrize("chunks", [False, True])
def test_view_is_filled(chunks):
    data = os.urandom(100_000)
    answer = ok() + data
    if chunks:
        pieces = [data[i : i + 777] for i in range(0, len(data), 777)]
        answer = ok("Transfer-Encoding: chunked")
        answer += b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    with serve(answer) as server:
        body = open_web(server.address)
        start, rest = body.read_some(10), bytearray(90_000)
        body.read_into(memoryview(rest))
        body.close()

    assert start + rest == data[: len(start) + 90_000]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 404 \x1b[31mGone\r\n\r\n", "the server answers 404 Not Found$"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "503 Service Unavailable"),
        (b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\n\r\n", "401 Unauthorized"),
        (b"HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer\r\n\r\n", "401 Unauthorized"),
        (b"HTTP/1.1 799 Odd\r\n\r\n", "799 unknown status"),
        (ok("Content-Encoding: gzip") + b"\x1f\x8b", "compressed"),
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP as it should be"),
        (b"", "not HTTP as it should be|[Cc]onnection"),
        (b"HTTP/1.1 302 Found\r\nLocation: /video\r\n\r\n", "in circles"),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "in circles, or to a"),
        (b"HTTP/1.1 302 Found\r\nLocation: gopher://h/\r\n\r\n", "in circles, or to a place"),
        (b"HTTP/1.1 206 Part\r\n\r\n", "malformed"),
        (b"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest nonce=\r\n\r\n", "malformed"),
    ],
)
def test_refusal_is_told_in_our_words(answer, message):
    user = "robot:s3cret@" if b"nonce=" in answer else ""
    with serve(answer) as server, pytest.raises(SourceError, match=message) as caught:
        open_web(server.address.replace("://", f"://{user}"))

    assert caught.value.__cause__ is caught.value.__context__ is None


def test_nothing_that_listens_is_refused():
    with pytest.raises(SourceError, match="Connection refused"):
        open_web(f"http://127.0.0.1:{free_port()}/")


def test_host_that_is_not_known_is_named_so():
    with pytest.raises(SourceError, match=r"[Nn]ame|resolution"):
        open_web("http://no-such-host.invalid/")


def test_silent_server_is_an_error_in_time():
    start_s = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(SourceError, match=r"no data for 1\.5 s|took too long"):
            open_web(f"http://127.0.0.1:{listener.getsockname()[1]}/")

    assert time.monotonic() - start_s < LONG_S


@pytest.mark.parametrize(
    "address",
    [
        "http://u:secret1/x@h:80/",
        "http://u:p@h:secret1/",
        "http://[secret1/",
        "http://u:secret1@h\x00/",
        "http://h:99999/?secret1",
    ],
)
def test_address_that_is_none_is_refused_without_showing_it(address):
    with pytest.raises(SourceError) as caught:
        open_web(address)

    assert "secret1" not in repr(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_characters_that_an_address_may_not_have_are_written_otherwise():
    with serve(ok()) as server:
        body_of(server, "/a b/ü?x=y z&w=%20")

    assert server.heads[0].startswith("GET /a%20b/%C3%BC?x=y%20z&w=%20 HTTP/1.1")


def basic(head):
    expected = base64.b64encode(b"robot:s3 cret@/").decode()
    if f"Authorization: Basic {expected}" in head:
        return ok() + b"hello"
    return b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="camera"\r\n\r\n'


def digest(head):
    """RFC 7616 with MD5, as cameras have it."""
    found = re.search("Authorization: Digest (.*)", head)
    if found:
        given = dict(re.findall(r'(\w+)="?([^",]+)"?', found[1]))

        def md5(text):
            return hashlib.md5(text.encode()).hexdigest()

        secret = md5("robot:camera:s3 cret@/"), md5(f"GET:{given['uri']}")
        nonce = f"n7:{given['nc']}:{given['cnonce']}:auth"
        if given["response"] == md5(f"{secret[0]}:{nonce}:{secret[1]}"):
            return ok() + b"hello"
    return (
        b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="camera", nonce="n7", qop="auth"\r\n'
        b'WWW-Authenticate: Basic realm="camera"\r\n\r\n'
    )


@pytest.mark.parametrize("script", [basic, digest])
def test_password_is_given_when_it_is_asked_for(script):
    with serve(script) as server:
        assert body_of(server, user="robot:s3%20cret%40%2F@") == b"hello"

    assert len(server.heads) == 2
    assert "Authorization" not in server.heads[0]


@pytest.mark.parametrize("scheme", ["Bearer", 'Digest realm="x", nonce="y", algorithm=SHA-512'])
def test_password_that_is_asked_for_in_another_way_is_an_error_that_says_so(scheme):
    with serve(f"HTTP/1.1 401 No\r\nWWW-Authenticate: {scheme}\r\n\r\n".encode()) as server:
        with pytest.raises(SourceError, match="in a way that is not known here"):
            body_of(server, user="robot:secret1@")


@pytest.mark.parametrize("script", [basic, digest])
def test_wrong_password_is_refused_and_not_shown(script):
    with serve(script) as server, pytest.raises(SourceError, match="401 Unauth") as caught:
        body_of(server, user="robot:wrong1@")

    assert "wrong1" not in repr(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_redirection_is_followed_with_the_password():
    def script(head):
        if head.startswith("GET /video"):
            return b"HTTP/1.1 301 Moved\r\nLocation: /other\r\nContent-Length: 3\r\n\r\nsee"
        return basic(head)

    with serve(script) as server:
        assert body_of(server, user="robot:s3%20cret%40%2F@") == b"hello"


def test_body_of_a_redirection_is_not_waited_for():
    def script(connection, head):
        if head.startswith("GET /video"):
            begin = b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 999999999\r\n\r\n"
            connection.sendall(begin + bytes(200_000))
            connection.recv(1)
        connection.sendall(ok() + b"hello")

    with RawServer(script) as server:
        assert body_of(server) == b"hello"


def test_password_is_not_given_to_another_host():
    def elsewhere(head):
        return f"HTTP/1.1 302 Found\r\nLocation: {other.address}\r\n\r\n".encode()

    with serve(basic) as other, serve(elsewhere) as server:
        with pytest.raises(SourceError, match="401"):
            body_of(server, user="robot:s3%20cret%40%2F@")

    assert not any("Authorization" in head for head in other.heads)


def test_https_is_read_without_asking_who_has_signed(tmp_path):
    with serve(ok() + b"hello" * 30_000, tls=tls_context(tmp_path)) as server:
        body = open_web(server.address)
        start, rest = body.read_some(10), bytearray(149_990)
        body.read_into(memoryview(rest))
        end = body.read_some()
        body.close()

    assert bytes(start + rest) == b"hello" * 30_000
    assert end == b""


def test_https_where_none_is_spoken_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.recv(9999)
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SourceError, match="TLS failed"):
            open_web(f"https://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join(LONG_S)


def test_part_of_a_file_is_asked_for():
    def script(head):
        assert "Range: bytes=4-" in head
        assert "If-Range: x7" in head
        return b"HTTP/1.1 206 Part\r\nContent-Range: bytes 4-8/9\r\nETag: x7\r\n\r\nhello"

    with serve(script) as server:
        body = open_web(server.address, start=4, same_as="x7")
        data = whole(body)
        body.close()

    assert (data, body.start, body.length, body.tag) == (b"hello", 4, 9, "x7")


def test_reading_waits_for_what_comes_and_ends_with_abort():
    def script(connection, head):
        connection.sendall(ok() + b"hello")
        connection.recv(1)

    with RawServer(script) as server:
        body = open_web(server.address)
        assert body.read_some() == b"hello"
        body.abort()
        assert body.read_some() == b""
        body.close()


PIECES = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 302 x\r\n", b"HTTP/1.1 401 No\r\n", b"HTTP/1.1 206 P\r\n",
    b"Content-Type: multipart/x-mixed-replace; boundary=x\r\n", b"Content-Length: 10\r\n",
    b"Content-Type: multipart/x; boundary*=utf-8''%ff%fe\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Content-Range: bytes 5-9/x\r\n", b"Location: http://[\r\n", b"Location: //\r\n",
    b"WWW-Authenticate: Digest \r\n", b"WWW-Authenticate: Digest nonce=\r\n", b"Content-Type: ",
    b"X-Timestamp: 1e308\r\n", b"\r\n", b"\r\n\r\n", b"--x\r\n", b"--x--", b"5\r\nhello\r\n",
    b"0\r\n\r\n", b"ffffffffffff\r\n", b"\x00\xff" * 5, b"\xff\xd8\xff", b"\xff\xd9",
    jpeg(picture(), "opencv 4:2:0"), jpeg(picture(), "opencv 4:2:0")[:300],
]  # fmt: skip


def test_answers_of_chance_end_in_frames_or_in_an_error(monkeypatch, caplog):
    caplog.set_level(logging.ERROR, "dff_edge.runtime")
    for name in ("OPEN_TIMEOUT_S", "READ_TIMEOUT_S", "PICTURE_S"):
        monkeypatch.setattr(limits, name, 0.3)
    chance = random.Random(5)

    def script(connection, head):
        data = b"".join(chance.choices(PIECES, k=chance.randint(1, 14)))
        connection.sendall(PIECES[0] * (chance.random() < 0.8) + data)

    descriptors = len(os.listdir("/proc/self/fd"))
    with RawServer(script) as server:
        for number in range(150):
            address = server.address.replace("://", "://u:p@")
            wish = ("", "&as=live", "&as=recording")[number % 3]
            with suppress(DffEdgeError), open_source(f"{address}?retry=0{wish}") as source:
                list(islice(source, 20))
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
