"""Annotated video that browsers play and that stays readable after a crash or on a full disk.

Fragmented MP4, one fragment per second: each is complete once written, and no trailer is needed
to read the ones before.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from dff_edge.errors import SinkError
from dff_edge.frames import Image, Result
from dff_edge.opencv import cv2
from dff_edge.runtime.drawing.style import DEFAULT_STYLE, Style
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.sinks.base import FileSink
from dff_edge.runtime.tasks.drawing import draw_result

DEFAULT_FPS = 30.0
ENCODERS = ("libx264", "libopenh264", "libvpx-vp9")  # for browsers; the first present is used

_LOG = logging.getLogger("dff_edge.runtime")
_OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "20"},
    "libopenh264": {},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "28", "b": "0"},
}
_BITS_PER_PIXEL = 0.15  # for the encoder without constant quality
_TICKS_PER_S = 90_000
_MIN_SIDE_PX = 16  # one macroblock
# The number of BT.709 in all three colour fields of H.264: browsers guess at untagged video.
_BT709 = 1
_LIMITED_RANGE = 1


class VideoSink(FileSink):
    """Writes ``out.mp4``: H.264 (VP9 where the build has no H.264), yuv420p, BT.709.

    The first frame fixes the size, made even by repeating the last row or column; later frames of
    another size are fitted into it, logged once. Times are those of the frames; a frame whose stamp
    does not grow is placed one nominal period after the one before. For the file see
    ``OutputFile``.
    """

    def __init__(
        self,
        uri: str,
        path: Path,
        classes: Sequence[str],
        colours: Colours,
        fps: float | None,
        source: str | Path | None = None,
        *,
        style: Style = DEFAULT_STYLE,
        encoders: Sequence[str] = ENCODERS,
    ) -> None:
        encoder = _pick_encoder(uri, encoders)
        super().__init__(path, uri, source)
        self._style = style
        self._classes = tuple(classes)
        self._colours = colours
        self._fps = fps if fps is not None and 0 < fps <= 1000 else DEFAULT_FPS
        self._encoder = encoder
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)  # of the video
        self._first_size = (0, 0)  # of the first frame
        self._start_s = 0.0
        self._last_pts = -1
        self._has_scaled = False

    def _write(self, result: Result) -> None:
        picture = draw_result(result, self._classes, self._colours, self._style)
        try:
            if self._container is None:
                self._start(picture, result.frame.stamp_s)
            frame = av.VideoFrame.from_ndarray(self._fitted(picture), format="bgr24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED_RANGE
            )
            frame.pts = self._next_pts(result.frame.stamp_s)
            frame.time_base = Fraction(1, _TICKS_PER_S)
            self._container.mux(self._stream.encode(frame))
        except av.error.FFmpegError as error:
            raise self._explain_codec(error) from error

    def _finish(self, *, has_failed: bool) -> None:
        is_whole = False
        try:
            if self._container is not None:
                self._close_container(has_failed)
            is_whole = not has_failed
        finally:
            if self._file.error is not None and self._file.place.is_file():
                self._file.cut(_whole_fragments(self._file.place))
            self._file.close(is_whole=is_whole)

    def _kept(self) -> str:
        return self._file.what_stays("What was written before, up to about the last second,")

    def _close_container(self, has_failed: bool) -> None:
        try:
            if not has_failed:
                self._container.mux(self._stream.encode(None))
                self._container.close()
        except av.error.FFmpegError as error:
            raise self._explain_codec(error) from error
        finally:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._container.close()

    def _start(self, picture: Image, stamp_s: float) -> None:
        height, width = (max(_MIN_SIDE_PX, side + side % 2) for side in picture.shape[:2])
        rate = Fraction(self._fps).limit_denominator(1001)
        self._container = av.open(
            self._file,
            "w",
            format="mp4",
            options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
        )
        options = {"g": str(max(1, round(self._fps))), "bf": "0", **_OPTIONS.get(self._encoder, {})}
        stream: Any = self._container.add_stream(self._encoder, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, _TICKS_PER_S)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        if self._encoder == "libopenh264":
            context.bit_rate = int(height * width * self._fps * _BITS_PER_PIXEL)
        self._stream = stream
        self._size = (height, width)
        self._start_s = stamp_s
        self._first_size = (picture.shape[0], picture.shape[1])

    def _fitted(self, picture: Image) -> Image:
        height, width = self._size
        if picture.shape[:2] != self._first_size:
            if not self._has_scaled:
                self._has_scaled = True
                _LOG.warning(
                    "%s: frames change from %s to %s (height, width); they are scaled to the "
                    "first size",
                    self.uri,
                    self._first_size,
                    picture.shape[:2],
                )
            scale = min(height / picture.shape[0], width / picture.shape[1])
            inner = (
                max(1, round(picture.shape[1] * scale)),
                max(1, round(picture.shape[0] * scale)),
            )
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            scaled = cv2.resize(picture, inner, interpolation=method)
            top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
            canvas = np.zeros((height, width, 3), np.uint8)
            canvas[top : top + inner[1], left : left + inner[0]] = scaled
            return canvas
        below, right = height - picture.shape[0], width - picture.shape[1]
        if not below and not right:
            return picture
        padded = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
        return np.asarray(padded, np.uint8)

    def _next_pts(self, stamp_s: float) -> int:
        ticks = (stamp_s - self._start_s) * _TICKS_PER_S
        if self._last_pts < 0:
            self._last_pts = 0
        elif ticks > self._last_pts + 0.5:  # false for NaN too
            self._last_pts = round(ticks)
        else:
            self._last_pts += max(1, round(_TICKS_PER_S / self._fps))
        return self._last_pts

    def _explain_codec(self, error: Exception) -> SinkError:
        if self._file.error is not None:
            return self._explain(self._file.error)
        height, width = self._size
        return SinkError(
            f"'{self.uri}': the encoder {self._encoder} refused a {width} x {height} frame: "
            f"{getattr(error, 'strerror', None) or error}."
        )


def _pick_encoder(uri: str, encoders: Sequence[str]) -> str:
    for name in encoders:
        try:
            av.Codec(name, "w")
        except ValueError:  # UnknownCodecError
            continue
        if name != encoders[0]:
            _LOG.warning("%s: PyAV has no %s, writing with %s", uri, encoders[0], name)
        return name
    raise SinkError(
        f"'{uri}': this build of PyAV has none of the encoders {', '.join(encoders)}. Install "
        "PyAV from its wheel, which has them: pip install --force-reinstall --only-binary=av av"
    )


def _whole_fragments(path: Path) -> int:
    """Return the complete bytes of a fragmented MP4: the end of its last complete ``mdat``."""
    whole = 0
    at = 0
    size = path.stat().st_size
    with open(path, "rb") as file:
        while at + 8 <= size:
            file.seek(at)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            if length < 8 or at + length > size:
                break
            at += length
            if header[4:8] in (b"mdat", b"moov"):
                whole = at
    return whole
