"""Where frames come from: `open_source` and what it gives."""

from __future__ import annotations

from pathlib import Path

from dff_edge.runtime.sources.base import Source
from dff_edge.runtime.uri import parse_source

__all__ = ["Source", "open_source"]


def open_source(uri: str | Path) -> Source:
    """Open a source of frames by its URI (see `dff_edge.runtime.uri`).

    Args:
        uri: a video file, a folder or glob of images, a camera, or a synthetic scene. Images and
            scenes carry no time: their stamps are ``index / fps`` with fps 30 unless ``?fps=`` says
            otherwise.

    Returns:
        An open source; close it, or use it in a ``with`` block. Of a file the first frame has been
        decoded.

    Raises:
        SourceError: it is absent, unreadable, or of a sort that this version does not support.
        ConfigError: the URI is not one, or has an unknown key.

    Example:
        >>> with open_source("synthetic://street?seed=5&frames=2") as source:
        ...     [frame.index for frame in source]
        [0, 1]
    """
    parsed = parse_source(uri)
    if parsed.kind == "camera":
        from dff_edge.runtime.sources.camera import open_camera

        return open_camera(parsed)
    if parsed.kind == "video":
        from dff_edge.runtime.sources.files import VideoFileSource  # loads FFmpeg: only here

        return VideoFileSource(parsed)
    if parsed.kind == "images":
        from dff_edge.runtime.sources.images import ImageSource

        return ImageSource(parsed)
    from dff_edge.runtime.sources.synthetic import SyntheticSource

    return SyntheticSource(parsed)
