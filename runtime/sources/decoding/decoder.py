"""Decoding of the packets of a video track, with the damage found in each picture.

FFmpeg's reports of damage differ from decoder to decoder, so all that each can report are enabled,
and the coded data is checked as well: of MJPEG all of it (`jpeg`), of H.264 and HEVC the
headers (`nal_units`). Most damage inside a slice of HEVC, VP9, AV1 or FFV1 is not reported by
FFmpeg, unless the stream has checksums, and not detected (`python benchmarks/damaged_video.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av.error

from dff_edge.errors import FrameError
from dff_edge.runtime.sources.decoding.decoding_order import Coded, DecodingOrder
from dff_edge.runtime.sources.decoding.jpeg import damage_in_jpeg
from dff_edge.runtime.sources.decoding.nal_units import H264Headers, HevcHeaders
from dff_edge.runtime.sources.decoding.picture_size import MAX_PICTURE_PX, check_size, stated_size
from dff_edge.runtime.sources.decoding.pictures import in_words
from dff_edge.runtime.sources.decoding.stamps import Stamps

_CUT_OFF = "its data is cut off"
_HOLE = "there is a hole in its data"
_HOLE_BYTES = 512  # zeros in a row, a sector of a disk: longer than in any arithmetic code
_MAX_IN_DECODER = 256  # packets that a decoder may delay, with its threads
_CONCEALED = "the decoder found damage in it"
_B_PICTURE = 3  # AV_PICTURE_TYPE_B

# Decoders that do not report concealed damage, and so may use threads.
_SILENT = frozenset({"av1", "hevc", "libdav1d", "vp8", "vp9", "vvc"})
# For these, pictures are output in the order of decoding.
_IN_ORDER = frozenset({"av1", "libdav1d", "vp8", "vp9"})


class Decoder:
    """Decodes one track, packet by packet.

    Args:
        stream: of PyAV; nothing of it may have been decoded yet.
        format_name: FFmpeg's name of the container.
        fps: nominal frame rate, None where it is not known.
    """

    def __init__(self, stream: Any, format_name: str, fps: float | None) -> None:
        codec = stream.codec_context
        self._stream = stream
        self._codec = codec
        self._is_intra = bool(codec.codec.intra_only)
        self.stamps = Stamps(format_name, stream, fps)
        self._order = DecodingOrder(keeps_order=not (self._is_intra or codec.name in _IN_ORDER))
        self._sent: dict[int, Coded] = {}
        self._failed: list[Coded] = []
        self._number = 0
        self._is_transport = format_name == "mpegts"
        self._is_after_loss = False
        self._headers: H264Headers | HevcHeaders | None = None
        # Not frame threads: with them an error is reported late, and one at the end of the file
        # drops the good frames that are queued beside it.
        stream.thread_type = "SLICE"
        options = {"max_pixels": str(MAX_PICTURE_PX)}
        if codec.name == "h264":
            self._headers = H264Headers(codec.extradata)
        elif codec.name == "hevc":
            self._headers = HevcHeaders(codec.extradata)
        if not self._is_intra and codec.name not in _SILENT:
            # FFmpeg looks for damage ("error resilience") on one thread only.
            codec.thread_count = 1
        codec.options = options
        codec.copy_opaque = True

    def send(self, packet: Any) -> Iterator[Coded]:
        """Decode a packet; yield the pictures that are now known to be good, or not."""
        coded = self._look(packet)
        is_lost = packet.is_corrupt and not self._is_transport  # marked as truncated
        if is_lost:
            coded.problem = _CUT_OFF
        self._order.send(coded)
        if is_lost or (self._is_intra and coded.problem is not None):
            self._order.show(coded)
        else:
            self._decode(packet, coded)
        yield from self._order.take()

    def finish(self) -> Iterator[Coded]:
        """Yield the pictures that the decoder has delayed."""
        try:
            for picture in self._stream.decode(None):
                self._receive(picture)
        except av.error.FFmpegError as error:
            lost = Coded(problem=in_words(error))
            self._order.send(lost)
            self._order.show(lost)
        yield from self._order.take(is_over=True)

    def _look(self, packet: Any) -> Coded:
        if self._headers is not None:
            coded = self._headers.look(bytes(packet), is_key=packet.is_keyframe)
            coded.must_show &= not packet.is_discard
        else:
            coded = Coded(is_key=packet.is_keyframe, is_reference=not self._is_intra)
        if self._codec.name in _IN_ORDER and bytes(packet).find(bytes(_HOLE_BYTES)) >= 0:
            coded.problem = _HOLE
        if self._codec.name == "mjpeg":
            coded.problem = _problem_of_jpeg(bytes(packet))
        if self._is_transport and self._codec.name != "h264":  # h264 numbers its pictures
            # A transport packet is missing, of this picture's data or of the next one's.
            if packet.is_corrupt or self._is_after_loss:
                coded.problem = coded.problem or _CUT_OFF
            self._is_after_loss = packet.is_corrupt
        return coded

    def _decode(self, packet: Any, coded: Coded) -> None:
        if not self._codec.is_open and getattr(self._headers, "has_checksums", False):
            # Without them it would refuse streams for the data that cameras write beside pictures.
            self._codec.options = {**self._codec.options, "err_detect": "crccheck+explode"}
        self.stamps.send(packet)
        self._sent[self._number] = coded
        # An object of its own: PyAV keeps them by their address, for all streams of the process,
        # and small integers have one address each.
        packet.opaque = (self._number,)
        self._sent.pop(self._number - _MAX_IN_DECODER, None)  # a field, or a hidden picture
        self._number += 1
        try:
            pictures = self._stream.decode(packet)
        except av.error.FFmpegError as error:
            coded.problem = coded.problem or in_words(error)
            coded.time = packet.pts
            self.stamps.drop(packet)
            self._failed.append(coded)
            self._show_failed(before=None if self.stamps.are_of_decoding else packet.dts)
            return
        for picture in pictures:
            self._receive(picture)

    def _show_failed(self, before: int | None) -> None:
        """Place the failed pictures in the order, by time, or at once where that is not known."""
        waiting = []
        for coded in self._failed:
            if before is None or coded.time is None or coded.time <= before:
                self._order.show(coded)
            else:
                waiting.append(coded)
        self._failed = waiting

    def _receive(self, picture: Any) -> None:
        if self._failed:
            self._show_failed(before=picture.pts)
        number = -1 if picture.opaque is None else picture.opaque[0]
        coded = self._sent.pop(number, None)
        if coded is None:  # a second picture of its packet
            coded = Coded(is_key=picture.key_frame)
            self._order.send(coded)
        elif coded.place >= 0:
            return  # it has failed, and is counted
        coded.picture = picture
        coded.time = self.stamps.time_of(picture)
        coded.is_key |= self._codec.name in _IN_ORDER and picture.key_frame
        if self._headers is None and picture.pict_type == _B_PICTURE and coded.problem is None:
            coded.is_reference = False
        if picture.is_corrupt:
            coded.problem = coded.problem or _CONCEALED
        self._order.show(coded)


def _problem_of_jpeg(data: bytes) -> str | None:
    size = stated_size(data)
    if size is not None:
        try:
            check_size(*size)
        except FrameError as error:
            return str(error)
    return damage_in_jpeg(data)
