"""Choice of a file's video track, and the shape of its pixels."""

from __future__ import annotations

import logging
from fractions import Fraction
from typing import Any

from av.stream import Disposition

from dff_edge.errors import SourceError

_STILL = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_LOG = logging.getLogger("dff_edge.runtime")


def pick_track(container: Any, path: str, number: int | None) -> Any:
    """Return the stream of a container to be played.

    Covers and other still pictures are ignored. Of several tracks the one with the largest picture
    is used, and logged: the mark "default" stands on previews too.

    Args:
        container: open, of PyAV.
        path: for messages.
        number: of the wanted track, counted from 0 among the video tracks; None for the largest.

    Raises:
        SourceError: there is no such track, or none that can be decoded.
    """
    tracks = [stream for stream in container.streams.video if not _is_still(stream)]
    if not tracks:
        others = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise SourceError(f"'{path}' has no video stream (it holds: {others}).")
    listed = "; ".join(f"{i}: {_describe(track)}" for i, track in enumerate(tracks))
    if number is not None and number >= len(tracks):
        raise SourceError(
            f"'{path}' has no video track {number}, it has {len(tracks)}: {listed}. They are "
            "counted from 0."
        )
    chosen = max(tracks, key=_picture_px) if number is None else tracks[number]
    if chosen.codec_context is None:
        raise SourceError(f"'{path}': this build of PyAV has no decoder for its video stream.")
    if number is None and len(tracks) > 1:
        _LOG.warning(
            "%s: has %d video tracks, %s; using %d, the largest. ?track=N selects another",
            path,
            len(tracks),
            listed,
            tracks.index(chosen),
        )
    return chosen


class PixelAspect:
    """Width over height of a track's pixels: as the container states, else the coded stream.

    Broadcasts change it in the middle, from 4:3 to 16:9 and back.
    """

    def __init__(self, stream: Any) -> None:
        self._codec = stream.codec_context
        stated = stream.sample_aspect_ratio
        self._of_container = stated if stated != self._codec.sample_aspect_ratio else None

    def now(self) -> Fraction | None:
        """Return that of the pictures that are being decoded, None where neither states it."""
        aspect: Fraction | None = self._of_container or self._codec.sample_aspect_ratio
        return aspect


def _picture_px(stream: Any) -> int:
    """Return the size to compare tracks by; one without a decoder is the smallest."""
    codec = stream.codec_context
    return codec.width * codec.height if codec is not None else -1


def _describe(stream: Any) -> str:
    codec = stream.codec_context
    if codec is None:
        return "no decoder"
    frames = f", {stream.frames} frames" if stream.frames else ""
    return f"{codec.width}x{codec.height} {codec.name}{frames}"


def _is_still(stream: Any) -> bool:
    """Return whether the stream is the cover of an audio file, or a thumbnail."""
    return bool(int(stream.disposition) & int(_STILL))
