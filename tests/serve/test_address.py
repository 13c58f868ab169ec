"""Addresses as users type them, and names as strangers do."""

import socket

import pytest

from dff_edge.errors import ConfigError, SinkError
from dff_edge.serve.address import Address, is_own_host, listen, own_names, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8080", "127.0.0.1", 8080),
        (":8080", "127.0.0.1", 8080),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("localhost:0", "localhost", 0),
        ("robot-7.lan:65535", "robot-7.lan", 65535),
        ("[::1]:8080", "::1", 8080),
    ],
)
def test_address_is_understood(text, host, port):
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    ["", "robot", "robot:", "65536", "127.0.0.1:99999", "::1:8080", "http://a:80", "a b:80", "-1"]
    + ["[::1::]:80", "8080\n", "\N{SUPERSCRIPT TWO}"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError, match="expected"):
        parse_address(text)


def test_address_is_written_as_a_browser_takes_it():
    assert str(Address("::1", 80)) == "[::1]:80"
    assert str(Address("0.0.0.0", 80)) == "0.0.0.0:80"


def test_busy_port_is_told():
    with (
        socket.create_server(("127.0.0.1", 0)) as busy,
        pytest.raises(SinkError, match=r"127\.0\.0\.1:\d+: the port is in use.*another port"),
    ):
        listen(Address("127.0.0.1", busy.getsockname()[1]))


def test_unknown_host_is_told():
    with pytest.raises(SinkError, match=r"no host 'no\.such\.invalid'"):
        listen(Address("no.such.invalid", 0))


def test_address_of_another_machine_is_told():
    with pytest.raises(SinkError, match="no such address"):
        listen(Address("192.0.2.1", 0))  # a range that is for documentation only


@pytest.mark.parametrize(
    "header",
    ["localhost:8080", "LOCALHOST", "127.0.0.1", "127.0.0.1:9000", "[::1]:8080", "192.168.0.7:80"],
)
def test_own_names_and_ip_addresses_are_ours(header):
    assert is_own_host(header, own_names(Address("127.0.0.1", 8080), on_loopback=True))


@pytest.mark.parametrize(
    "header",
    [None, "", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.com"]
    + ["localhost@evil.example", "127.0.0.1:8080/", "127.0.0.1 evil", "[evil]"],
)
def test_name_of_a_stranger_is_not_ours(header):
    assert not is_own_host(header, own_names(Address("127.0.0.1", 8080), on_loopback=True))


def test_names_of_the_machine_are_ours_on_the_network_only(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "Robot.lan")
    for name in ("robot.lan", "robot", "robot.local:8080", "given.example"):
        address = Address("given.example", 8080)
        assert is_own_host(name, own_names(address, on_loopback=False))
    assert not is_own_host("robot", own_names(Address("127.0.0.1", 8080), on_loopback=True))
