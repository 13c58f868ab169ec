"""When data arrived, on real connections of the loopback."""

import socket
import sys
import threading
import time

import pytest

from dff_edge.runtime.sources.network import limits
from dff_edge.runtime.sources.network.arrivals import ArrivalReader, SilenceError
from tests.runtime.sources.cameras import LONG_S, eventually
from tests.runtime.sources.servers import tls_context

CLOSE_S = 0.05  # what the clocks and a busy machine may differ by
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel keeps no times here")


@pytest.fixture
def ends():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    reader = ArrivalReader(client)
    reader.deadline_s = time.monotonic() + LONG_S
    yield server, reader
    server.close()
    reader.close()


def pass_by(seconds):
    start_s = time.monotonic()
    eventually(lambda: time.monotonic() - start_s >= seconds)


def read(reader, size):
    data = bytearray(size)
    return bytes(data[: reader.readinto(data)])


@on_linux
def test_what_waited_arrived_when_it_came(ends):
    server, reader = ends
    sent_s = time.monotonic()
    server.sendall(b"a" * 10)
    pass_by(0.2)

    assert reader.waiting == 10
    assert read(reader, 4) == b"aaaa"
    assert reader.waiting == 6
    assert reader.arrival_s == pytest.approx(sent_s, abs=CLOSE_S)


@on_linux
def test_last_byte_of_a_read_counts(ends):
    server, reader = ends
    server.sendall(b"a")
    pass_by(0.2)
    sent_s = time.monotonic()
    server.sendall(b"b")
    eventually(lambda: len(reader._socket.recv(10, socket.MSG_PEEK)) == 2)

    assert read(reader, 10) == b"ab"
    assert reader.arrival_s == pytest.approx(sent_s, abs=CLOSE_S)


def test_without_times_of_the_kernel_what_waited_is_taken_for_old(ends):
    server, reader = ends
    reader._has_stamps = False
    opened_s = time.monotonic()
    server.sendall(b"a")
    pass_by(0.2)

    assert read(reader, 10) == b"a"
    assert reader.arrival_s <= opened_s


def test_without_times_of_the_kernel_what_is_waited_for_is_new(ends):
    server, reader = ends
    reader._has_stamps = False
    done = []
    thread = threading.Thread(target=lambda: done.append(read(reader, 10)))
    thread.start()
    pass_by(0.4)  # longer than one slice of the wait
    sent_s = time.monotonic()
    server.sendall(b"a")
    thread.join(LONG_S)

    assert done == [b"a"]
    assert sent_s <= reader.arrival_s <= sent_s + LONG_S


@on_linux
def test_clock_that_was_set_back_makes_no_arrival_in_the_future(ends, monkeypatch):
    server, reader = ends
    server.sendall(b"a")
    wall_s = time.time()
    monkeypatch.setattr(time, "time", lambda: wall_s - 3600)

    assert read(reader, 10) == b"a"
    assert reader.arrival_s <= time.monotonic()


def test_full_read_waits_for_all_of_it(ends):
    server, reader = ends
    reader.fills = True
    done = []
    thread = threading.Thread(target=lambda: done.append(read(reader, 4)))
    thread.start()
    for letter in (b"a", b"b", b"cd"):
        server.sendall(letter)
        pass_by(0.05)
    thread.join(LONG_S)

    assert done == [b"abcd"]


def test_full_read_of_what_ends_before_is_short(ends):
    server, reader = ends
    reader.fills = True
    server.sendall(b"ab")
    server.close()

    assert read(reader, 4) == b"ab"
    assert read(reader, 4) == b""


@pytest.mark.parametrize("fills", [False, True])
def test_silence_is_waited_for_no_longer_than_said(ends, monkeypatch, fills):
    _, reader = ends
    reader.fills = fills
    monkeypatch.setattr(limits, "READ_TIMEOUT_S", 0.3)
    start_s = time.monotonic()
    with pytest.raises(SilenceError, match=r"no data for 0\.3 s"):
        read(reader, 4)

    assert time.monotonic() - start_s < LONG_S


def test_no_read_goes_on_beyond_the_deadline_though_data_comes(ends):
    server, reader = ends
    reader.deadline_s = time.monotonic() + 0.3
    reader.fills = True
    is_over = threading.Event()

    def drip():
        while not is_over.wait(0.01):
            server.sendall(b"a")

    dripping = threading.Thread(target=drip)
    dripping.start()
    with pytest.raises(SilenceError, match="took too long"):
        read(reader, 1 << 20)
    is_over.set()
    dripping.join()


def test_waiting_read_is_ended_from_another_thread(ends):
    _, reader = ends
    done = []
    thread = threading.Thread(target=lambda: done.append(read(reader, 4)))
    thread.start()
    reader.abort()
    thread.join(LONG_S)

    assert done == [b""]


@on_linux
def test_encrypted_data_has_its_arrival_too(tmp_path):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    served = []
    thread = threading.Thread(
        target=lambda: served.append(tls_context(tmp_path).wrap_socket(server, server_side=True))
    )
    thread.start()
    reader = ArrivalReader(context.wrap_socket(client))
    thread.join(LONG_S)
    with served[0], reader:
        sent_s = time.monotonic()
        served[0].sendall(b"a" * 100)
        pass_by(0.2)
        first = read(reader, 10)
        first_s = reader.arrival_s
        reader.fills = True
        rest = read(reader, 90)

    assert (first, rest) == (b"a" * 10, b"a" * 90)
    assert (first_s, reader.arrival_s) == pytest.approx((sent_s, sent_s), abs=CLOSE_S)
