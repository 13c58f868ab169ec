"""The URIs of sinks, for all commands.

::

    out.mp4             annotated video
    out.jsonl           a line of JSON per frame
    frames/%06d.png     an annotated picture per frame, also .jpg: %06d is the frame's index
    out.png             the annotated picture of a source of one frame, also .jpg
    labels://FOLDER     a PNG of class indices per frame, FOLDER/000012.png
    display://          a window
    null://             counts results and drops them

A folder that holds pictures or label maps of another run is refused; with ``?replace=yes``
(``labels://FOLDER?replace=yes``, ``frames/%06d.png?replace=yes``) they are removed when the first
result comes.

``{name}`` anywhere in a path is the source's name: ``out/{name}.jsonl`` is a file for each of
several sources. A folder, ``out/``, is short for ``out/{name}.mp4``, or for a picture where the
source is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dff_edge.errors import ConfigError
from dff_edge.hiding import hide_in_name
from dff_edge.uri import parse_source, split_query

SinkKind = Literal["video", "jsonl", "pictures", "picture", "labels", "folder", "display", "null"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
NAME = "{name}"
_SINKS = (
    "out.mp4, out.jsonl, frames/%06d.png, out.png, labels://FOLDER, a folder (out/), display:// or "
    "null://"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_NUMBER = re.compile(r"%(0[1-9])?d")
_NO_FILE_NAME = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True, slots=True)
class SinkUri:
    """A sink, parsed but not opened.

    Attributes:
        text: as the user wrote it.
        kind: the kind of sink; "folder" stands for one of several sources, see ``of_source``.
        path: None where it writes no file. For "pictures" its name is a pattern: ``%06d``.
        replace: whether files that another run left in its folder are removed.
    """

    text: str
    kind: SinkKind
    path: Path | None = None
    replace: bool = False

    @property
    def is_for_each(self) -> bool:
        """Whether every source has a place of its own here."""
        return self.path is None or self.kind == "folder" or NAME in str(self.path)

    def of_source(self, name: str, *, picture_suffix: str | None = None) -> SinkUri:
        """Return the sink of one source.

        Args:
            name: of the source, see ``source_name``.
            picture_suffix: of the source, where that is one picture.

        Example:
            >>> parse_sink("out/{name}.mp4").of_source("drive").text
            'out/drive.mp4'
        """
        if self.path is None or not self.is_for_each:
            return self
        if self.kind == "folder":
            suffix = ".mp4"
            if picture_suffix is not None:
                known = picture_suffix.lower() in PICTURE_SUFFIXES
                suffix = picture_suffix if known else ".png"
            path = self.path / f"{name}{suffix}"
            return SinkUri(str(path), "video" if picture_suffix is None else "picture", path)
        filled = str(self.path).replace(NAME, name)
        if self.kind == "pictures":  # percent signs of the name are not part of the pattern
            folder, pattern = os.path.split(str(self.path))
            folder, name = folder.replace(NAME, name), name.replace("%", "%%")
            filled = os.path.join(folder, pattern.replace(NAME, name))
        return replace(self, text=self.text.replace(NAME, name), path=Path(filled))


def parse_sink(uri: str | Path) -> SinkUri:
    """Parse the URI of a sink, without opening it.

    Raises:
        ConfigError: it is not the URI of a sink.

    Example:
        >>> parse_sink("out.jsonl").kind
        'jsonl'
    """
    text = str(uri)
    if isinstance(uri, str) and (scheme := _SCHEME.fullmatch(text)):
        name, rest = scheme[1].lower(), scheme[2]
        if name == "labels" and rest:
            folder, is_replaced = _split(text, rest)
            if not folder:
                raise ConfigError(f"'{text}' names no folder, expected labels://FOLDER.")
            return SinkUri(text, "labels", Path(folder), is_replaced)
        if name == "display" and not rest:
            return SinkUri(text, "display")
        if name == "null" and not rest:
            return SinkUri(text, "null")
    elif text.lower().endswith(".mp4"):
        return SinkUri(text, "video", Path(text))
    elif text.lower().endswith(".jsonl"):
        return SinkUri(text, "jsonl", Path(text))
    elif picture := _picture(text):
        return picture
    elif text.endswith("/") or os.path.isdir(text):
        return SinkUri(text, "folder", Path(text))
    raise ConfigError(
        f"'{hide_in_name(text)}' is not a sink that dff-edge knows, expected {_SINKS}."
    )


def source_name(uri: str | Path) -> str:
    """Return the name of a source for the names of files.

    Example:
        >>> source_name("drives/monday.mp4"), source_name("rtsp://user:pass@10.0.0.7/stream")
        ('monday', '10.0.0.7')
    """
    parsed = parse_source(uri)
    target = parsed.target
    if parsed.kind == "video":
        return Path(target).stem
    if parsed.kind == "images":
        if os.path.isdir(target):
            return Path(os.path.abspath(target)).name or "images"
        if os.path.lexists(target) or not any(sign in target for sign in "*?["):
            return Path(target).stem
        name = Path(os.path.abspath(target)).parent.name
        return _NO_FILE_NAME.sub("-", name).strip("-") or "images"
    if parsed.kind == "stream":
        host = re.sub(r"^[a-zA-Z]+://(\S*@)?", "", target)
        return (
            _NO_FILE_NAME.sub("-", re.split(r"[/:?]", host, maxsplit=1)[0]).strip("-") or "stream"
        )
    if parsed.kind in ("camera", "csi"):
        return f"{parsed.kind}{target}" if target.isdecimal() else Path(target).name
    return target if parsed.kind == "synthetic" else parsed.kind


def source_names(uris: Sequence[str | Path]) -> list[str]:
    """Return different names for the files of several sources: of equal ones, a number follows.

    Example:
        >>> source_names(["rtsp://10.0.0.7/left", "rtsp://10.0.0.7/right", "0"])
        ['10.0.0.7', '10.0.0.7-2', 'camera0']
    """
    names: list[str] = []
    plain = [source_name(uri) for uri in uris]
    for name in plain:
        number, own = 1, name
        while own in names or (number > 1 and own in plain):
            number += 1
            own = f"{name}-{number}"
        names.append(own)
    return names


def _picture(text: str) -> SinkUri | None:
    path, is_replaced = _split(text, text)
    if Path(path).suffix.lower() not in PICTURE_SUFFIXES:
        return None
    name = Path(path).name.replace("%%", "")
    numbers = _NUMBER.findall(name)
    if len(numbers) > 1 or _NUMBER.search(str(Path(path).parent)):
        raise ConfigError(
            f"'{text}': expected one number, in the name of the file: frames/%06d.png"
        )
    if numbers:
        return SinkUri(text, "pictures", Path(path), is_replaced)
    if is_replaced:
        raise ConfigError(f"'{text}': a file is replaced in any case; leave ?replace out.")
    return SinkUri(text, "picture", Path(path))


def _split(text: str, path: str) -> tuple[str, bool]:
    path, options = split_query(path)
    for key, value in options.items():
        if key != "replace" or value not in ("yes", "no"):
            raise ConfigError(f"'{text}': '{key}={value}' is unknown, expected replace=yes.")
    return path, options.get("replace") == "yes"
