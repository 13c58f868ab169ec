"""Bytes in order, all of them hashed, few of them held."""

from __future__ import annotations

import hashlib
import io
import random
import tracemalloc

import pytest

from dff_edge.bundle.graphs.byte_stream import ByteStream
from dff_edge.bundle.graphs.protobuf import WireError

DATA = random.Random(0).randbytes(300_000)


def stream_of(data: bytes) -> ByteStream:
    return ByteStream(io.BytesIO(data), len(data))


@pytest.mark.parametrize("seed", range(5))
def test_pieces_are_those_of_the_file_however_they_are_read(seed):
    rng, stream, at = random.Random(seed), stream_of(DATA), 0
    while at < len(DATA):
        count = min(rng.choice([0, 1, 7, 1000, 70_000]), len(DATA) - at)
        if rng.random() < 0.4:
            stream.skip(count, "x")
        else:
            assert stream.take(count, "x") == DATA[at : at + count]
        at += count
        assert stream.position == at
    assert stream.sha256() == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("taken", [0, 1, 100_000, 300_000])
def test_the_digest_is_of_all_wherever_reading_stopped(taken):
    stream = stream_of(DATA)
    stream.take(taken, "x")

    assert stream.sha256() == hashlib.sha256(DATA).hexdigest()


def test_numbers_are_read_up_to_the_end():
    stream = stream_of(b"\x07\xac\x02\x01")

    assert [stream.varint() for _ in range(3)] == [7, 300, 1]
    with pytest.raises(WireError, match="a number has no end"):
        stream.varint()


def test_more_than_there_is_is_told():
    with pytest.raises(WireError, match="a Tensor message needs 300001 bytes"):
        stream_of(DATA).skip(300_001, "Tensor")
    with pytest.raises(WireError, match="a Tensor message needs"):
        stream_of(DATA).take(300_001, "Tensor")


def test_a_file_that_was_cut_meanwhile_is_told():
    stream = ByteStream(io.BytesIO(DATA), 2 * len(DATA))

    with pytest.raises(WireError, match="truncated or damaged"):
        stream.skip(len(DATA) + 1, "Tensor")


def test_what_is_passed_over_is_not_held(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    tracemalloc.start()
    with path.open("rb") as file:
        stream = ByteStream(file, 1 << 30)
        stream.skip(1 << 29, "x")
        stream.sha256()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4e6
