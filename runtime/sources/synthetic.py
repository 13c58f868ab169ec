"""Frames of a synthetic street, rendered on request."""

from __future__ import annotations

from collections.abc import Iterator

from dff_edge.errors import ConfigError
from dff_edge.frames import Frame
from dff_edge.runtime.sources.base import DEFAULT_FPS, PulledSource
from dff_edge.synthetic import MOTIONS, SPLITS, StreetScene
from dff_edge.uri import SourceUri


class SyntheticSource(PulledSource):
    """``synthetic://street``; the frames of a seed are always the same.

    Keys: ``seed`` (0), ``frames`` (100), ``height`` (256), ``width`` (512), ``split`` (val),
        ``motion`` (steady; mixed stands, drives and turns), ``fps`` (30).
    """

    def __init__(self, uri: SourceUri) -> None:
        super().__init__(uri.text)
        split, motion = uri.options.get("split", "val"), uri.options.get("motion", "steady")
        for key, value, known in (("split", split, SPLITS), ("motion", motion, MOTIONS)):
            if value not in known:
                raise ConfigError(
                    f"'{uri.text}': {key} is '{value}', expected one of {', '.join(known)}."
                )
        self.fps: float = uri.per_second("fps") or DEFAULT_FPS
        height, width = uri.integer("height") or 256, uri.integer("width") or 512
        self.length: int = uri.integer("frames") or 100
        self.scene = StreetScene(
            seed=uri.integer("seed", minimum=0) or 0,
            split=split,
            size=(height, width),
            length=self.length,
            motion=motion,
        )
        self._look_ahead()

    def _frames(self) -> Iterator[Frame]:
        for index in range(self.length):
            image, _ = self.scene.render(index)
            yield Frame(image, index, index / self.fps)
