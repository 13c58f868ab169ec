"""Several sources in one command: a folder or a glob of videos is one source per video."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from dff_edge.errors import ConfigError, SourceError
from dff_edge.runtime.sources.images import natural_key
from dff_edge.uri import IMAGE_SUFFIXES, parse_source

VIDEO_SUFFIXES = frozenset(
    ".264 .265 .3gp .avi .flv .h264 .h265 .hevc .m2ts .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpeg .mpg "
    ".mts .ogv .ts .webm .wmv .y4m".split()
)


def expand_sources(uris: Sequence[str]) -> list[str]:
    """Return the list of single sources.

    A folder or glob of images is one source. One of videos is one source per video, in natural
    order of their names; a query (``?rate=30``) applies to each.

    Args:
        uris: as a user wrote them (see `dff_edge.uri`).

    Raises:
        ConfigError: one is not a source, or holds both images and videos.
        SourceError: a folder cannot be read.

    Example:
        >>> expand_sources(["0", "rtsp://10.0.0.7/stream"])
        ['0', 'rtsp://10.0.0.7/stream']
    """
    return [source for uri in uris for source in _expand(uri)]


def is_camera(uri: str) -> bool:
    """Return whether a source is, by its name, a camera or stream that does not end by itself.

    An ``http://`` address may be either: it is a recording where it says so (``?as=recording``), or
    where its path ends as the name of a video file does and it does not say the opposite.
    """
    parsed = parse_source(uri)
    if parsed.kind != "stream" or parsed.target.lower().startswith("rtsp"):
        return parsed.kind in ("stream", "camera", "csi", "gstreamer")
    path = parsed.target.partition("?")[0]
    is_recording = Path(path).suffix.lower() in VIDEO_SUFFIXES - {".mjpeg", ".mjpg"}
    return parsed.options.get("as", "recording" if is_recording else "live") == "live"


def _expand(uri: str) -> list[str]:
    parsed = parse_source(uri)
    if parsed.kind != "images":
        return [uri]
    target = parsed.target
    is_folder = os.path.isdir(target)
    if is_folder:
        try:
            found = [os.path.join(target, name) for name in os.listdir(target)]
        except OSError as error:
            raise SourceError(f"Folder '{target}' cannot be read: {error.strerror}") from error
    elif os.path.lexists(target):
        return [uri]
    else:
        found = glob.glob(target, recursive=True)
    seen = [path for path in found if not os.path.basename(path).startswith(".")]
    videos = [path for path in seen if Path(path).suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        return [uri]
    if images := [path for path in seen if Path(path).suffix.lower() in IMAGE_SUFFIXES]:
        folder = target.rstrip("/") if is_folder else os.path.dirname(target) or "."
        one, other = Path(images[0]).suffix, Path(videos[0]).suffix
        raise ConfigError(
            f"'{uri}' holds {len(images)} images and {len(videos)} videos, expected one kind. Name "
            f"one: '{folder}/*{one}' or '{folder}/*{other}'"
        )
    query = uri[len(target) :] if uri.startswith(target) else ""
    return [path + query for path in sorted(videos, key=lambda path: (natural_key(path), path))]
