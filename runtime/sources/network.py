"""Streams of network cameras, RTSP and HTTP, read by FFmpeg through PyAV.

No call waits for ever: connecting is given ``OPEN_TIMEOUT_S`` twice (once to connect, once to see
what the stream holds), a read ``READ_TIMEOUT_S``. A connection is given ``KEY_FRAME_S`` up to its
first picture. Looking up a host's name is the system's, and takes as long as that takes. FFmpeg's
own errors name the address with its credentials, so none is passed on. Certificates of https:// and
rtsps:// are not checked: cameras sign their own.
"""

from __future__ import annotations

import errno
import time
from typing import Any

import av
import av.error
from av.codec.context import Flags

from dff_edge.runtime.errors import FrameError, SourceError
from dff_edge.runtime.resize import check_image
from dff_edge.runtime.sources.capture import Shot
from dff_edge.runtime.sources.clock import CameraClock
from dff_edge.runtime.sources.pictures import in_words
from dff_edge.runtime.uri import SourceUri

OPEN_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 4.0
KEY_FRAME_S = 60.0  # up to the first picture, while data comes: cameras may send few key frames

_ENDED = "the stream has ended"
_LOOK_S = 1.0  # at most, at a stream for what it holds

# As for files, what opens further addresses is left out.
_FORMATS = "flv,h264,hevc,matroska,mjpeg,mov,mp4,mpegts,mpegvideo,mpjpeg,ogg,rtsp,sdp,webm"
_PROTOCOLS = {
    "rtsp": "rtp,srtp,tcp,tls,udp",
    "http": "http,https,httpproxy,tcp,tls",
}


class StreamCapture:
    """A connection to a network camera.

    Pictures come as they are decoded, none is kept back here. FFmpeg itself gives one of an H.264
    stream only when the next one begins: one frame period later.

    Args:
        container: open; of the caller when this raises.

    Raises:
        SourceError: it has no video, or one that cannot be decoded.
    """

    def __init__(self, container: Any) -> None:
        self._container = container
        if not container.streams.video:
            raise SourceError("it has no video")
        self._stream = container.streams.video[0]
        if self._stream.codec_context is None:
            raise SourceError("its video is of a format that cannot be decoded here")
        self._has_key = False
        self._has_pictures = False
        self._start_s = self._arrival_s = time.monotonic()
        self._clock = CameraClock()
        self._pictures: list[Any] = []
        codec = self._stream.codec_context
        codec.thread_count = 1  # frame threads keep a picture back each, slice threads help seldom
        codec.flags |= Flags.low_delay
        self.size: tuple[int, int] | None = (codec.height, codec.width) if codec.height else None
        rate = self._stream.average_rate
        self._has_times = container.format.name not in ("mpjpeg", "mjpeg")  # else FFmpeg's guess
        self.fps: float | None = float(rate) if rate and self._has_times else None
        self._packets = container.demux()  # all: a call that waits for video waits through sound

    def read(self) -> Shot | str | None:
        if not self._pictures:
            try:
                self._decode_packet()
            except av.error.FFmpegError as error:
                return in_words(error)
        if not self._pictures:
            self._check_patience()
            return None
        self._has_pictures = True
        picture = self._pictures.pop(0)
        if picture.is_corrupt:
            return "the decoder found damage in it"
        try:
            image = check_image(picture.to_ndarray(format="bgr24"))
        except (av.error.FFmpegError, FrameError, ValueError, MemoryError) as error:
            return in_words(error)
        if not self._has_times or picture.time is None:
            return Shot(image, self._arrival_s)
        return Shot(image, *self._clock.stamp(picture.time, self._arrival_s))

    def release(self) -> None:
        self._pictures.clear()
        self._container.close()

    def _decode_packet(self) -> None:
        packet = self._next_packet()
        if packet.stream.index != self._stream.index:
            return
        if not packet.size:
            raise SourceError(_ENDED)
        self._arrival_s = time.monotonic()
        self._has_key |= packet.is_keyframe
        if self._has_key:  # else it cannot be decoded without what came before
            self._pictures = list(self._stream.decode(packet))

    def _check_patience(self) -> None:
        if self._has_pictures or time.monotonic() - self._start_s < KEY_FRAME_S:
            return
        if self._has_key:
            raise SourceError(f"no picture could be decoded within {KEY_FRAME_S:g} s")
        raise SourceError(
            f"data came for {KEY_FRAME_S:g} s, but no key frame, which decoding begins with; set "
            "the camera's key frame interval (also I-frame interval or GOP) to a few seconds"
        )

    def _next_packet(self) -> Any:
        since_s = time.monotonic()
        try:
            packet = next(self._packets, None)
        except av.error.ExitError:
            packet, problem = None, f"no data for {READ_TIMEOUT_S:g} s"
        except (av.error.FFmpegError, OSError, IndexError) as error:
            packet, problem = None, in_words(error)
        else:
            problem = _ENDED
        if time.monotonic() - since_s >= READ_TIMEOUT_S:
            # FFmpeg may hand out what it had kept back before it says that its time is up.
            packet, problem = None, f"no data for {READ_TIMEOUT_S:g} s"
        if packet is None:
            raise SourceError(problem)  # out here: FFmpeg's error is not chained to it
        return packet


def connect_stream(uri: SourceUri) -> StreamCapture:
    """Connect to a stream, up to knowing what it holds.

    Raises:
        SourceError: it is not reached, refuses, sends nothing, or sends no video.
    """
    family = "rtsp" if uri.target.lower().startswith("rtsp") else "http"
    options = {
        "protocol_whitelist": _PROTOCOLS[family],
        "format_whitelist": _FORMATS,
        "flags": "low_delay",
        "fpsprobesize": "0",
        "analyzeduration": str(int(1e6 * _LOOK_S)),
        # The socket's own bound, for closing, which says good-bye to the camera.
        "timeout": str(int(1e6 * READ_TIMEOUT_S)),
    }
    if family == "rtsp":
        options |= {
            "rtsp_transport": uri.options.get("transport", "tcp"),
            "allowed_media_types": "video",
            "max_delay": "100000",  # us that a missing UDP packet is waited for
        }
    try:
        container = av.open(
            uri.target,
            format="rtsp" if family == "rtsp" else None,
            options=options,
            timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S),
        )
        try:
            return StreamCapture(container)
        except BaseException:
            container.close()
            raise
    except SourceError as error:
        problem = str(error)
    except av.error.ExitError:
        problem = f"no answer within {OPEN_TIMEOUT_S:g} s"
    except (av.error.ArgumentError, av.error.InvalidDataError):  # so are formats not listed
        problem = "it is not a video stream that dff-edge reads; playlists are not read"
    except (av.error.FFmpegError, OSError, ValueError) as error:
        problem = in_words(error)
        if getattr(error, "errno", None) == errno.EIO:  # FFmpeg says no more than that
            problem = "no connection; is the host's name right?"
    raise SourceError(
        f"'{uri.text}' cannot be opened: {problem}. Check the address, user and password, and that "
        "this machine reaches the camera."
    )
