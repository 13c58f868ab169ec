"""GET over HTTP and HTTPS for bodies that are read as they arrive: a camera's stream, or a file.

The protocol is the standard library's; this module adds the limits that it lacks. No response is
awaited beyond ``OPEN_TIMEOUT_S``, no data beyond ``READ_TIMEOUT_S``, and only requested data is
kept. Looking up a host's name is left to the system, and has no limit. Certificates are not
checked: cameras sign their own. Compressed responses are not requested, and refused.
"""

from __future__ import annotations

import http
import http.client
import io
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from dff_edge.errors import SourceError
from dff_edge.runtime.sources.network import limits
from dff_edge.runtime.sources.network.arrivals import ArrivalReader, SilenceError

# Small: a picture's first bytes are read through it, whose arrival is to be known.
_BUFFER_BYTES = 1024
_SKIPPED_BODY_BYTES = 65536  # of a redirection: more of it is not read
_LENGTH = r"[0-9]{1,15}"  # of a file, in bytes; longer numbers are invalid
_URL_CHARACTERS = "%/:=&?~#+!$,;'@()*[]"


class WebBody:
    """The body of a response, read as it arrives.

    Attributes:
        kind: the content type, in lower case, without parameters; empty where it is not stated.
        boundary: between the parts of a multipart body, None where it is not stated.
        start: offset of the body in the file, in bytes.
        length: of the whole file in bytes, None where it is not stated.
        tag: changes when the file does, None where it is not stated.
    """

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        reader = response.fp.raw
        assert isinstance(reader, ArrivalReader)  # made by `_Receiving`
        self._reader = reader
        headers = response.headers
        self.kind = headers.get_content_type() if "Content-Type" in headers else ""
        self.boundary = headers.get_boundary()
        self.start, self.length = _range_of(response)
        self.tag = headers.get("ETag") or headers.get("Last-Modified")

    @property
    def arrival_s(self) -> float:
        """``time.monotonic()`` at the arrival of the last byte that was received."""
        return self._reader.arrival_s

    @property
    def waiting(self) -> int:
        """Bytes that have been received and not read."""
        return self._reader.waiting

    def allow(self, until_s: float) -> None:
        """Allow reads until ``time.monotonic()`` reaches ``until_s``."""
        self._reader.deadline_s = until_s

    def read_some(self, size: int = _BUFFER_BYTES) -> bytes:
        """Read what is available, at most so many bytes; nothing at the end.

        Raises:
            SourceError: the connection failed, or was cut in the middle.
        """
        return bytes(self._say(lambda: self._response.read1(size)))

    def read_into(self, view: memoryview) -> None:
        """Fill a view.

        Raises:
            SourceError: the connection failed or ended before.
        """
        self._reader.fills = True
        try:
            count = self._say(lambda: self._response.readinto(view))
        finally:
            self._reader.fills = False
        if count < len(view):
            raise SourceError("the connection was cut in the middle")

    def abort(self) -> None:
        """End a read in another thread."""
        self._reader.abort()

    def close(self) -> None:
        self._response.close()

    @staticmethod
    def _say(read: Callable[[], Any]) -> Any:
        problem = ""
        try:
            return read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = _in_words(error)
        raise SourceError(problem)  # outside `except`: the library's error may show a password


def open_web(address: str, *, start: int = 0, same_as: str | None = None) -> WebBody:
    """Request an address, and return when the body of the response begins.

    Args:
        address: http:// or https://, with user and password where they are needed (Basic, Digest).
        start: offset to begin at, in bytes. A server may begin at 0 nevertheless.
        same_as: ``tag`` of an earlier response; if it has changed, the server begins at 0.

    Raises:
        SourceError: it is not reachable, refuses, or sends something else.
    """
    try:
        request, passwords = _request(address)
    except ValueError:  # its message may contain the password
        request = None
    if request is None:
        raise SourceError("the address is malformed; special characters are written %XX")
    if start:
        request.add_header("Range", f"bytes={start}-")
        if same_as is not None:
            request.add_header("If-Range", same_as)
    return _asked(lambda: _opener(passwords).open(request, timeout=limits.OPEN_TIMEOUT_S))


def _asked(ask: Callable[[], http.client.HTTPResponse]) -> WebBody:
    response: http.client.HTTPResponse | None = None
    try:
        response = ask()
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding == "identity":
            return WebBody(response)
        problem = "it sends its answer compressed, which was not requested"
    # The library fails on invalid headers, most often those that ask for a password.
    except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        problem = _in_words(error)
    if response is not None:
        response.close()
    raise SourceError(problem)  # outside `except`: the library's error may show a password


class _Passwords(NamedTuple):
    user: str
    password: str
    addresses: list[str]  # that these are sent to, with all paths below


def _request(address: str) -> tuple[urllib.request.Request, _Passwords | None]:
    parts = urlsplit(address)
    host = parts.hostname or ""
    place = f"[{host}]" if ":" in host else host
    port = "" if parts.port is None else f":{parts.port}"
    url = quote(
        urlunsplit((parts.scheme.lower(), place + port, parts.path or "/", parts.query, "")),
        safe=_URL_CHARACTERS,
    )
    request = urllib.request.Request(url, headers={"User-Agent": "dff-edge", "Accept": "*/*"})
    if parts.username is None:
        return request, None
    # A camera may redirect to another path, and from http to https.
    addresses = [f"{parts.scheme.lower()}://{place}{port}/"]
    if not port:
        addresses.append(f"https://{place}/")
    return request, _Passwords(unquote(parts.username), unquote(parts.password or ""), addresses)


def _opener(passwords: _Passwords | None) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    # Not build_opener: that one also supports file:, ftp: and data:.
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        _HttpHandler(),
        _HttpsHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _RedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ]
    if passwords is not None:
        manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        for address in passwords.addresses:
            manager.add_password(None, address, passwords.user, passwords.password)
        handlers += [
            urllib.request.HTTPDigestAuthHandler(manager),
            urllib.request.HTTPBasicAuthHandler(manager),
        ]
    for handler in handlers:
        opener.add_handler(handler)
    return opener


class _Response(http.client.HTTPResponse):
    """A response whose body is never read whole: urllib would, before it follows a redirection."""

    def read(self, amt: int | None = None) -> bytes:
        return super().read(_SKIPPED_BODY_BYTES if amt is None else amt)


class _Receiving:
    """A connected socket as `http.client` uses it, read by an `ArrivalReader`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._is_read = False
        self.sendall = connection.sendall

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        self._is_read = True
        return io.BufferedReader(ArrivalReader(self._connection), _BUFFER_BYTES)

    def close(self) -> None:
        if not self._is_read:  # else the reader closes it
            self._connection.close()


class _HttpConnection(http.client.HTTPConnection):
    response_class = _Response

    def connect(self) -> None:
        super().connect()
        self.sock = _Receiving(self.sock)


class _HttpsConnection(http.client.HTTPSConnection):
    response_class = _Response

    def connect(self) -> None:
        super().connect()
        self.sock = _Receiving(self.sock)


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, request)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # an old camera's: nothing is trusted anyway
        return self.do_open(_HttpsConnection, request, context=context)


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    max_redirections = limits.MAX_REDIRECTS


def _range_of(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Return the offset of the body in its file, and the file's length, in bytes."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        unit, _, place = response.headers.get("Content-Range", "").partition(" ")
        begin, _, total = place.partition("/")
        begin = begin.partition("-")[0]
        if unit == "bytes" and re.fullmatch(_LENGTH, begin):
            return int(begin), int(total) if re.fullmatch(_LENGTH, total) else None
        raise ValueError("its answer to a request for a part names no part")
    length: int | None = response.length  # as parsed by http.client: None for chunks
    return 0, length if length is not None and re.fullmatch(_LENGTH, str(length)) else None


def _in_words(error: BaseException) -> str:
    """Return the reason of a failure, without addresses and the server's own text."""
    if isinstance(error, urllib.error.HTTPError):
        return _status_in_words(error.code)
    reason = getattr(error, "reason", None)
    if isinstance(error, urllib.error.URLError) and isinstance(reason, OSError):
        error = reason
    if isinstance(error, SilenceError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        return str(error.strerror)
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'no reason given'})"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was cut in the middle"
    if isinstance(error, http.client.HTTPException):
        return f"its answer is not HTTP as it should be ({type(error).__name__})"
    if isinstance(error, urllib.error.URLError):
        return "it redirects to an address of an unsupported kind"
    if "authentication" in str(error) or "AuthHandler" in str(error):
        return "it asks for a password in a way that is not known here (Basic and Digest are)"
    return "its answer is malformed"


def _status_in_words(code: int) -> str:
    try:
        phrase = http.HTTPStatus(code).phrase
    except ValueError:
        phrase = "unknown status"
    if 300 <= code < 400:
        return f"it redirects in circles, or to a place that is not followed ({code})"
    return f"the server answers {code} {phrase}"
