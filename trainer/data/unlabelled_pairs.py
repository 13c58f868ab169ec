"""Pairs from video without labels, for distillation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dff_edge.data.datasets.labelled_clip import LabelledClip
from dff_edge.data.datasets.video_clip import VideoClip
from dff_edge.data.datasets.video_file import stated_frames
from dff_edge.errors import ConfigError, SourceError
from dff_edge.frames import Image
from dff_edge.runtime.sources.several import expand_sources
from dff_edge.trainer.data.clip_pairs import ClipPairs
from dff_edge.trainer.data.pairs import Truth
from dff_edge.uri import parse_source

VIDEOS = "videos"


class UnlabelledPairs(ClipPairs):
    """Pairs from clips of any frames: i is a frame but the first, k up to ``max_distance`` before.

    Parts of frames (``crop``) lie anywhere. Arguments are those of ``ClipPairs``.
    """

    knows_truth = False

    def _current_frames(self) -> list[tuple[int, int]]:
        return [(n, index) for n, clip in enumerate(self.clips) for index in range(1, len(clip))]

    def _read(self, clip: LabelledClip, index: int) -> tuple[Image, Truth]:
        return clip.image(index), Truth()


def open_videos(uri: str) -> Sequence[LabelledClip]:
    """Open the clips of ``videos://PATH``: a video file, or those of a folder or glob.

    Raises:
        ConfigError: the name has no path, or one of something else.
        SourceError: no video has two frames or more, one cannot be read, or does not state the
            number of its frames.
    """
    named = uri.partition("://")[2]
    if not named:
        raise ConfigError(f"'{uri}' names no file, expected {VIDEOS}://FOLDER.")
    clips = []
    for source in map(parse_source, expand_sources([named])):
        if source.kind != "video" or source.options:
            raise ConfigError(f"'{uri}': '{source.text}' is no video file, expected some.")
        path = Path(source.target)
        length = stated_frames(path)
        if length is None:
            raise SourceError(
                f"'{path}' does not state the number of its frames, expected MP4 or Matroska. "
                f"`ffmpeg -i {path.name} -c copy {path.stem}.mp4` makes one."
            )
        if length > 1:
            clips.append(VideoClip(path.stem, path, length, path, {}))
    if not clips:
        raise SourceError(f"'{uri}' holds no video of two frames or more, expected some.")
    return clips
