"""The URIs of sources, for all commands.

Live sources, all with ``?retry=SECONDS``, how long an outage may last before it is an error (0: not
at all; by default there is no limit)::

    0                            camera number 0    (?width= &height= &fps=)
    v4l2:///dev/video0           a camera by its device    (the same)
    csi://0                      CSI camera number 0 of a Jetson    (the same)
    gst://PIPELINE               any GStreamer pipeline with video
    rtsp://HOST/PATH             a stream, also rtsps://    (?transport=tcp, or udp)
    http://HOST/PATH             an MJPEG or other video stream, also https://    (?as=live)

Recorded ones, all with ``?rate=30``, which plays them as if they were live at that many frames per
second: frames that are not read in time are dropped::

    video.mp4                    a video file    (?track= &deinterlace= &range=)
    http://HOST/video.mp4        one on a web server, also https://    (the same, ?as=; no ?rate=)
    frames/  or  'frames/*.png'  images in natural order, a folder or a glob    (?fps= &range=)
    synthetic://street?seed=5    a rendered street    (&frames= &height= &width= &split= &fps=
                                 &motion=)

``track=1`` plays the second video track of a file, ``deinterlace=off`` leaves interlaced pictures
as they are, ``range=29000..31000`` (or ``auto``, or ``full``) sets which values of grey pictures
are black and white (`sources.decoding.grey_levels`).

Sinks are named in `dff_edge.runtime.sinks.names`.

A ``pathlib.Path`` is always a path. In a string, an existing path takes precedence over a query: a
file that is called ``a?fps=3`` is found. A folder called ``0`` is written ``./0``. In the query of
an address only these keys are interpreted; the rest is sent to the server. ``text`` of a parsed URI
has no credentials (``hiding.py``); ``target`` has them.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dff_edge.errors import ConfigError
from dff_edge.hiding import hide_credentials, hide_in_name, is_almost_address

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".jp2", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

SourceKind = Literal["camera", "csi", "gstreamer", "stream", "video", "images", "synthetic"]

_SOURCES = (
    "a video file, a folder or glob of images, a camera number (0) or v4l2:///dev/video0, csi://0, "
    "rtsp://HOST/PATH, http://HOST/PATH, gst://PIPELINE, or synthetic://street?seed=5"
)
_KEYS: dict[SourceKind, tuple[str, ...]] = {
    "camera": ("fps", "height", "retry", "width"),
    "csi": ("fps", "height", "retry", "width"),
    "gstreamer": ("retry",),
    "video": ("deinterlace", "range", "rate", "track"),
    "images": ("fps", "range", "rate"),
    "synthetic": ("fps", "frames", "height", "motion", "rate", "seed", "split", "width"),
}
# In an address all other keys are the server's.
_RTSP_KEYS = ("as", "retry", "transport")
_HTTP_KEYS = (*_RTSP_KEYS, "deinterlace", "range", "track")
_STREAMS = ("rtsp", "rtsps", "http", "https")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_QUERY = re.compile(r"\?([A-Za-z_]+=[^?/]*)$")
_QUERY_WITH_PATHS = re.compile(r"\?([A-Za-z_]+=[^?]*)$")
_RETRY = re.compile(r"\?(retry=[^\s?/&!]*)$")  # a pipeline may hold other question marks


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A source, parsed but not opened.

    Attributes:
        text: the user's URI, for messages: without credentials.
        kind: the kind of source.
        target: the path, glob, camera number, device path, GStreamer pipeline, name of the scene,
            or the address with its credentials.
        options: the query, its keys checked against the kind.
    """

    text: str
    kind: SourceKind
    target: str = field(repr=False)
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise for malformed numbers: a name is wrong before anything is opened."""
        for key in ("frames", "height", "width"):
            self.integer(key)
        for key in ("seed", "track"):
            self.integer(key, minimum=0)
        for key in ("fps", "rate"):
            self.per_second(key)
        self.seconds("retry")

    def integer(self, key: str, default: int | None = None, *, minimum: int = 1) -> int | None:
        """Return the whole number that the query has for ``key``, or the default."""
        if key not in self.options:
            return default
        value = self.options[key]
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or int(value) < minimum:
            raise ConfigError(
                f"'{self.text}': {key} is '{value}', expected a whole number from {minimum} up."
            )
        return int(value)

    def per_second(self, key: str) -> float | None:
        """Return the frequency that the query has for ``key``, None where it has none."""
        return self._number(key, "more than 0, up to 1000", lambda value: 0 < value <= 1000)

    def seconds(self, key: str) -> float | None:
        """Return the duration that the query has for ``key``, None where it has none."""
        return self._number(key, "seconds from 0 up", lambda value: 0 <= value < math.inf)

    def _number(self, key: str, expected: str, is_allowed: Callable[[float], bool]) -> float | None:
        if key not in self.options:
            return None
        try:
            value = float(self.options[key])
        except ValueError:
            value = math.nan
        if not is_allowed(value):
            raise ConfigError(
                f"'{self.text}': {key} is '{self.options[key]}', expected {expected}."
            )
        return value


def parse_source(uri: str | Path) -> SourceUri:
    """Parse the URI of a source, without opening it.

    Raises:
        ConfigError: it is not a source, or has a key that its kind does not know. A path that does
            not exist and looks like an address is refused, since its name would be in messages.

    Example:
        >>> parse_source("synthetic://street?seed=5").options
        {'seed': '5'}
    """
    if isinstance(uri, Path):
        _refuse_almost_address(str(uri))
        return SourceUri(str(uri), _kind_of_path(str(uri)), str(uri))
    if not uri:
        raise ConfigError(f"The source is empty, expected {_SOURCES}.")
    if scheme := _SCHEME.fullmatch(uri):
        return _parse_scheme(uri, scheme[1].lower(), scheme[2])
    if os.path.lexists(uri) and not uri.isdecimal():
        return SourceUri(uri, _kind_of_path(uri), uri)
    _refuse_almost_address(uri)
    target, options = split_query(uri)
    kind: SourceKind = "camera" if target.isdecimal() else _kind_of_path(target)
    return SourceUri(uri, kind, target, _checked(uri, kind, options))


def _refuse_almost_address(uri: str) -> None:
    """Raise for ``rtsp:/user:password@host``, which would be a path, shown in messages."""
    is_there = os.path.lexists(uri) or os.path.lexists(_QUERY.sub("", uri))
    if not is_there and is_almost_address(uri):
        raise ConfigError(
            f"'{hide_in_name(uri)}' is neither a file nor an address; an address is written "
            "SCHEME://HOST/PATH, with two slashes and in a string, for example "
            "rtsp://10.0.0.7/stream"
        )


def _parse_scheme(uri: str, name: str, rest: str) -> SourceUri:
    text = hide_credentials(uri)
    if name == "gst":
        return _parse_pipeline(text, rest)
    if name in _STREAMS:
        return _parse_stream(uri, text, name)
    target, options = split_query(rest)
    if name == "v4l2":
        if not target.startswith("/"):
            raise ConfigError(f"'{text}': expected a device, for example v4l2:///dev/video0")
        return SourceUri(text, "camera", target, _checked(text, "camera", options))
    if name == "csi":
        if not re.fullmatch(r"\d{1,2}", target, re.ASCII):
            raise ConfigError(f"'{text}': expected the number of the camera, for example csi://0")
        return SourceUri(text, "csi", target, _checked(text, "csi", options))
    if name == "synthetic":
        if target.rstrip("/") != "street":
            raise ConfigError(f"'{text}': no such scene; expected synthetic://street")
        return SourceUri(text, "synthetic", "street", _checked(text, "synthetic", options))
    raise ConfigError(f"'{text}' is not a source that dff-edge knows, expected {_SOURCES}.")


def _parse_stream(uri: str, text: str, name: str) -> SourceUri:
    address, _, query = uri.partition("?")
    if not re.fullmatch(r"[a-zA-Z]+://(\S*@)?[^\s/@]+(/\S*)?", address):
        raise ConfigError(f"'{text}': expected an address, for example {name}://10.0.0.7/stream")
    keys = _RTSP_KEYS if name.startswith("rtsp") else _HTTP_KEYS
    ours: dict[str, str] = {}
    theirs = []
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key not in keys:
            theirs.append(part)
        elif key in ours:
            raise ConfigError(f"'{text}' gives {key} twice.")
        else:
            ours[key] = value
        if key in ours and "@" in value:
            raise ConfigError(
                f"'{text}': the value of {key} has an @. Is the query that of the address? A ? in "
                "a user name or password is written %3F."
            )
    if ours.get("transport", "tcp") not in ("tcp", "udp"):
        raise ConfigError(f"'{text}': transport is '{ours['transport']}', expected tcp or udp.")
    if "transport" in ours and not name.startswith("rtsp"):
        raise ConfigError(f"'{text}': transport is for rtsp:// only; leave it out.")
    if ours.get("as", "live") not in ("live", "recording"):
        raise ConfigError(f"'{text}': as is '{ours['as']}', expected live or recording.")
    if "as" in ours and name.startswith("rtsp"):
        raise ConfigError(f"'{text}': as is for http:// only, rtsp:// is live; leave it out.")
    if any(theirs):
        address += "?" + "&".join(theirs)
    return SourceUri(hide_credentials(address), "stream", address, ours)


def _parse_pipeline(text: str, rest: str) -> SourceUri:
    retry = _RETRY.search(rest)
    pipeline = (rest[: retry.start()] if retry else rest).strip()
    if not pipeline:
        raise ConfigError(f"'{text}': expected a pipeline, for example 'gst://v4l2src ! jpegdec'")
    options = {"retry": retry[1].partition("=")[2]} if retry else {}
    return SourceUri(text, "gstreamer", pipeline, options)


def _kind_of_path(path: str) -> SourceKind:
    if os.path.isdir(path):
        return "images"
    if any(sign in path for sign in "*?[") and not os.path.lexists(path):
        return "images"
    return "images" if Path(path).suffix.lower() in IMAGE_SUFFIXES else "video"


def split_query(text: str, *, with_paths: bool = False) -> tuple[str, dict[str, str]]:
    """Split ``?key=value&key=value`` from the end of a name.

    Args:
        text: the name.
        with_paths: whether values may be paths. Those of sources are not, so that a slash marks
            the query of a stream's own address.

    Raises:
        ConfigError: a key is there twice.
    """
    query = (_QUERY_WITH_PATHS if with_paths else _QUERY).search(text)
    if query is None:
        return text, {}
    options: dict[str, str] = {}
    for part in query[1].split("&"):
        key, _, value = part.partition("=")
        if key in options:
            raise ConfigError(f"'{text}' gives {key} twice.")
        options[key] = value
    return text[: query.start()], options


def _checked(uri: str, kind: SourceKind, options: dict[str, str]) -> dict[str, str]:
    for key in options:
        if key not in _KEYS[kind]:
            known = ", ".join(_KEYS[kind])
            raise ConfigError(f"'{uri}': unknown key '{key}'. Keys of a {kind} source: {known}.")
    if "rate" in options and "fps" in options:
        raise ConfigError(
            f"'{uri}': with rate, which plays it as if it were live, stamps are those of the "
            "clock, and fps has no effect. Leave one of them out."
        )
    return options
