"""The parts of an address that messages, logs, pages and files show.

Cameras accept secrets anywhere: as user and password, in the query under any name, in the path,
percent-encoded. So secrets are not searched for; the shown parts are selected: scheme, host and the
first part of the path; of a GStreamer pipeline the names of its elements. ``***`` is the rest.
"""

from __future__ import annotations

import re

# Addresses of this machine or of generated frames; also the data sets of ``data/datasets``.
_LOCAL = frozenset(
    "camvid cityscapes cocovid csi cvat det display file flyingchairs labels null synthetic v4l2 "
    "vid vid+det".split()
)
_SCHEME = r"([A-Za-z][A-Za-z0-9+.-]+)://"
_WHOLE = re.compile(_SCHEME + "(.*)", re.DOTALL)
# In running text an address ends at a space; the punctuation before it belongs to the text.
_INSIDE = re.compile(
    _SCHEME + r"(?:(?<=[gG][sS][tT]://)(.*)|(\S*?)(?=[)\]}>'\",;:.]*(?:\s|$)))", re.DOTALL
)
_HOST = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\])?(?::\d{1,5})?", re.ASCII)
_PATH_PART = re.compile(r"[\w.~-]{0,24}", re.ASCII)  # a longer one may be a key
_ELEMENT = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_QUOTED = re.compile(r"\"(?:\\.|[^\"\\])*(?:\"|$)|'(?:\\.|[^'\\])*(?:'|$)", re.DOTALL)
_HIDDEN = "***"
# rtsp:/user:password@host, rtsp//10.0.0.7/x: what stands before the address, and the address.
_ALMOST_ADDRESS = re.compile(
    r"([a-z][a-z0-9+.-]+:/*(?=.*@)|(?:rtsps?|https?)(?::/*|//+))(.*)", re.I | re.DOTALL
)


def hide_credentials(text: str) -> str:
    """Return text in which addresses show scheme, host and their path's first part only.

    Text that begins with an address is treated as one as a whole, spaces included. Rather too much
    is hidden than too little.

    Example:
        >>> hide_credentials("rtsp://admin:1234@10.0.0.7/stream/1?key=5")
        'rtsp://***@10.0.0.7/stream/***?***'
        >>> hide_credentials("gst://rtspsrc location=rtsp://a:b@c ! decodebin")
        'gst://rtspsrc *** ! decodebin'
    """
    if whole := _WHOLE.fullmatch(text):
        return f"{whole[1]}://{_shown(whole[1], whole[2])}"
    return _INSIDE.sub(lambda m: f"{m[1]}://{_shown(m[1], m[2] or m[3] or '')}", text)


def hide_in_name(text: str) -> str:
    """Return the name of a source or sink for a message, even if its address is malformed.

    Example:
        >>> hide_in_name("rtsp:/user:secret@10.0.0.7/x")
        'rtsp:/***@10.0.0.7/x'
    """
    almost = None if _WHOLE.match(text) else _ALMOST_ADDRESS.fullmatch(text)
    if almost is None:
        return hide_credentials(text)
    return almost[1] + hide_credentials(f"http://{almost[2]}").removeprefix("http://")


def is_almost_address(text: str) -> bool:
    """Return whether text looks like an address with a malformed scheme."""
    return _WHOLE.match(text) is None and _ALMOST_ADDRESS.match(text) is not None


def _shown(scheme: str, rest: str) -> str:
    name = scheme.lower()
    if name in _LOCAL:
        return hide_credentials(rest)
    return _shown_pipeline(rest) if name == "gst" else _shown_address(rest)


def _shown_address(rest: str) -> str:
    """Return the shown parts of an address after the two slashes."""
    address, query, _ = rest.partition("?")
    authority, slash, path = address.partition("/")
    if "@" in rest[len(authority) :]:
        return _HIDDEN  # a password with a slash cannot be told from an @ in the path
    _, at, host = authority.rpartition("@")
    first, more, others = path.partition("/")
    shown = f"{_HIDDEN}@" if at else ""
    shown += host if _HOST.fullmatch(host) else _HIDDEN
    shown += slash + (first if _PATH_PART.fullmatch(first) else _HIDDEN)
    shown += more + (_HIDDEN if others else "")
    return shown + (query + _HIDDEN if query else "")


def _shown_pipeline(pipeline: str) -> str:
    """Return the shown parts of a GStreamer pipeline, whose quoted values may hold anything."""
    links = re.split(r"(?:^|(?<=\s))!(?=\s|$)", _QUOTED.sub(f" {_HIDDEN} ", pipeline))
    return " ! ".join(_shown_link(link.split()) for link in links)


def _shown_link(words: list[str]) -> str:
    if not words:
        return ""
    element = words[0] if _ELEMENT.fullmatch(words[0]) else _HIDDEN
    return f"{element} {_HIDDEN}" if len(words) > 1 else element
