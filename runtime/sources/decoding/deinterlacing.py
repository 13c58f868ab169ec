"""Interlaced video: pictures of two fields, half a frame apart, with combing on moving objects."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from dff_edge.errors import ConfigError
from dff_edge.runtime.sources.decoding.filters import FilterChain
from dff_edge.uri import SourceUri

_LOG = logging.getLogger("dff_edge.runtime")


class Deinterlacer:
    """Deinterlaces pictures that are marked as interlaced, one picture for each, by FFmpeg's bwdif.

    ``?deinterlace=auto`` does so, and is the default; ``off`` leaves all pictures as they are,
    ``on`` treats all as interlaced, for recordings that lack the mark.
    """

    def __init__(self, uri: SourceUri) -> None:
        mode = uri.options.get("deinterlace", "auto")
        if mode not in ("auto", "on", "off"):
            raise ConfigError(
                f"'{uri.text}': deinterlace is '{mode}', expected auto (where the video says that "
                "it is interlaced), on or off."
            )
        self._uri = uri
        self._mode = mode
        self._is_at_work = mode == "on"
        which = "all" if mode == "on" else "interlaced"
        self._chain = FilterChain(("bwdif", f"mode=send_frame:deint={which}"))
        self._notes: deque[Any] = deque()

    def push(self, picture: Any, note: Any) -> list[tuple[Any, Any]]:
        """Pass a picture in, with a note; return those that are ready, with their notes."""
        if self._mode == "auto" and not self._is_at_work and picture.interlaced_frame:
            self._is_at_work = True
            _LOG.warning(
                "%s: is interlaced, and is deinterlaced; ?deinterlace=off leaves the fields",
                self._uri.text,
            )
        if not self._is_at_work:
            return [(picture, note)]
        self._notes.append(note)
        return self._noted(self._chain.push(picture))

    def flush(self) -> list[tuple[Any, Any]]:
        """Return the pictures that are still inside."""
        return self._noted(self._chain.flush())

    def _noted(self, pictures: list[Any]) -> list[tuple[Any, Any]]:
        return [(picture, self._notes.popleft()) for picture in pictures]
