"""Streams that FFmpeg demultiplexes and decodes, through PyAV: RTSP, and streams over HTTP.

One thread receives packets and stamps them, another decodes. Pictures of most codecs need those
before them, so none can be dropped freely: where decoding does not keep up, pictures that no
other needs are dropped first, then all up to the next key frame. A decoded picture is converted to
an image only if no newer one is queued.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any, NamedTuple

import av
import av.error
from av.codec.context import Flags

from dff_edge.errors import FrameError, SourceError
from dff_edge.runtime.sources.capture import Shot
from dff_edge.runtime.sources.decoding.grey_levels import GreyLevels
from dff_edge.runtime.sources.decoding.picture_size import MAX_PICTURE_PX
from dff_edge.runtime.sources.decoding.pictures import ImageMaker, in_words
from dff_edge.runtime.sources.decoding.tracks import PixelAspect
from dff_edge.runtime.sources.network import limits
from dff_edge.runtime.sources.network.clock import JUMP_S, CameraClock
from dff_edge.runtime.sources.network.mjpeg import fault_in_jpeg
from dff_edge.runtime.sources.network.receiver import Receiver
from dff_edge.uri import SourceUri

# As for files, formats that open further addresses are left out.
FORMATS = "flv,h264,hevc,matroska,mjpeg,mov,mp4,mpegts,mpegvideo,ogg,rtsp,sdp,webm"

_ENDED = "the stream has ended"
_LATE_S = 0.1  # backlog of decoding from which pictures that no other needs are dropped
_BEHIND_S = 0.25  # backlog from which decoding skips to a queued key frame at once
_HOPELESS_S = 4.0  # backlog from which nothing is decoded before the next key frame
_QUEUE_BYTES = 64 << 20  # the same limit in bytes of packets
_HEALS_S = 10.0  # after which a picture counts as whole again though no key frame came
_TOLD_DROPS = 3  # a single one is a passing delay
_UNSEEN_S = 0.1  # an image is made at least so often, even if it is not the newest

_LOG = logging.getLogger("dff_edge.runtime")


class StreamCapture:
    """A connection that FFmpeg reads.

    FFmpeg itself outputs a picture of an H.264 stream only when the next one begins: one frame
    period later.

    Args:
        container: an open one; owned by the caller if this raises.
        uri: the camera.

    Raises:
        SourceError: it has no video, or one that cannot be decoded.
    """

    def __init__(self, container: Any, uri: SourceUri) -> None:
        self._container = container
        self._name = uri.text
        if not container.streams.video:
            raise SourceError("it has no video")
        self._stream = max(container.streams.video, key=_picture_px)
        codec = self._stream.codec_context
        if codec is None:
            raise SourceError("its video is of a format that cannot be decoded here")
        codec.thread_count = 1  # each frame thread delays a picture, slice threads rarely help
        codec.flags |= Flags.low_delay
        codec.options = {"max_pixels": str(MAX_PICTURE_PX)}
        self.size: tuple[int, int] | None = (codec.height, codec.width) if codec.height else None
        rate = self._stream.average_rate
        self._has_times = container.format.name != "mjpeg"  # else they are FFmpeg's guess
        self.fps: float | None = float(rate) if rate and self._has_times else None
        self._images = ImageMaker(uri.text, GreyLevels(uri))
        self._aspect = PixelAspect(self._stream)
        self._clock = CameraClock()
        self._damaged_until_s = -math.inf
        self._is_intra = bool(codec.codec.intra_only)
        self._is_interlaced = False
        self._pictures: list[tuple[Any, float]] = []  # decoded, with their packet's arrival
        self._problem: str | None = None  # of the latest packet, which was not decoded
        self._has_pictures = False
        self._follows = True
        self._skipped = 0
        self._start_s = self._shown_s = time.monotonic()
        self._packets = _Packets(container, self._stream, uri.text)

    def read(self) -> Shot | str | None:
        if not self._pictures:
            try:
                self._decode_packet()
            except av.error.FFmpegError as error:
                return in_words(error)
        if self._problem is not None:
            problem, self._problem = self._problem, None
            return problem
        if not self._pictures:
            self._check_patience()
            return None
        self._has_pictures = True
        return self._next_shot(*self._pictures.pop(0))

    def release(self) -> None:
        self._packets.stop()
        self._pictures.clear()
        self._container.close()

    def _decode_packet(self) -> None:
        packet = self._packets.take()
        if packet is None:
            return
        codec = self._stream.codec_context
        if packet.skipped:
            self._skipped += packet.skipped
            codec.flush_buffers()
        if codec.name == "mjpeg" and (fault := fault_in_jpeg(bytes(packet.data))):
            self._problem = fault
            return
        is_late = self._packets.seconds_behind(packet) > _LATE_S
        codec.skip_frame = "NONREF" if is_late else "DEFAULT"
        pictures = self._stream.decode(packet.data)
        self._skipped += is_late and not pictures
        self._pictures = [(picture, packet.arrival_s) for picture in pictures]

    def _next_shot(self, picture: Any, arrival_s: float) -> Shot | str | None:
        stamp_s = arrival_s
        if self._has_times and picture.time is not None:
            stamp_s, went_on = self._clock.stamp(picture.time, arrival_s)
            self._follows &= went_on
        if damage := self._damage_in(picture):
            return damage
        self._tell_of_fields(picture)
        now_s = time.monotonic()
        if (self._pictures or self._packets.has_more) and now_s - self._shown_s < _UNSEEN_S:
            self._skipped += 1
            return None
        try:
            image = self._images.image_of(picture, self._aspect.now())
        except (av.error.FFmpegError, FrameError, ValueError, MemoryError) as error:
            return in_words(error)
        self._shown_s = now_s
        shot = Shot(image, stamp_s, self._follows, self._skipped)
        self._follows, self._skipped = True, 0
        return shot

    def _damage_in(self, picture: Any) -> str | None:
        """Return what is wrong with a picture; one predicted from a damaged one is damaged too."""
        now_s = time.monotonic()
        if picture.is_corrupt:
            # A stream without key frames, which is refreshed bit by bit, recovers after some time.
            self._damaged_until_s = -math.inf if self._is_intra else now_s + _HEALS_S
            return "the decoder found damage in it"
        if picture.key_frame:
            self._damaged_until_s = -math.inf
        return "it is predicted from a damaged one" if now_s < self._damaged_until_s else None

    def _tell_of_fields(self, picture: Any) -> None:
        if picture.interlaced_frame and not self._is_interlaced:
            self._is_interlaced = True
            _LOG.warning(
                "camera %s: its video is interlaced: moving objects have comb edges. Have the "
                "camera or its encoder send progressive video",
                self._name,
            )

    def _check_patience(self) -> None:
        if self._has_pictures or time.monotonic() - self._start_s < limits.KEY_FRAME_S:
            return
        if self._packets.has_key:
            raise SourceError(f"no picture could be decoded within {limits.KEY_FRAME_S:g} s")
        raise SourceError(
            f"data came for {limits.KEY_FRAME_S:g} s, but no key frame, which decoding begins "
            "with; set the camera's key frame interval (also I-frame interval or GOP) to a few "
            "seconds"
        )


def _picture_px(stream: Any) -> int:
    """Return the size to compare streams by; one without a decoder is the smallest."""
    codec = stream.codec_context
    return codec.width * codec.height if codec is not None else -1


class _Packet(NamedTuple):
    data: Any
    passed_s: float  # by the camera's clock, since the first packet
    arrival_s: float
    skipped: int = 0  # pictures before it that are not decoded


class _Packets(Receiver[_Packet]):
    """Receives packets; surplus ones are dropped up to a key frame."""

    def __init__(self, container: Any, stream: Any, name: str) -> None:
        super().__init__()
        self.has_key = False  # else it needs the packets before
        self._name = name
        self._stream = stream
        self._packets = container.demux()  # all streams, so that sound does not block a call
        self._needs_key = True
        self._is_intra = bool(stream.codec_context.codec.intra_only)
        self._last_s = math.inf
        self._passed_s = 0.0
        self._bytes = 0
        self._skipped = 0
        self._has_data = False
        self._drops = 0
        self._start(f"dff-edge {name} receiver")

    @property
    def has_more(self) -> bool:
        """Whether packets are queued."""
        return bool(self._queue)

    def seconds_behind(self, packet: _Packet) -> float:
        """Return how much time has been received since a packet that is decoded now."""
        with self._news:
            return self._queue[-1].passed_s - packet.passed_s if self._queue else 0.0

    def take(self) -> _Packet | None:
        packet = super().take()
        if packet is not None:
            with self._news:
                self._bytes -= packet.data.size
        return packet

    def _receive(self) -> _Packet | None:
        packet = self._next_packet()
        if packet.stream.index != self._stream.index:
            return None
        if not packet.size:
            raise SourceError(_ENDED)
        now_s = time.monotonic()
        stamp = packet.pts if packet.dts is None else packet.dts
        time_s = now_s if stamp is None else float(stamp * packet.time_base)
        passed_s = time_s - self._last_s
        # A camera's clock that was set is no delay.
        self._passed_s += passed_s if 0 < passed_s < JUMP_S else 0.0
        self._last_s = time_s
        return _Packet(packet, self._passed_s, now_s)

    def _put(self, packet: _Packet) -> None:
        is_key = self._is_intra or packet.data.is_keyframe
        self.has_key |= is_key
        behind_s = packet.passed_s - self._queue[0].passed_s if self._queue else 0.0
        is_hopeless = behind_s > _HOPELESS_S or self._bytes > _QUEUE_BYTES
        if self._queue and (self._is_intra or is_hopeless or (is_key and behind_s > _BEHIND_S)):
            self._drop_all()
        if self._needs_key and not is_key:
            self._skipped += self.has_key
            return
        self._needs_key = False
        self._queue.append(packet._replace(skipped=self._skipped))
        self._bytes += packet.data.size
        self._skipped = 0

    def _drop_all(self) -> None:
        self._skipped += sum(1 + packet.skipped for packet in self._queue)
        self._queue.clear()
        self._bytes = 0
        self._needs_key = True
        self._drops += not self._is_intra
        if self._drops == _TOLD_DROPS:
            _LOG.warning(
                "camera %s: decoding does not keep up; pictures are dropped up to a key frame. "
                "Use a smaller stream of the camera, or more key frames",
                self._name,
            )

    def _next_packet(self) -> Any:
        since_s = time.monotonic()
        try:
            packet = next(self._packets, None)
        except av.error.ExitError:
            packet, problem = None, self._silence
        except SourceError as error:  # of ours, passed on by FFmpeg
            packet, problem = None, str(error)
        except (av.error.FFmpegError, OSError, IndexError) as error:
            packet, problem = None, in_words(error)
        else:
            problem = _ENDED
        if time.monotonic() - since_s >= limits.READ_TIMEOUT_S:
            # FFmpeg may output delayed packets before it reports the timeout.
            packet, problem = None, self._silence
        if packet is None:
            raise SourceError(problem)  # outside `except`: FFmpeg's error may show a password
        self._has_data = True
        return packet

    @property
    def _silence(self) -> str:
        said = f"no data for {limits.READ_TIMEOUT_S:g} s"
        if self._has_data:
            return said
        return (
            f"it answers, but sends no video ({said}); check that its stream is switched on, and "
            "not held back by a firewall"
        )
