"""Opening and reading network cameras, impatiently."""

import socket
import time

import pytest

from dff_edge.runtime.sources.camera import CameraSource, Patience
from dff_edge.runtime.sources.network import connection as network
from dff_edge.uri import parse_source

LONG_S = 30.0  # never reached when the code is right
READ_S = 1.5  # in place of 4 s, so that a stall is a loss soon
QUICK = Patience(gap_s=0.6, lost_s=5, first_retry_s=0.05, max_retry_s=0.2)


def open_quickly(uri):
    parsed = parse_source(uri)
    return CameraSource(
        lambda: network.connect_stream(parsed),
        parsed.text,
        retry_s=parsed.seconds("retry"),
        patience=QUICK,
    )


def take(source, count):
    frames = [source.read(LONG_S) for _ in range(count)]
    assert None not in frames
    return frames


def take_until(source, condition):
    """Frames up to and with the first that the condition holds of."""
    end_s = time.monotonic() + LONG_S
    frames = []
    while time.monotonic() < end_s:
        frame = source.read(1.0)
        if frame is not None:
            frames.append(frame)
            if condition(frame):
                return frames
    pytest.fail("no such frame came")


def wait_until(condition):
    end_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.001)


def wait_for(source, state):
    end_s = time.monotonic() + LONG_S
    while source.state != state:
        assert time.monotonic() < end_s, f"it never was {state}, but {source.state}"
        source.read(0.01)


def assert_in_order(frames):
    pairs = list(zip(frames, frames[1:], strict=False))
    assert all(a.index < b.index and a.stamp_s < b.stamp_s for a, b in pairs)
    assert all(a.segment <= b.segment for a, b in pairs)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
