"""Chains of FFmpeg's filters, through PyAV."""

from __future__ import annotations

from typing import Any

import av.error
import av.filter


class FilterChain:
    """FFmpeg filters, one behind another, over the pictures of a stream.

    Args:
        filters: names with arguments, as ``("bwdif", "mode=send_frame")``.
    """

    def __init__(self, *filters: tuple[str, str]) -> None:
        self._filters = filters
        self._graph: Any = None
        self._form: tuple[object, ...] = ()

    def push(self, picture: Any) -> list[Any]:
        """Pass a picture in; return those that are ready: none, one or several."""
        form = (
            picture.width,
            picture.height,
            picture.format.name,
            picture.colorspace,
            picture.color_range,
        )
        ready = []
        if form != self._form:
            ready = self.flush()
            self._form, self._graph = form, self._build(*form)
        self._graph.push(picture)
        return ready + self._pull()

    def flush(self) -> list[Any]:
        """Return the pictures that are still inside. The chain starts over."""
        if self._graph is None:
            return []
        self._graph.push(None)
        ready = self._pull()
        self._graph, self._form = None, ()
        return ready

    def _pull(self) -> list[Any]:
        ready = []
        while True:
            try:
                ready.append(self._graph.pull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return ready

    def _build(self, width: int, height: int, name: str, matrix: int, levels: int) -> Any:
        graph = av.filter.Graph()
        nodes = [
            graph.add(
                "buffer",
                video_size=f"{width}x{height}",
                pix_fmt=name,
                time_base="1/1000",
                pixel_aspect="1/1",
                colorspace=str(matrix),
                range=str(levels),
            ),
            *(graph.add(name, arguments or None) for name, arguments in self._filters),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes)
        graph.configure()
        return graph
