"""Sources of frames: `open_source` and the classes behind it."""

from __future__ import annotations

from pathlib import Path

from dff_edge.runtime.sources.base import PulledSource, Source
from dff_edge.runtime.sources.live import LiveSource
from dff_edge.uri import SourceUri, parse_source

__all__ = ["LiveSource", "Source", "open_source"]


def open_source(uri: str | Path) -> Source:
    """Open a source of frames by its URI (see `dff_edge.uri`).

    Args:
        uri: a video file, a folder or glob of images, a camera, a stream, or a synthetic scene.
            Images and scenes carry no time: their stamps are ``index / fps`` with fps 30 unless
            ``?fps=`` is given.

    Returns:
        An open source, a ``LiveSource`` where it is a camera or played with ``?rate=``; close it,
        or use it in a ``with`` block. Of a file the first frame has been decoded.

    Raises:
        SourceError: it is absent, unreadable, or not reachable.
        ConfigError: the URI is invalid, or has an unknown key.
        MissingDependencyError: it needs an OpenCV with GStreamer.

    Example:
        >>> with open_source("synthetic://street?seed=5&frames=2") as source:
        ...     [frame.index for frame in source]
        [0, 1]
    """
    parsed = parse_source(uri)
    if parsed.kind in ("camera", "csi", "gstreamer", "stream"):
        return _open_camera(parsed)
    rate = parsed.per_second("rate")
    recording = _open_recording(parsed)
    if rate is None:
        return recording
    from dff_edge.runtime.sources.paced import PacedSource

    return PacedSource(recording, rate)


def _open_camera(uri: SourceUri) -> LiveSource | PulledSource:
    from dff_edge.runtime.sources.camera import CameraSource

    retry_s = uri.seconds("retry")
    if uri.kind == "stream":
        from dff_edge.runtime.sources.network.connection import (  # loads FFmpeg
            RecordingFound,
            connect_stream,
        )

        may_be_recording = iter([True])  # at the first connection
        try:
            return CameraSource(
                lambda: connect_stream(uri, recordings=next(may_be_recording, False)),
                uri.text,
                retry_s=retry_s,
            )
        except RecordingFound as found:
            from dff_edge.runtime.sources.network.web_file import WebVideoSource

            return WebVideoSource(uri, found.body)
    from dff_edge.runtime.sources.opencv import connect_gstreamer, connect_v4l2

    connect = connect_v4l2 if uri.kind == "camera" else connect_gstreamer
    return CameraSource(lambda: connect(uri), uri.text, retry_s=retry_s)


def _open_recording(uri: SourceUri) -> PulledSource:
    if uri.kind == "video":
        from dff_edge.runtime.sources.files import VideoFileSource

        return VideoFileSource(uri)
    if uri.kind == "images":
        from dff_edge.runtime.sources.images import ImageSource

        return ImageSource(uri)
    from dff_edge.runtime.sources.synthetic import SyntheticSource

    return SyntheticSource(uri)
