"""Network cameras over HTTP, played by a real server on the loopback."""

import errno
import io
import socket
import threading
import time
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from benchmarks._mjpeg_server import MjpegServer
from dff_edge.errors import SourceError
from dff_edge.runtime.sources import open_source
from dff_edge.runtime.sources.network import connection as network
from dff_edge.runtime.sources.network import limits, stream
from dff_edge.uri import parse_source
from tests.runtime.sources.streams import (
    LONG_S,
    assert_in_order,
    free_port,
    open_quickly,
    take,
    take_until,
    wait_for,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("short_timeouts")


@pytest.fixture
def http():
    with MjpegServer() as server:
        yield server


class TestHttp:
    def test_plays(self, http):
        before = time.monotonic()
        with open_source(http.address) as source:
            frames = take(source, 10)

        assert_in_order(frames)
        assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
        assert frames[0].segment == frames[-1].segment == 0
        assert all(before < f.stamp_s <= time.monotonic() and f.live for f in frames)
        assert (source.state, source.counts.failed) == ("closed", 0)

    def test_slow_reader_gets_the_newest(self, http):
        with open_quickly(http.address) as source:
            (before,) = take(source, 1)
            enough = source.counts.dropped + 4
            wait_until(lambda: source.counts.dropped >= enough)
            (frame,) = take(source, 1)

        assert frame.index > before.index + 4
        assert frame.stamp_s > before.stamp_s

    def test_killed_server_is_waited_for(self, http):
        with open_quickly(http.address) as source:
            frames = take(source, 3)
            http.stop()
            wait_for(source, "lost")
            with MjpegServer(http.port):
                frames += take_until(source, lambda frame: frame.segment == 1)
                frames += take(source, 3)

        assert_in_order(frames)
        assert source.counts.reconnects == 1

    def test_cut_connection_is_made_anew(self, http):
        with open_quickly(http.address) as source:
            take(source, 2)
            http.drop_clients()
            take_until(source, lambda frame: frame.segment == 1)

        assert source.counts.reconnects == 1

    def test_stall_is_a_gap_and_then_a_loss(self, http):
        with open_quickly(http.address) as source:
            take(source, 2)
            http.stall()
            wait_for(source, "stalled")
            wait_for(source, "lost")
            http.go_on()
            take_until(source, lambda frame: frame.segment == 1)
            assert source.state == "live"

        assert source.counts.reconnects == 1

    def test_short_stall_is_a_gap_of_the_same_connection(self, http, monkeypatch):
        monkeypatch.setattr(limits, "READ_TIMEOUT_S", LONG_S)
        with open_quickly(http.address) as source:
            take(source, 2)
            http.stall()
            wait_for(source, "stalled")
            http.go_on()
            take_until(source, lambda frame: frame.segment == 1)

        assert (source.counts.reconnects, http.connections) == (0, 1)

    def test_changed_size_begins_a_segment(self, http):
        with open_quickly(http.address) as source:
            take(source, 2)
            http.size = (30, 40)
            frames = take_until(source, lambda frame: frame.image.shape == (30, 40, 3))

        assert frames[-1].segment == 1
        assert all(frame.segment == 0 for frame in frames[:-1])

    def test_bounded_outage_is_an_error(self, http):
        with open_quickly(f"{http.address}?retry=0.3") as source:
            take(source, 2)
            http.stop()
            with pytest.raises(SourceError, match=r"was lost after \d+ frames.*within 0\.3 s"):
                list(source)

    def test_close_from_another_thread_ends_a_wait(self, http):
        with open_quickly(http.address) as source:
            take(source, 2)
            http.stall()
            rest = []
            consumer = threading.Thread(target=lambda: rest.extend(source))
            consumer.start()
            source.close()
            consumer.join(LONG_S)

        assert not consumer.is_alive()

    def test_jump_of_the_camera_clock_begins_a_segment(self, http, every_picture):
        http.streams["/clip.ts"] = transport_stream([0, 1, 2, 3, 1000, 1001, 1002, 1003])
        capture = network.connect_stream(parse_source(f"http://127.0.0.1:{http.port}/clip.ts"))
        follows = [next_shot(capture).follows for _ in range(8)]
        with pytest.raises(SourceError, match="the stream has ended"):
            next_shot(capture)
        capture.release()

        assert follows == [True] * 4 + [False] + [True] * 3

    @pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mpeg2video"])
    def test_pictures_before_the_first_key_frame_are_passed_over(self, http, every_picture, codec):
        http.streams["/clip.ts"] = transport_stream(range(15), missing=3, codec=codec)
        capture = network.connect_stream(parse_source(f"http://127.0.0.1:{http.port}/clip.ts"))
        shots = [next_shot(capture) for _ in range(5)]
        with pytest.raises(SourceError, match="the stream has ended"):
            next_shot(capture)
        capture.release()

        assert not any(isinstance(shot, str) for shot in shots)

    def test_what_comes_before_the_first_key_frame_is_a_question(self, http):
        http.streams["/clip.ts"] = transport_stream(range(500), missing=1, gop=1000)
        http.piece = 1000
        capture = network.connect_stream(parse_source(f"http://127.0.0.1:{http.port}/clip.ts"))
        answers = [capture.read() for _ in range(2)]
        capture.release()

        assert answers == [None] * 2

    @pytest.mark.parametrize(
        ("has_key", "message"),
        [(False, "0 s, but no key frame.*key frame interval"), (True, "no picture could be dec")],
    )
    def test_stream_without_a_picture_is_not_waited_for_for_ever(
        self, http, monkeypatch, has_key, message
    ):
        monkeypatch.setattr(limits, "KEY_FRAME_S", 0.0)
        http.streams["/clip.ts"] = transport_stream(range(500), missing=int(not has_key), gop=1000)
        http.piece = 1000
        capture = network.connect_stream(parse_source(f"http://127.0.0.1:{http.port}/clip.ts"))
        capture._stream = Undecodable(capture._stream)
        with pytest.raises(SourceError, match=message):
            next_shot(capture)
        capture.release()

    def test_sound_alone_does_not_hold_up_a_read(self, http, every_picture):
        http.streams["/clip.ts"] = transport_stream(range(3), sound_packets=500)
        http.piece = 1000
        capture = network.connect_stream(parse_source(f"http://127.0.0.1:{http.port}/clip.ts"))
        answers = [capture.read() for _ in range(5)]
        capture.release()

        assert answers[-1] is None
        assert answers.count(None) < len(answers)

    def test_damaged_jpegs_of_a_container_are_failures(self, http, every_picture):
        file = io.BytesIO()
        with av.open(file, "w", format="matroska") as out:
            video = out.add_stream("mjpeg", rate=25)
            video.height, video.width, video.pix_fmt = 48, 64, "yuvj420p"
            for number in range(4):
                image = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
                out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        data = bytearray(file.getvalue())
        last = data.rindex(b"\xff\xda") + 300
        data[last : last + 200] = bytes(200)
        http.streams["/clip.mkv"] = bytes(data)
        capture = network.connect_stream(parse_source(f"http://127.0.0.1:{http.port}/clip.mkv"))
        capture._packets._thread.join(LONG_S)
        answer = capture.read()  # of the newest
        capture.release()

        assert isinstance(answer, str)
        assert "damaged" in answer

    def test_size_is_looked_at_before_decoding(self, http, monkeypatch, every_picture):
        monkeypatch.setattr(stream, "MAX_PICTURE_PX", 1000)
        http.streams["/clip.ts"] = transport_stream(range(8))
        capture = network.connect_stream(parse_source(f"http://127.0.0.1:{http.port}/clip.ts"))
        answer = capture.read()
        capture.release()

        assert isinstance(answer, str)

    def test_query_of_the_camera_is_sent(self, http):
        http.streams["/clip.ts"] = transport_stream(range(4))
        open_quickly(f"http://127.0.0.1:{http.port}/clip.ts?retry=0&fps=5").close()

        assert http.paths[0] == "/clip.ts?fps=5"

    def test_silent_server_is_an_error_in_time(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            uri = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            start_s = time.monotonic()
            with pytest.raises(SourceError, match="cannot be opened"):
                open_source(uri)

        assert time.monotonic() - start_s < LONG_S

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("/none", "404"),
            ("/list.m3u8", "not a video stream that dff-edge reads"),
            ("/text", "cannot be opened"),
        ],
    )
    def test_what_is_no_video_is_refused(self, http, path, message):
        playlist = b"#EXTM3U\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
        http.streams |= {"/list.m3u8": playlist, "/text": b"hello" * 100}
        with pytest.raises(SourceError, match=message):
            open_source(f"http://127.0.0.1:{http.port}{path}")


class Undecodable:
    """A stream whose packets make no pictures."""

    def __init__(self, stream):
        self.codec_context = stream.codec_context

    def decode(self, packet):
        return []


@pytest.fixture
def every_picture(monkeypatch):
    """Make an image of each picture, also where a newer one waits."""
    monkeypatch.setattr(stream, "_UNSEEN_S", 0.0)


def next_shot(capture):
    """Return the next result, after data that makes no picture."""
    while (shot := capture.read()) is None:
        pass
    return shot


def transport_stream(numbers, fps=25, missing=0, codec="libx264", gop=10, sound_packets=0):
    """An MPEG-TS file whose pictures have these numbers as times, in frame periods.

    Every tenth is a key frame; the first few may be missing, as for one who joins a stream. Sound
    may go on behind them.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as out:
        stream = out.add_stream(codec, rate=fps, options={"tune": "zerolatency", "g": str(gop)})
        sound = out.add_stream("mp2", rate=48000) if sound_packets else None
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            packets = stream.encode(frame)
            if place >= missing:
                out.mux(packets)
        out.mux(stream.encode(None))
        for number in range(sound_packets):
            heard = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16", "mono")
            heard.sample_rate, heard.pts = 48000, 1152 * number
            out.mux(sound.encode(heard))
    return file.getvalue()


def test_nothing_that_listens_is_an_error_at_once():
    uri = f"rtsp://user:pass1@127.0.0.1:{free_port()}/stream"
    with pytest.raises(SourceError, match="Connection refused") as caught:
        open_source(uri)

    assert "pass1" not in str(caught.value)


def test_host_that_is_not_known_is_an_error(monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")  # as FFmpeg does

    monkeypatch.setattr(network.av, "open", fail)
    with pytest.raises(SourceError, match="is the host's name right"):
        open_source("rtsp://no-such-host.invalid/stream")


class Container:
    """Stands in for what FFmpeg has opened."""

    def __init__(self, *video):
        self.streams = SimpleNamespace(video=video)
        self.is_closed = False

    def close(self):
        self.is_closed = True


@pytest.mark.parametrize(
    ("video", "error", "message"),
    [
        ([], SourceError, "cannot be opened: it has no video. Check"),
        ([SimpleNamespace(codec_context=None)], SourceError, "of a format that cannot be decoded"),
        ([SimpleNamespace(codec_context=object())], AttributeError, "has no attribute"),
    ],
    ids=["no video", "no decoder", "a fault of ours"],
)
def test_container_that_is_of_no_use_is_closed(monkeypatch, video, error, message):
    container = Container(*video)
    monkeypatch.setattr(network.av, "open", lambda *_, **__: container)
    with pytest.raises(error, match=message):
        network.connect_stream(parse_source("rtsp://camera/stream"))

    assert container.is_closed
