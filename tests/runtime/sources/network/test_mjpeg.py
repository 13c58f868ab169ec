"""The newest picture of an MJPEG stream, and what becomes of the others."""

import threading

import cv2
import numpy as np
import pytest

from benchmarks._mjpeg_server import ClockedPictures, read_time
from dff_edge.errors import FrameError, SourceError
from dff_edge.runtime.sources.decoding.picture_size import MAX_PICTURE_PX
from dff_edge.runtime.sources.network import mjpeg
from dff_edge.runtime.sources.network.mjpeg import JpegDecoder, MjpegCapture
from dff_edge.runtime.sources.network.parts import Part
from tests.runtime.sources.cameras import LONG_S, eventually
from tests.runtime.sources.jpegs import ENCODINGS, jpeg, picture, without_tables


def grey(shade):
    return cv2.imencode(".jpg", np.full((16, 24, 3), shade, np.uint8))[1].tobytes()


class Parts:
    """Gives the pictures that a test lets pass; ``waiting`` is what it says."""

    def __init__(self):
        self.pictures = []
        self.may_read = threading.Semaphore(0)
        self.is_asked = threading.Semaphore(0)
        self.waiting = 0
        self.given = 0

    def read(self):
        self.is_asked.release()
        self.may_read.acquire(timeout=LONG_S)
        if not self.pictures:
            raise SourceError("the stream has ended")
        data, self.waiting = self.pictures.pop(0)
        self.given += 1
        return Part(data, float(self.given), float(self.given), None)

    def give(self, *pictures):
        """Have pictures received, each with so many bytes behind it, and wait until they are."""
        for each in pictures:
            self.pictures.append(each if isinstance(each, tuple) else (each, 0))
            assert self.is_asked.acquire(timeout=LONG_S)
            self.may_read.release()
        assert self.is_asked.acquire(timeout=LONG_S)
        self.is_asked.release()


class Body:
    def __init__(self, parts):
        self.parts = parts
        self.is_closed = False

    def abort(self):
        self.parts.may_read.release()

    def close(self):
        self.is_closed = True


@pytest.fixture
def camera():
    parts = Parts()
    body = Body(parts)
    capture = MjpegCapture(body, parts, "test")
    yield parts, capture
    parts.pictures.clear()
    capture.release()
    assert body.is_closed


def test_newest_is_decoded_and_the_others_are_counted(camera):
    parts, capture = camera
    parts.give(grey(10), grey(50), grey(90))

    shot = capture.read()

    assert abs(int(shot.image[0, 0, 0]) - 90) < 3
    assert (shot.skipped, shot.stamp_s, shot.follows) == (2, 3.0, True)
    parts.give(grey(10))
    assert capture.read().skipped == 0


def test_damaged_picture_is_a_failure_and_what_was_skipped_is_counted_with_the_next(camera):
    parts, capture = camera
    data = jpeg(picture(), "opencv 4:2:0")
    parts.give(data, data[: len(data) // 2] + b"\xff\xd9")

    assert "ends before the picture is complete" in capture.read()
    parts.give(data)
    assert capture.read().skipped == 1


def test_picture_behind_which_another_one_waits_is_passed_over(camera):
    parts, capture = camera
    old, new = grey(10), grey(90)
    parts.give((old, 2 * len(old)), (old, len(old)), new)

    shot = capture.read()

    assert abs(int(shot.image[0, 0, 0]) - 90) < 3
    assert (shot.skipped, shot.stamp_s) == (2, 3.0)


def test_part_of_a_picture_that_waits_is_no_reason_to_pass_one_over(camera):
    parts, capture = camera
    data = grey(10)
    parts.give((data, len(data) - 1))

    assert capture.read().skipped == 0


def test_one_comes_through_where_reading_never_keeps_up(camera):
    parts, capture = camera
    data = grey(10)
    parts.give(*[(data, 3 * len(data))] * 8)  # of four each, one is kept

    shot = capture.read()
    assert (shot.stamp_s, shot.skipped) == (8.0, 7)


def test_silence_is_a_question_and_the_end_an_error(camera):
    parts, capture = camera

    assert capture.read() is None
    parts.may_read.release()
    with pytest.raises(SourceError, match="the stream has ended"):
        eventually(lambda: capture.read() is not None)


def test_release_ends_a_receiver_that_waits():
    before = set(threading.enumerate())
    parts = Parts()
    capture = MjpegCapture(Body(parts), parts, "test")

    capture.release()

    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pictures_of_all_encoders_are_decoded(encoding):
    data = jpeg(picture(), encoding)
    image = JpegDecoder().decode(data)

    assert image.shape == (90, 130, 3)
    if "CMYK" not in encoding:
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        # In grey: decoders differ in how they spread halved chroma over the pixels.
        grey = [cv2.cvtColor(each, cv2.COLOR_BGR2GRAY).astype(int) for each in (image, expected)]
        assert np.abs(grey[0] - grey[1]).mean() < 2


@pytest.fixture(scope="module")
def large():
    """A JPEG that is checked and decoded at the same time."""
    image = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    assert len(data) > mjpeg._LARGE_BYTES
    return data


def test_large_pictures_are_checked_as_well(large):
    before = set(threading.enumerate())
    decoder = JpegDecoder()
    damaged = bytearray(large)
    damaged[len(large) // 2 : len(large) // 2 + 900] = bytes(900)

    assert decoder.decode(large).shape == (600, 800, 3)
    with pytest.raises(FrameError, match="damage"):
        decoder.decode(damaged)
    with pytest.raises(FrameError, match="ends before the picture is complete"):
        decoder.decode(large[: len(large) // 2] + b"\xff\xd9")
    with pytest.raises(FrameError, match="not an image|16000"):
        decoder.decode(b"\xff\xd8" + bytes(len(large)))
    assert decoder.decode(large).shape == (600, 800, 3)
    decoder.close()
    assert set(threading.enumerate()) <= before


def test_picture_without_huffman_tables_is_decoded():
    data = jpeg(picture(), "opencv 4:2:0")

    assert np.array_equal(JpegDecoder().decode(without_tables(data)), JpegDecoder().decode(data))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"GIF89a" + bytes(99)])
def test_what_is_no_picture_is_a_failure(data):
    with pytest.raises(FrameError):
        JpegDecoder().decode(data)


def test_size_is_looked_at_before_decoding(monkeypatch):
    data = bytearray(grey(10))
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = (16000).to_bytes(2, "big") * 2
    monkeypatch.setattr(mjpeg, "damage_in_jpeg", lambda _: pytest.fail("it was looked into"))

    assert 16000 * 16000 > MAX_PICTURE_PX
    with pytest.raises(FrameError, match="16000 x 16000 pixels; at most"):
        JpegDecoder().decode(data)


def test_server_of_the_benchmark_draws_its_clock_into_large_pictures():
    pictures = ClockedPictures((1088, 1920), count=2)
    for number in range(3):
        image = JpegDecoder().decode(pictures.encode(number, 1234.567 + number))
        assert image.shape == (1088, 1920, 3)
        assert read_time(image) == pytest.approx(1234.567 + number)
