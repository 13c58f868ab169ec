"""Recordings on a web server, against the same file read from this machine."""

import random
import struct
import threading

import av
import numpy as np
import pytest

from dff_edge.errors import ConfigError, SourceError
from dff_edge.runtime.sources import LiveSource, open_source
from dff_edge.runtime.sources.network import limits
from dff_edge.uri import parse_source
from tests.runtime.sources.cameras import LONG_S
from tests.runtime.sources.servers import RawServer, multipart, ok
from tests.runtime.sources.videos import noise, shades, write_video

pytestmark = pytest.mark.usefixtures("short_timeouts")


class FileServer:
    """Has a file, with or without parts of it; ``cut`` connections break after so many bytes."""

    def __init__(self, data, *, ranges=True, length=True, cut=()):
        self.data = data
        self.ranges = ranges
        self.length = length
        self.tag = "x7"
        self.cut = list(cut)
        self.server = RawServer(self._answer)

    def _answer(self, connection, head):
        start = 0
        asked = [line for line in head.splitlines() if line.startswith("Range: bytes=")]
        if asked and self.ranges:
            start = int(asked[0].removeprefix("Range: bytes=").rstrip("-"))
        body = self.data[start:]
        headers = [f"Content-Length: {len(body)}"] if self.length else []
        answer = ok("Content-Type: video/mp4", f"ETag: {self.tag}", *headers)
        if asked and self.ranges:
            place = f"Content-Range: bytes {start}-{len(self.data) - 1}/{len(self.data)}\r\n"
            answer = answer.replace(b"200 OK\r\n", b"206 Part\r\n" + place.encode())
        connection.sendall(answer + body[: self.cut.pop(0) if self.cut else None])

    @property
    def address(self):
        return self.server.address

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.__exit__()


def frames_of(uri):
    with open_source(uri) as source:
        return list(source), source


def turn(path):
    """Have a container say that it was filmed with a phone held upright."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2: the matrix of a track header
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def assert_same(frames, expected):
    assert [(f.index, f.stamp_s) for f in frames] == [(f.index, f.stamp_s) for f in expected]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, expected, strict=True))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """An MP4 of 1 MB whose index is at its end, as cameras write it."""
    folder = tmp_path_factory.mktemp("video")
    images = noise(np.random.default_rng(0), 30, (240, 320))
    return write_video(folder / "a.mp4", images, options={"bf": "2", "g": "10", "crf": "10"})


@pytest.fixture(scope="module")
def streamable(tmp_path_factory):
    """The same with its index at the beginning."""
    folder = tmp_path_factory.mktemp("streamable")
    images = noise(np.random.default_rng(0), 30, (240, 320))
    return write_video(folder / "a.mp4", images, options={"crf": "10"}, movflags="faststart")


@pytest.mark.parametrize("ranges", [True, False], ids=["parts", "no parts"])
def test_recording_is_played_once_and_every_frame(video, ranges):
    data = video.read_bytes()
    assert data.index(b"moov") > data.index(b"mdat") + 500_000
    with FileServer(data, ranges=ranges) as server:
        frames, source = frames_of(server.address)

    expected, file = frames_of(video)
    assert_same(frames, expected)
    assert (source.live, source.fps, source.length) == (False, file.fps, file.length)
    assert (source.counts.read, source.counts.failed, source.counts.dropped) == (30, 0, 0)


@pytest.mark.parametrize("ranges", [True, False], ids=["parts", "no parts"])
def test_connection_that_breaks_is_made_anew_where_it_broke(video, ranges):
    with FileServer(video.read_bytes(), ranges=ranges, cut=[300_000, 200_000, 0]) as server:
        frames, _ = frames_of(server.address)
        asked = [head for head in server.server.heads if "Range" in head]

    assert_same(frames, frames_of(video)[0])
    assert len(asked) >= 3
    assert all("If-Range: x7" in head for head in asked)


def test_connection_that_does_not_come_back_is_an_error_after_the_frames_before(streamable):
    with FileServer(streamable.read_bytes(), cut=[300_000] + [0] * 99) as server:
        source = open_source(f"{server.address}?retry=0.5")
        frames = []
        with pytest.raises(SourceError, match=r"/video' broke off after \d+ of \d+ bytes: the con"):
            frames.extend(source)
        source.close()
        assert source.counts.read >= 1

    assert "retry" not in server.server.heads[0]


def test_failed_read_prints_no_traceback(streamable, capfd):
    with (
        FileServer(streamable.read_bytes(), cut=[2000] + [0] * 1000) as server,
        pytest.raises(SourceError, match="broke off after"),
    ):
        frames_of(f"{server.address}?retry=0")
    assert "Traceback" not in capfd.readouterr().err


def test_file_that_is_changed_meanwhile_is_an_error(streamable):
    with FileServer(streamable.read_bytes(), cut=[300_000]) as server:
        source = open_source(server.address)
        server.tag = "x8"
        with pytest.raises(SourceError, match="it has changed while it was played"):
            list(source)
        source.close()


def test_rotation_is_applied(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24] = 255
    path = write_video(tmp_path / "a.mp4", [image] * 3)
    turn(path)
    with FileServer(path.read_bytes()) as server:
        frames, _ = frames_of(server.address)

    assert frames[0].image.shape == (64, 48, 3)
    assert_same(frames, frames_of(path)[0])


@pytest.mark.parametrize(
    ("length", "query", "live"),
    [
        (True, "", False),
        (False, "", True),
        (True, "?as=live", True),
        (False, "?as=recording", False),
        (True, "?as=recording&size=2", False),
    ],
)
def test_what_has_a_length_is_a_recording_unless_it_is_said_otherwise(
    tmp_path, length, query, live
):
    path = write_video(tmp_path / "a.ts", shades(9), container="mpegts")
    with FileServer(path.read_bytes(), length=length) as server:
        source = open_source(server.address + query)
        assert source.live is isinstance(source, LiveSource) is live
        if not live:
            assert_same(list(source), frames_of(path)[0])
        source.close()

    asked = server.server.heads[0].split()[1]
    assert asked == ("/video?size=2" if "size" in query else "/video")


def test_of_several_tracks_one_can_be_chosen(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        tracks = [out.add_stream("mjpeg", rate=25) for _ in range(2)]
        for track, size in zip(tracks, [(48, 64), (96, 128)], strict=True):
            track.height, track.width, track.pix_fmt = *size, "yuvj420p"
        for track in tracks:
            image = np.zeros((track.height, track.width, 3), np.uint8)
            out.mux(track.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
    with FileServer(path.read_bytes()) as server:
        chosen, _ = frames_of(f"{server.address}?track=0")
        largest, _ = frames_of(server.address)

    assert (chosen[0].image.shape, largest[0].image.shape) == ((48, 64, 3), (96, 128, 3))
    assert server.server.heads[0].startswith("GET /video HTTP")


def test_what_is_for_recordings_is_refused_of_a_stream(tmp_path):
    path = write_video(tmp_path / "a.ts", shades(9), container="mpegts")
    with FileServer(path.read_bytes(), length=False) as server:
        with pytest.raises(SourceError, match=r"it is live, and \?track= is for recordings"):
            open_source(f"{server.address}?track=1")


def test_multipart_is_live_whatever_length_it_states():
    def script(connection, head):
        connection.sendall(multipart("Content-Length: 999999999") + b"--picture\r\n")
        connection.recv(1)

    with RawServer(script) as server, open_source(server.address) as source:
        assert source.live


def test_single_picture_is_refused():
    answer = ok("Content-Type: image/jpeg", "Content-Length: 9") + bytes(9)
    with RawServer(lambda connection, head: connection.sendall(answer)) as server:
        with pytest.raises(SourceError, match="it is a single picture"):
            open_source(server.address)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"#EXTM3U\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
            "not of a video format|cannot",
        ),
        (b"hello" * 100, "not of a video format|cannot"),
        (b"", "not of a video format|cannot"),
    ],
)
def test_file_that_is_no_video_is_refused_without_its_password(data, message):
    with FileServer(data) as server:
        address = server.address.replace("://", "://robot:secret1@")
        with pytest.raises(SourceError, match=message) as caught:
            open_source(address + "?pin=secret1")

    assert "secret1" not in str(caught.value)


def test_close_ends_a_read_that_waits(video, monkeypatch):
    monkeypatch.setattr(limits, "READ_TIMEOUT_S", LONG_S)
    data = video.read_bytes()
    head = ok(f"Content-Length: {len(data)}")
    is_over = threading.Event()

    def script(connection, request):
        start = int(request.partition("Range: bytes=")[2].partition("-")[0] or 0)
        if start:  # the index, at the end
            place = f"Content-Range: bytes {start}-{len(data) - 1}/{len(data)}"
            connection.sendall(head.replace(b"200 OK", b"206 Part\r\n" + place.encode()))
            connection.sendall(data[start:] if start > len(data) // 2 else data[start:][:1_000_000])
        else:
            connection.sendall(head + data[:100_000])
        is_over.wait(LONG_S)

    with RawServer(script) as server:
        source = open_source(server.address)
        thread = threading.Thread(target=lambda: list(source), daemon=True)
        thread.start()
        source.close()
        thread.join(LONG_S)
        is_over.set()

    assert not thread.is_alive()


def test_any_reads_and_seeks_give_the_bytes_of_the_file():
    from dff_edge.runtime.sources.network.web import open_web
    from dff_edge.runtime.sources.network.web_file import WebFile

    rng = random.Random(3)
    data = rng.randbytes(900_000)
    with FileServer(data, cut=[rng.randrange(400_000) for _ in range(20)]) as server:
        file = WebFile(parse_source(server.address), open_web(server.address), 5.0)
        for _ in range(200):
            if rng.random() < 0.2:
                place = rng.randrange(len(data))
                assert file.seek(place) == file.tell() == place
            place = file.tell()
            piece = file.read(rng.choice([1, 100, 30_000]))
            assert piece == data[place : place + len(piece)]
            assert piece or place == len(data)
        assert file.seek(-5, 2) == len(data) - 5
        assert file.read(99) == data[-5:]
        assert file.read(99) == b""
        file.close()
        file.seek(0)
        with pytest.raises(SourceError, match="it was closed"):
            file.read(1)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://h/v?as=file", "as is 'file', expected live or recording"),
        ("rtsp://h/v?as=live", "as is for http:// only"),
    ],
)
def test_other_wishes_are_refused(uri, message):
    with pytest.raises(ConfigError, match=message):
        parse_source(uri)


def test_rotation_of_a_stream_is_applied(tmp_path):
    path = write_video(tmp_path / "a.mp4", shades(9), movflags="frag_keyframe+empty_moov")
    turn(path)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation
    with FileServer(path.read_bytes(), length=False) as server, open_source(server.address) as live:
        assert live.live
        assert next(live).image.shape == (64, 48, 3)
