"""Connections to addresses: to a camera over RTSP or HTTP, or a recording.

RTSP is left to FFmpeg. HTTP is read here (`web.py`), so that data is stamped as it arrives and
bounded: MJPEG is split into pictures here too (`parts.py`), the rest is passed to FFmpeg.
FFmpeg's own errors contain the address with its credentials, so none is passed on. Certificates
are not checked: cameras sign their own.
"""

from __future__ import annotations

import errno
import math
import time
from typing import Any

import av
import av.error

from dff_edge.errors import SourceError
from dff_edge.runtime.sources.capture import Capture
from dff_edge.runtime.sources.decoding.allocations import bound_allocations
from dff_edge.runtime.sources.decoding.pictures import in_words
from dff_edge.runtime.sources.network import limits
from dff_edge.runtime.sources.network.mjpeg import MjpegCapture
from dff_edge.runtime.sources.network.parts import PartReader
from dff_edge.runtime.sources.network.stream import FORMATS, StreamCapture
from dff_edge.runtime.sources.network.web import WebBody, open_web
from dff_edge.uri import SourceUri

_LOOK_S = 1.0  # at most, of a stream to detect its contents
_NO_STREAM = "it is not a video stream that dff-edge reads; playlists are not read"
_NO_RTSP = "its answer is not RTSP as it should be"
_SILENT = "it accepts the connection, but sends no usable answer in time"


class RecordingFound(Exception):  # noqa: N818 - no error
    """An address is not a stream but a recording; ``body`` starts at its beginning."""

    def __init__(self, body: WebBody) -> None:
        super().__init__("it is a recording")
        self.body = body


def connect_stream(uri: SourceUri, *, recordings: bool = False) -> Capture:
    """Connect to a stream and detect its contents.

    Args:
        uri: the address.
        recordings: whether it may be a recording: a body that has a length and is not
            multipart, or any body if ``?as=`` says so.

    Raises:
        RecordingFound: it is one; the caller closes its body.
        SourceError: it is not reachable, refuses, sends nothing, or sends no video.
    """
    try:
        if uri.target.lower().startswith("rtsp"):
            return _connect_rtsp(uri)
        return _connect_web(uri, recordings)
    except SourceError as error:
        problem = str(error)
    raise SourceError(
        f"'{uri.text}' cannot be opened: {problem}. Check the address, user and password, and that "
        "this machine reaches the camera."
    )


def _connect_web(uri: SourceUri, recordings: bool) -> Capture:
    body = open_web(uri.target)
    try:
        if body.kind.startswith("image/") and body.length is not None:
            raise SourceError("it is a single picture; look for the address of the camera's video")
        if recordings and _is_recording(body, uri.options.get("as")):
            raise RecordingFound(body)
        _refuse_recordings_keys(uri)
        parts = PartReader(body)
        if body.kind.startswith("multipart/") or parts.starts_with_jpeg():
            return MjpegCapture(body, parts, uri.text)
        return _WebCapture(body, parts, uri)
    except RecordingFound:
        raise
    except BaseException:
        body.close()
        raise


def _is_recording(body: WebBody, wish: str | None) -> bool:
    if wish is not None:
        return wish == "recording"
    return body.length is not None and not body.kind.startswith("multipart/")


def _refuse_recordings_keys(uri: SourceUri) -> None:
    for key in ("deinterlace", "track"):
        if key in uri.options:
            raise SourceError(f"it is live, and ?{key}= is for recordings")


class _WebCapture(StreamCapture):
    """A stream over HTTP that FFmpeg demultiplexes."""

    def __init__(self, body: WebBody, parts: PartReader, uri: SourceUri) -> None:
        self._body = body
        body.allow(time.monotonic() + 2 * limits.OPEN_TIMEOUT_S)
        container = _open_container(_Bytes(body, parts.taken()), None, {})
        body.allow(math.inf)
        try:
            super().__init__(container, uri)
        except BaseException:
            container.close()
            raise

    def release(self) -> None:
        self._body.abort()
        super().release()
        self._body.close()


class _Bytes:
    """The file that FFmpeg reads: a body whose beginning has been read already."""

    def __init__(self, body: WebBody, beginning: bytes) -> None:
        self._body = body
        self._beginning = beginning

    def read(self, size: int) -> bytes:
        data, self._beginning = self._beginning[:size], self._beginning[size:]
        return data or self._body.read_some(size)


def _connect_rtsp(uri: SourceUri) -> Capture:
    container = _open_container(
        uri.target,
        "rtsp",
        {
            "protocol_whitelist": "rtp,srtp,tcp,tls,udp",
            # The socket's own limit, for closing, which sends the camera a farewell.
            "timeout": str(int(1e6 * limits.READ_TIMEOUT_S)),
            "rtsp_transport": uri.options.get("transport", "tcp"),
            "allowed_media_types": "video",
            "max_delay": "100000",  # us that a missing UDP packet is waited for
        },
    )
    try:
        return StreamCapture(container, uri)
    except BaseException:
        container.close()
        raise


def _open_container(file: Any, format_name: str | None, options: dict[str, str]) -> Any:
    bound_allocations()
    since_s = time.monotonic()
    try:
        return av.open(
            file,
            format=format_name,
            options={
                "protocol_whitelist": "none",
                "format_whitelist": FORMATS,
                "flags": "low_delay",
                "fpsprobesize": "0",
                "analyzeduration": str(int(1e6 * _LOOK_S)),
                **options,
            },
            timeout=(limits.OPEN_TIMEOUT_S, limits.READ_TIMEOUT_S),
        )
    except SourceError as error:  # of ours, passed on by FFmpeg
        problem = str(error)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        # FFmpeg reports silence by many errors, depending on the request without an answer.
        is_silent = time.monotonic() - since_s >= limits.READ_TIMEOUT_S
        problem = _SILENT if is_silent else _why_not_opened(error, format_name)
    raise SourceError(problem)


def _why_not_opened(error: Exception, format_name: str | None) -> str:
    if isinstance(error, av.error.ExitError):
        return _SILENT
    if isinstance(error, av.error.ArgumentError | av.error.InvalidDataError):  # formats not listed
        return _NO_RTSP if format_name == "rtsp" else _NO_STREAM
    code = getattr(error, "errno", None)
    if code == errno.EIO:  # FFmpeg reports no details
        return "no connection; is the host's name right?"
    if code == errno.EPROTONOSUPPORT:
        return "the camera does not offer this transport; try ?transport=udp, or tcp"
    return in_words(error)
