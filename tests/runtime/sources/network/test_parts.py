"""Pictures of MJPEG bodies, against the pictures that were put in, however the data comes."""

import math
import random

import cv2
import numpy as np
import pytest

from dff_edge.errors import SourceError
from dff_edge.runtime.sources.network import limits
from dff_edge.runtime.sources.network.parts import PartReader
from tests.runtime.sources.jpegs import ENCODINGS, jpeg, picture

MULTIPART = "multipart/x-mixed-replace"
JPEGS = [jpeg(picture(seed), ENCODINGS[0]) for seed in range(3)]


class Body:
    """Hands out bytes in pieces; its arrival is the number of bytes handed out so far."""

    def __init__(self, data, kind=MULTIPART, boundary="picture", pieces=lambda: 1 << 20):
        self.kind = kind
        self.boundary = boundary
        self.place = 0
        self.until_s = math.nan
        self._data = data
        self._pieces = pieces

    @property
    def arrival_s(self):
        return float(self.place)

    @property
    def waiting(self):
        return len(self._data) - self.place

    def allow(self, until_s):
        self.until_s = until_s

    def read_some(self, size):
        data = self._data[self.place : self.place + min(size, self._pieces())]
        self.place += len(data)
        return data

    def read_into(self, view):
        data = self._data[self.place : self.place + len(view)]
        if len(data) < len(view):
            raise SourceError("the connection was cut in the middle")
        view[:] = data
        self.place += len(view)


class Endless(Body):
    """The same bytes again and again."""

    def read_some(self, size):
        self.place += size
        return (self._data * (size // len(self._data) + 1))[:size]

    def read_into(self, view):
        self.place += len(view)


def read_all(reader, parts):
    """Take parts until reading fails, as it does at the end."""
    while True:
        parts.append(reader.read())


def parts_of(body):
    """All parts up to the end, which is that of the stream."""
    parts = []
    with pytest.raises(SourceError, match="the stream has ended"):
        read_all(PartReader(body), parts)
    return parts


def written(jpegs, before="", line="--picture", length=True, end="", headers=""):
    """A multipart body."""
    body = before.encode()
    for data in jpegs:
        head = f"{line}\r\nContent-Type: image/jpeg\r\n{headers}"
        head += f"Content-Length: {len(data)}\r\n\r\n" if length else "\r\n"
        body += head.encode() + data + b"\r\n"
    return body + end.encode()


@pytest.mark.parametrize(
    ("body", "boundary"),
    [
        (written(JPEGS), "picture"),
        (written(JPEGS, end="--picture--\r\n"), "picture"),
        (written(JPEGS, before="\r\nhello\r\n"), "picture"),
        (written(JPEGS).replace(b"\r\n--", b"\r\n\r\n\r\n--"), "picture"),
        (written(JPEGS, line="--picture  "), "picture"),
        (written(JPEGS).replace(b"\r\nContent", b"\nContent"), "picture"),
        (written(JPEGS), "--picture"),
        (written(JPEGS, line="----picture"), "--picture"),
        (written(JPEGS, line="--other"), None),
        (written(JPEGS, headers="X-Nothing\r\n: empty\r\n"), "picture"),
    ],
    ids=[
        "plain", "with end", "preamble", "blank lines", "trailing spaces", "bare newlines",
        "hyphens in the name only", "hyphens in the name", "unnamed", "odd headers",
    ],
)  # fmt: skip
@pytest.mark.parametrize("length", [True, False], ids=["with lengths", "without"])
def test_pictures_of_parts(body, boundary, length):
    if not length:
        for data in JPEGS:
            body = body.replace(f"Content-Length: {len(data)}\r\n".encode(), b"")
    rng = random.Random(1)
    for pieces in (lambda: 1 << 20, lambda: 1, lambda: rng.choice([1, 2, 7, 700])):
        parts = parts_of(Body(body, boundary=boundary, pieces=pieces))
        assert [bytes(part.data) for part in parts] == JPEGS


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["video/x-motion-jpeg", MULTIPART])
def test_picture_without_a_length_ends_where_its_own_structure_says(encoding, kind):
    data = [jpeg(picture(seed), encoding) for seed in range(2)]
    body = b"".join(data) if kind != MULTIPART else written(data, length=False)
    parts = parts_of(Body(body, kind, pieces=lambda: 100))

    assert [bytes(part.data) for part in parts] == data


def test_small_picture_within_a_picture_is_not_its_end():
    thumbnail = JPEGS[0]
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    data = JPEGS[1][:2] + segment + JPEGS[1][2:]

    assert [bytes(part.data) for part in parts_of(Body(data * 2, ""))] == [data] * 2


def test_picture_without_a_length_is_there_before_the_next_begins():
    body = Body(written(JPEGS[:1], length=False) + b"--picture\r\n")
    reader = PartReader(body)

    assert bytes(reader.read().data) == JPEGS[0]


def test_what_stands_between_bare_pictures_is_passed_over():
    body = b"junk" + JPEGS[0] + b"\x00\x00\r\n" + JPEGS[1]

    assert [bytes(part.data) for part in parts_of(Body(body, ""))] == JPEGS[:2]


def test_picture_that_has_no_end_ends_at_the_next_boundary():
    cut = JPEGS[0][:-2]
    parts = parts_of(Body(written([cut, JPEGS[1]], length=False), pieces=lambda: 50))

    assert [bytes(part.data).rstrip(b"\r\n") for part in parts] == [cut, JPEGS[1]]


def test_lengths_that_are_too_small_are_not_trusted_any_more():
    body = written(JPEGS)
    for data in JPEGS:
        body = body.replace(f": {len(data)}".encode(), f": {len(data) - 9}".encode())
    parts = parts_of(Body(body))

    assert [bytes(part.data) for part in parts[1:]] == JPEGS[1:]


def test_parts_beside_the_pictures_are_passed_over():
    event = b"--picture\r\nContent-Type: text/plain\r\n\r\nmotion=1\r\n"
    measured = event.replace(b"plain\r\n", b"plain\r\nContent-Length: 8\r\n")
    body = written(JPEGS[:1]) + event + written(JPEGS[1:2]) + measured + written(JPEGS[2:])

    assert [bytes(part.data) for part in parts_of(Body(body))] == JPEGS


@pytest.mark.parametrize("length", [True, False])
def test_arrival_is_that_of_the_first_and_last_bytes_of_a_picture(length):
    body = written(JPEGS[:2], length=length)
    parts = parts_of(Body(body, pieces=lambda: 10))

    for part in parts:
        start = body.index(part.data)
        assert start < part.first_s <= start + 10  # bytes handed out: see Body
        assert part.first_s < part.last_s <= start + len(part.data) + 10


@pytest.mark.parametrize(
    ("header", "time_s"),
    [
        ("X-Timestamp: 1234.5", 1234.5),
        ("x-timestamp:7", 7.0),
        ("X-Timestamp: soon", None),
        ("X-Timestamp: nan", None),
        ("X-Timestamp: inf", None),
        ("X-Other: 1", None),
    ],
)
def test_time_that_a_camera_states(header, time_s):
    (part,) = parts_of(Body(written(JPEGS[:1], headers=header + "\r\n")))

    assert part.time_s == time_s


def test_picture_is_given_its_time_anew_each():
    body = Body(written(JPEGS))
    reader = PartReader(body)
    reader.read()
    first_s = body.until_s
    body.until_s = -math.inf
    reader.read()

    assert body.until_s >= first_s


@pytest.mark.parametrize(
    ("data", "kind", "boundary", "message"),
    [
        (b"--picture\r\nContent-Length: 2000000000\r\n\r\n", MULTIPART, "picture", "2000000000 by"),
        (b"nothing here\r\n", MULTIPART, "picture", "no boundary between them"),
        (b"x", MULTIPART, None, "no boundary between them"),
        (b"--picture\r\nX-A: b", MULTIPART, "picture", "headers of a part do not end"),
        (b"\xff\xd8\xff\xe0\x00\x02xxxx", "", None, "no end within"),
        (b"xxxx", "", None, "no end within"),
    ],
)
def test_what_would_take_all_memory_is_refused(data, kind, boundary, message, monkeypatch):
    monkeypatch.setattr(limits, "MAX_PICTURE_BYTES", 100_000)
    reader = PartReader(Endless(data, kind, boundary))
    with pytest.raises(SourceError, match=message):
        read_all(reader, [])

    assert len(reader._buffer) <= 300_000


def test_stream_that_is_cut_in_a_picture_says_so():
    reader = PartReader(Body(written(JPEGS[:1])[:-100]))
    with pytest.raises(SourceError, match="cut in the middle"):
        reader.read()


@pytest.mark.parametrize(
    ("data", "expected"), [(JPEGS[0], True), (b"\xff\xd8", None), (b"GIF89a", False)]
)
def test_beginning_is_looked_at_and_kept(data, expected):
    reader = PartReader(Body(data, "", pieces=lambda: 1))
    if expected is None:
        with pytest.raises(SourceError, match="has ended"):
            reader.starts_with_jpeg()
        return

    assert reader.starts_with_jpeg() is expected
    assert data.startswith(reader.taken())


def test_noise_ends_in_an_error_or_in_parts():
    rng = random.Random(0)
    pieces = [
        b"--picture",
        b"\r\n",
        b"\n",
        b"\xff\xd8",
        b"\xff\xd9",
        b"Content-Length: 5",
        b"x" * 9,
    ]
    pieces += [b"\xff\xda\x00\x02", b": ", b"--", JPEGS[0], bytes(5), b"\xff"]
    for _ in range(300):
        data = b"".join(rng.choices(pieces, k=30))
        kind = rng.choice([MULTIPART, ""])
        reader = PartReader(Body(data, kind, pieces=lambda: rng.choice([1, 50, 1000])))
        with pytest.raises(SourceError):
            read_all(reader, [])


def test_decoded_parts_are_the_pictures():
    image = np.full((48, 64, 3), 90, np.uint8)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    (part,) = parts_of(Body(written([data])))

    assert np.array_equal(cv2.imdecode(np.frombuffer(part.data, np.uint8), 1), image)
