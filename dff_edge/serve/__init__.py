"""A page in a browser for a run: the picture, and its numbers. For devices without a screen.

    with open_server("8080", sources=["0"], classes=names, colours=colours) as server:
        (channel,) = server.channels
        channel.begin(source, sinks)
        for result in pipeline.run(source):
            channel.show(result)
        channel.finish("finished")

``/`` is the page, ``/stream.mjpg`` the picture, ``/stats.json`` the numbers, whose fields
`dff_edge.serve.numbers` documents. With several sources ``/`` shows all, ``?source=1`` names the
second one in each of these addresses, ``/sources.json`` has the numbers of all, and
``/picture.jpg`` is a single picture. Everything is read only.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dff_edge.errors import require
from dff_edge.runtime.drawing.style import DEFAULT_STYLE
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.keys import IN_ORDER, KeyMode
from dff_edge.runtime.policy import KeyFramePolicy
from dff_edge.runtime.sinks import Style
from dff_edge.serve import address as addresses
from dff_edge.serve.address import Address, parse_address

if TYPE_CHECKING:
    from dff_edge.serve.server import Server

__all__ = ["Address", "listen", "open_server", "parse_address"]


def listen(address: str | Address) -> socket.socket:
    """Open the port of a page, to be served later: connections wait until then.

    Returns:
        The ``listener`` of ``open_server``; close it, or use it in a ``with`` block.

    Raises:
        ConfigError: the address is invalid.
        MissingDependencyError: aiohttp is not installed.
        SinkError: the port is in use, for example by another run.
    """
    require("aiohttp", extra="serve", purpose="Showing a run in the browser")
    return addresses.listen(parse_address(address) if isinstance(address, str) else address)


def open_server(
    address: str | Address,
    *,
    sources: Sequence[str],
    classes: Sequence[str],
    colours: Colours,
    style: Style = DEFAULT_STYLE,
    policy: str | KeyFramePolicy = "",
    keys: str | KeyMode = IN_ORDER,
    listener: socket.socket | None = None,
) -> Server:
    """Serve the page of a run until it is closed.

    Args:
        address: ``PORT``, ``:PORT`` or ``HOST:PORT``; without a host only this machine is served.
        sources: the sources, as their user wrote them, without credentials.
        classes: names of the classes, by index.
        colours: ``(red, green, blue)`` of the classes, by index.
        style: which parts of results are drawn, and how; the page has a legend of its own.
        policy, keys: those of the pipeline, to be shown.
        listener: the address's open port, from ``listen``, which the server then owns.

    Returns:
        The running server; close it, or use it in a ``with`` block.

    Raises:
        ConfigError: the address is invalid.
        MissingDependencyError: aiohttp is not installed.
        SinkError: the address cannot be served: the port is in use, for example.
    """
    address = parse_address(address) if isinstance(address, str) else address
    listener = listen(address) if listener is None else listener
    from dff_edge.serve.server import Server

    return Server(
        address,
        listener,
        sources=sources,
        classes=classes,
        colours=colours,
        style=style,
        policy=str(policy),
        keys=str(keys),
    )
