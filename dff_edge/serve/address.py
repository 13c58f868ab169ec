"""Addresses of a page, and the host names by which it may be requested."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass

from dff_edge.errors import ConfigError, SinkError

_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):)?(?P<port>[0-9]{1,5})")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_SEND_BUFFER_BYTES = 1 << 17  # a slow viewer lags by that much, not by the default of megabytes


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by name or IP address (IPv6 without brackets), and a port; 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse ``PORT``, ``:PORT``, ``HOST:PORT`` or ``[IPv6]:PORT``.

    Without a host it is this machine alone.

    Raises:
        ConfigError: it is not an address.

    Example:
        >>> parse_address(":8080")
        Address(host='127.0.0.1', port=8080)
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise ConfigError(
            f"'{text}' is no address to serve at, expected a port (8080), which serves this "
            "machine alone, or HOST:PORT (0.0.0.0:8080), with a port up to 65535."
        )
    host = (found["host"] or "127.0.0.1").strip("[]")
    if ":" in host:
        _check_ipv6(text, host)
    return Address(host, int(found["port"]))


def listen(address: Address) -> socket.socket:
    """Open the socket that the page is served from.

    Raises:
        SinkError: no such host, or the port is in use or not allowed.
    """
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, *_, where = found[0]
        listener = socket.create_server(where[:2], family=family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        return listener
    except socket.gaierror as error:
        raise SinkError(
            f"Cannot serve at {address}: there is no host '{address.host}' ({error.strerror}). "
            "0.0.0.0 means all addresses of this machine."
        ) from error
    except OSError as error:
        raise SinkError(f"Cannot serve at {address}: {_advice(error)}") from error


def own_names(address: Address, *, on_loopback: bool) -> frozenset[str]:
    """Return names, besides IP addresses, by which the page may be requested: ``is_own_host``."""
    names = {"localhost", address.host.lower()}
    if not on_loopback:
        own = socket.gethostname().lower()
        names |= {own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}
    return frozenset(names)


def is_own_host(header: str | None, names: frozenset[str]) -> bool:
    """Return whether a request is for this server, by its Host header.

    A foreign page in the browser of a viewer of this server can map its own name to this server's
    address (DNS rebinding) and then read the page. Such a request still carries the foreign name,
    so a name must be one of ours; an IP address cannot be rebound.
    """
    found = _HOST.fullmatch(header or "")
    if found is None:
        return False
    host = found["host"].lower().rstrip(".")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host in names
    return True


def _check_ipv6(text: str, host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError as error:
        raise ConfigError(f"'{text}': '{host}' is no IPv6 address, expected [::1]:8080.") from error


def _advice(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use by another program. Choose another port, or end that program."
    if error.errno == errno.EACCES:
        return "this user may not use the port. Choose one from 1024 up."
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address. 0.0.0.0 means all of its addresses."
    return f"{error.strerror}."
