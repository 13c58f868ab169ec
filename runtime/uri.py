"""The one grammar that names sources and sinks, for every command.

Sources::

    0                            camera number 0   (?width= &height= &fps=)
    v4l2:///dev/video0           a camera by its device    (the same)
    video.mp4                    a video file
    frames/  or  'frames/*.png'  images in natural order, a folder or a glob    (?fps=)
    synthetic://street?seed=5    a drawn street    (&frames= &height= &width= &split= &fps=)

Sinks: ``out.mp4`` (annotated video), ``out.jsonl`` (a line a frame), ``labels://FOLDER`` (a PNG of
class indices a frame), ``display://`` (a window), ``null://`` (counts and forgets).

A ``pathlib.Path`` is always a path. Of a string, a path that exists comes before a query: a file
that is called ``a?fps=3`` is found. A folder called ``0`` is written ``./0``.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dff_edge.runtime.errors import ConfigError, SourceError

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".jp2", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

SourceKind = Literal["camera", "video", "images", "synthetic"]
SinkKind = Literal["video", "jsonl", "labels", "display", "null"]

_SOURCES = (
    "a video file, a folder or glob of images, a camera number (0) or v4l2:///dev/video0, "
    "or synthetic://street?seed=5"
)
_SINKS = "out.mp4, out.jsonl, labels://FOLDER, display:// or null://"
_KEYS: dict[SourceKind, tuple[str, ...]] = {
    "camera": ("fps", "height", "width"),
    "video": (),
    "images": ("fps",),
    "synthetic": ("fps", "frames", "height", "seed", "split", "width"),
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_QUERY = re.compile(r"\?([A-Za-z_]+=[^?/]*)$")


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A source, parsed but not opened.

    Attributes:
        text: what the user wrote, for messages.
        kind: what sort of source it is.
        target: the path, glob, camera number, device path or name of the scene.
        options: the query, its keys checked against the kind.
    """

    text: str
    kind: SourceKind
    target: str
    options: dict[str, str] = field(default_factory=dict)

    def integer(self, key: str, default: int | None = None, *, minimum: int = 1) -> int | None:
        """The whole number that the query gives for ``key``, or the default."""
        if key not in self.options:
            return default
        value = self.options[key]
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or int(value) < minimum:
            raise ConfigError(
                f"'{self.text}': {key} is '{value}', expected a whole number from {minimum} up."
            )
        return int(value)

    def rate(self, default: float | None = None) -> float | None:
        """The frames per second that the query gives, or the default."""
        if "fps" not in self.options:
            return default
        value = self.options["fps"]
        try:
            fps = float(value)
        except ValueError:
            fps = math.nan
        if not 0 < fps <= 1000:
            raise ConfigError(f"'{self.text}': fps is '{value}', expected more than 0, up to 1000.")
        return fps


@dataclass(frozen=True, slots=True)
class SinkUri:
    """A sink, parsed but not opened; ``path`` is None where it writes no file."""

    text: str
    kind: SinkKind
    path: Path | None = None


def parse_source(uri: str | Path) -> SourceUri:
    """Say what a source URI means, without opening it.

    Raises:
        ConfigError: it is no source, or has a key that its kind does not know.
        SourceError: it is one that this version does not support.

    Example:
        >>> parse_source("synthetic://street?seed=5").options
        {'seed': '5'}
    """
    if isinstance(uri, Path):
        return SourceUri(str(uri), _kind_of_path(str(uri)), str(uri))
    if not uri:
        raise ConfigError(f"The source is empty, expected {_SOURCES}.")
    if scheme := _SCHEME.fullmatch(uri):
        return _parse_scheme(uri, scheme[1].lower(), scheme[2])
    if os.path.lexists(uri) and not uri.isdecimal():
        return SourceUri(uri, _kind_of_path(uri), uri)
    target, options = _split_query(uri)
    kind: SourceKind = "camera" if target.isdecimal() else _kind_of_path(target)
    return SourceUri(uri, kind, target, _checked(uri, kind, options))


def parse_sink(uri: str | Path) -> SinkUri:
    """Say what a sink URI means, without opening it.

    Raises:
        ConfigError: it is no sink.

    Example:
        >>> parse_sink("out.jsonl").kind
        'jsonl'
    """
    text = str(uri)
    if isinstance(uri, str) and (scheme := _SCHEME.fullmatch(text)):
        name, rest = scheme[1].lower(), scheme[2]
        if name == "labels" and rest:
            return SinkUri(text, "labels", Path(rest))
        if name == "display" and not rest:
            return SinkUri(text, "display")
        if name == "null" and not rest:
            return SinkUri(text, "null")
    elif text.lower().endswith(".mp4"):
        return SinkUri(text, "video", Path(text))
    elif text.lower().endswith(".jsonl"):
        return SinkUri(text, "jsonl", Path(text))
    elif text.endswith("/") or os.path.isdir(text):
        raise ConfigError(
            f"'{text}' is a folder; to write label images into it, say labels://{text}"
        )
    raise ConfigError(f"'{text}' is not a sink that dff-edge knows, expected {_SINKS}.")


def _parse_scheme(uri: str, name: str, rest: str) -> SourceUri:
    if name in ("csi", "rtsp", "rtsps", "http", "https", "udp"):
        raise SourceError(
            f"'{uri}': {name}:// sources are not supported by this version, which reads "
            f"{_SOURCES}. Record the stream to a file, or feed frames to Pipeline.submit from "
            "your own reader."
        )
    target, options = _split_query(rest)
    if name == "v4l2":
        if not target.startswith("/"):
            raise ConfigError(f"'{uri}': expected a device, for example v4l2:///dev/video0")
        return SourceUri(uri, "camera", target, _checked(uri, "camera", options))
    if name == "synthetic":
        if target.rstrip("/") != "street":
            raise ConfigError(f"'{uri}': no such scene; expected synthetic://street")
        return SourceUri(uri, "synthetic", "street", _checked(uri, "synthetic", options))
    raise ConfigError(f"'{uri}' is not a source that dff-edge knows, expected {_SOURCES}.")


def _kind_of_path(path: str) -> SourceKind:
    if os.path.isdir(path):
        return "images"
    if any(sign in path for sign in "*?[") and not os.path.lexists(path):
        return "images"
    return "images" if Path(path).suffix.lower() in IMAGE_SUFFIXES else "video"


def _split_query(text: str) -> tuple[str, dict[str, str]]:
    query = _QUERY.search(text)
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
        if key == "rate":
            raise ConfigError(
                f"'{uri}': playing a source as if it were live (?rate=) is not supported by this "
                "version. Leave it out: a file is read as fast as the pipeline takes it."
            )
        if key not in _KEYS[kind]:
            known = ", ".join(_KEYS[kind]) or "none"
            raise ConfigError(f"'{uri}': unknown key '{key}'. Keys of a {kind} source: {known}.")
    return options
