"""Streams that FFmpeg demultiplexes: which packets are decoded when they come too fast."""

import queue
from fractions import Fraction
from types import SimpleNamespace

import av
import av.error
import numpy as np
import pytest

from dff_edge.errors import SourceError
from dff_edge.runtime.sources.network import stream as stream_module
from dff_edge.runtime.sources.network.connection import connect_stream
from dff_edge.runtime.sources.network.stream import StreamCapture, _Packets
from dff_edge.uri import parse_source
from tests.runtime.sources.cameras import LONG_S, eventually
from tests.runtime.sources.servers import RawServer, RtspScript

PERIOD_S = 0.1


class Packet:
    def __init__(self, number, is_key=False, time=None, size=100):
        self.number = number
        self.is_keyframe = is_key
        self.dts = self.pts = number if time is None else time
        self.time_base = Fraction(1, 10)
        self.size = size
        self.stream = STREAM
        self.picture = None  # what it is decoded to, where that is no good one


STREAM = SimpleNamespace(
    index=0, codec_context=SimpleNamespace(codec=SimpleNamespace(intra_only=False))
)
INTRA = SimpleNamespace(
    index=0, codec_context=SimpleNamespace(codec=SimpleNamespace(intra_only=True))
)


class Container:
    """Gives the packets that a test puts in; an exception is raised."""

    def __init__(self):
        self.inbox = queue.Queue()

    def demux(self):
        while True:
            item = self.inbox.get(timeout=LONG_S)
            if isinstance(item, Exception):
                raise item
            if item is None:
                return
            yield item


@pytest.fixture
def receive():
    """Have packets received, and give what is left of them to be decoded: (number, skipped)."""
    opened = []

    def receive(packets, stream=STREAM):
        container = Container()
        for packet in packets:
            container.inbox.put(packet)
        container.inbox.put(None)
        waiting = _Packets(container, stream, "test")
        opened.append(waiting)
        waiting._thread.join(LONG_S)
        left = []
        with pytest.raises(SourceError, match="the stream has ended"):
            take_all(waiting, left)
        return left

    yield receive
    for waiting in opened:
        waiting.stop()


def take_all(waiting, left):
    while True:
        packet = waiting.take()
        left.append((packet.data.number, packet.skipped))


def numbers(start, stop, keys=()):
    return [Packet(number, number in keys) for number in range(start, stop)]


def test_what_keeps_up_is_decoded_whole(receive):
    assert receive(numbers(0, 3, keys=[0, 2])) == [(0, 0), (1, 0), (2, 0)]


def test_what_comes_before_the_first_key_frame_is_none_of_a_picture(receive):
    assert receive(numbers(0, 6, keys=[4])) == [(4, 0), (5, 0)]


def test_key_frame_is_gone_to_when_as_much_waits(receive, caplog):
    assert receive(numbers(0, 8, keys=[0, 5])) == [(5, 5), (6, 0), (7, 0)]
    assert not caplog.text


def test_decoding_that_never_keeps_up_is_told_once(receive, caplog):
    receive(numbers(0, 40, keys=range(0, 40, 4)))

    assert caplog.text.count("camera test: decoding does not keep up") == 1


def test_key_frame_soon_after_is_none_to_go_to(receive):
    assert receive(numbers(0, 4, keys=[0, 2])) == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_too_long_a_queue_is_given_up_until_the_next_key_frame(receive):
    count = round(stream_module._HOPELESS_S / PERIOD_S)
    left = receive(numbers(0, count + 10, keys=[0, count + 5]))

    assert left == [(count + 5 + i, count + 5 if i == 0 else 0) for i in range(5)]


def test_too_many_bytes_are_given_up_until_the_next_key_frame(receive):
    packets = numbers(0, 6, keys=[0, 5])
    packets[1].size = stream_module._QUEUE_BYTES
    packets[0].time_base = packets[1].time_base = Fraction(1, 1000)

    assert receive(packets) == [(5, 5)]


@pytest.mark.parametrize("jump", [-1000, 1000])
def test_clock_that_was_set_is_no_delay(receive, jump):
    packets = numbers(0, 4, keys=[0, 3])
    for packet in packets[2:]:
        packet.dts += jump

    assert [number for number, _ in receive(packets)] == [0, 1, 2, 3]


def test_of_pictures_that_need_no_other_the_newest_is_kept(receive):
    packets = numbers(0, 9)
    for packet in packets:
        packet.stream = INTRA

    assert receive(packets, INTRA) == [(8, 8)]


def test_packets_without_times_are_compared_by_their_arrival(receive):
    packets = numbers(0, 5, keys=[0, 4])
    for packet in packets:
        packet.dts = packet.pts = None

    assert [number for number, _ in receive(packets)] == [0, 1, 2, 3, 4]


def picture_of(number):
    picture = av.VideoFrame.from_ndarray(np.full((4, 6, 3), number % 256, np.uint8), format="bgr24")
    picture.pts, picture.time_base = number, Fraction(1, 10)
    return picture


class Codec:
    name = "h264"
    height, width = 4, 6
    flags = thread_count = 0
    codec = SimpleNamespace(intra_only=False)
    sample_aspect_ratio = None
    skip_frame = "DEFAULT"

    def __init__(self):
        self.decoded = []
        self.flushed = 0

    def flush_buffers(self):
        self.flushed += 1


class Stream:
    index = 0
    average_rate = 10
    sample_aspect_ratio = None

    def __init__(self):
        self.codec_context = Codec()

    def decode(self, packet):
        codec = self.codec_context
        codec.decoded.append((packet.number, codec.skip_frame))
        return [packet.picture or picture_of(packet.number)]


@pytest.fixture
def play():
    """A capture of packets that have all come, and its codec."""
    captures = []

    def play(packets):
        container, stream = Container(), Stream()
        container.streams = SimpleNamespace(video=[stream])
        container.format = SimpleNamespace(name="rtsp")
        container.close = lambda: None
        for packet in packets:
            packet.stream = stream
            container.inbox.put(packet)
        container.inbox.put(None)
        capture = StreamCapture(container, parse_source("rtsp://test"))
        captures.append(capture)
        capture._packets._thread.join(LONG_S)
        return capture, stream.codec_context

    yield play
    for capture in captures:
        capture.release()


def test_only_the_newest_of_what_is_decoded_becomes_an_image(play):
    capture, codec = play(numbers(0, 3, keys=[0]))
    shots = [capture.read() for _ in range(3)]

    assert shots[:2] == [None, None]
    assert (int(shots[2].image[0, 0, 0]), shots[2].skipped) == (2, 2)
    assert [number for number, _ in codec.decoded] == [0, 1, 2]


def test_an_image_is_made_now_and_then_where_there_is_always_a_newer_one(play, monkeypatch):
    monkeypatch.setattr(stream_module, "_UNSEEN_S", 0.0)
    capture, _ = play(numbers(0, 3, keys=[0]))

    assert [int(capture.read().image[0, 0, 0]) for _ in range(3)] == [0, 1, 2]


def test_pictures_that_no_other_needs_are_left_out_first(play):
    capture, codec = play(numbers(0, 3, keys=[0]))
    for _ in range(3):
        capture.read()

    assert codec.decoded == [(0, "NONREF"), (1, "DEFAULT"), (2, "DEFAULT")]  # 0.2, 0.1, 0 s behind


def test_decoder_begins_anew_at_a_key_frame_that_was_gone_to(play):
    capture, codec = play(numbers(0, 8, keys=[0, 6]))
    capture.read()
    shot = capture.read()

    assert (codec.flushed, shot.skipped) == (1, 7)


def test_jump_of_a_picture_that_became_no_image_is_told_with_the_next(play):
    packets = numbers(0, 3, keys=[0])
    capture, _ = play(packets)
    packets[1].number, packets[2].number = 900, 901
    shots = [capture.read() for _ in range(3)]

    assert shots[2].follows is False


def damaged(number, is_key=False):
    packet = Packet(number, is_key)
    packet.picture = SimpleNamespace(is_corrupt=True, key_frame=is_key, time=number * PERIOD_S)
    return packet


def test_what_is_predicted_from_a_damaged_picture_is_damaged_up_to_the_next_key_frame(
    play, monkeypatch
):
    monkeypatch.setattr(stream_module, "_UNSEEN_S", 0.0)
    monkeypatch.setattr(stream_module, "_BEHIND_S", LONG_S)
    key = Packet(4, True)
    key.picture = SimpleNamespace(is_corrupt=False, key_frame=True, interlaced_frame=False)
    key.picture.time = 0.4
    capture, _ = play([Packet(0, True), damaged(1), Packet(2), Packet(3), key, Packet(5)])
    capture._images = SimpleNamespace(image_of=lambda picture, aspect: picture.time)
    answers = [capture.read() for _ in range(6)]

    assert [answer if isinstance(answer, str) else answer.image for answer in answers] == [
        0.0,
        "the decoder found damage in it",
        "it is predicted from a damaged one",
        "it is predicted from a damaged one",
        0.4,
        0.5,
    ]


def test_stream_that_is_renewed_without_key_frames_is_whole_again_in_time(play, monkeypatch):
    monkeypatch.setattr(stream_module, "_HEALS_S", 0.0)
    monkeypatch.setattr(stream_module, "_UNSEEN_S", 0.0)
    capture, _ = play([Packet(0, True), damaged(1), Packet(2)])
    answers = [isinstance(capture.read(), str) for _ in range(3)]

    assert answers == [False, True, False]


def test_interlaced_video_is_told_once(play, caplog):
    packets = numbers(0, 2, keys=[0])
    for packet in packets:
        packet.picture = SimpleNamespace(
            is_corrupt=False, key_frame=True, interlaced_frame=True, time=0.0
        )
    capture, _ = play(packets)
    capture._images = SimpleNamespace(image_of=lambda picture, aspect: None)
    for _ in packets:
        capture.read()

    assert caplog.text.count("its video is interlaced") == 1


def test_of_several_videos_the_largest_is_played():
    container = Container()
    small, large = Stream(), Stream()
    small.codec_context.width = 2
    container.streams = SimpleNamespace(video=[small, large])
    container.format = SimpleNamespace(name="mpegts")
    container.close = lambda: None
    container.inbox.put(None)
    capture = StreamCapture(container, parse_source("rtsp://test"))
    capture.release()

    assert capture._stream is large


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (av.error.ExitError(1, "Immediate exit requested"), "sends no video"),
        (av.error.InvalidDataError(1, "Invalid data found when"), "^Invalid data|^invalid data"),
        (SourceError("the connection was cut in the middle"), "^the connection was cut"),
    ],
)
def test_reading_that_fails_is_told_without_its_cause(play, error, message):
    capture, _ = play([error])
    with pytest.raises(SourceError, match=message) as caught:
        eventually(lambda: capture.read() is not None)

    assert caught.value.__cause__ is caught.value.__context__ is None


class TestRtspCameras:
    """That answer, and then nothing comes."""

    @pytest.fixture(autouse=True)
    def impatience(self, short_timeouts):
        pass

    @pytest.mark.parametrize("method", ["OPTIONS", "SETUP", "PLAY"])
    def test_request_that_is_not_answered_is_called_that(self, method):
        with RawServer(RtspScript(f"no answer to {method}")) as server:
            uri = parse_source(server.address.replace("http", "rtsp"))
            with pytest.raises(SourceError, match="sends no usable answer in time"):
                connect_stream(uri)

    def test_camera_that_sends_no_video_is_called_that(self):
        with RawServer(RtspScript("silent")) as server:
            capture = connect_stream(parse_source(server.address.replace("http", "rtsp")))
            with pytest.raises(SourceError, match=r"it answers, but sends no video \(no data for"):
                eventually(lambda: capture.read() is not None)
            capture.release()
