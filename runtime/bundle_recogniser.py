"""A bundle as the evaluation sees it: frames in, label maps out, one plain call at a time.

Slower than the pipeline, which overlaps its stages, and easy to trust: feature.onnx on key
frames, flow.onnx -> native warp -> task.onnx on others, then decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.runtime.bundle import Bundle
from dff_edge.runtime.contract import Precision, Subnet
from dff_edge.runtime.decode import decode_labels
from dff_edge.runtime.engine import Engine
from dff_edge.runtime.frames import Image, LabelMap
from dff_edge.runtime.open_engine import EngineName, open_engine
from dff_edge.runtime.resize import FrameResizer, check_image
from dff_edge.runtime.warp import warp_features


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """What is kept of a key frame.

    Attributes:
        features: ``(1, h, w, C)``, float32, or uint8 with the bundle's levels.
        half: uint8 ``(1, H/2, W/2, 3)``.
        size: H and W of the source frame.
    """

    features: NDArray[Any]
    half: Image
    size: tuple[int, int]


class BundleRecogniser:
    """``dff_edge.runtime.evaluation.Recogniser`` over a bundle. Use it from one thread.

    Args:
        bundle: a verified bundle.
        precision: which of its graphs.
        threads: of each run; None means the cores this process may use.
        engine: what computes the graphs.

    Raises:
        BundleError: the bundle does not hold the precision.
        EngineError: a graph could not be loaded.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: Precision = "fp32",
        threads: int | None = None,
        engine: EngineName = "onnxruntime",
    ) -> None:
        self.bundle = bundle
        self.precision = precision
        self._resizer = FrameResizer(bundle.manifest.frame_size)
        self._levels = bundle.manifest.map_levels(precision)
        self._warp_threads = threads or 1
        self._engine_name = engine
        self._engines: list[Engine] = []
        try:
            self._feature = self._open("feature", threads)
            self._flow = self._open("flow", threads)
            self._task = self._open("task", threads)
        except BaseException:
            self.close()
            raise
        self._frame = self._feature.inputs["frame"].empty()
        self._half = self._flow.inputs["frame_half"].empty()
        self._moved = {name: spec.empty() for name, spec in self._flow.outputs.items()}
        self._propagated = self._task.inputs["features"].empty()
        self._scores = self._task.outputs["scores"].empty()

    def extract(self, image: Image) -> KeyFrame:
        """Features and half-size image of a key frame; the receiver may keep them."""
        image = check_image(image)
        self._resizer.full(image, self._frame)
        features = self._feature.outputs["features"].empty()
        self._feature.run({"frame": self._frame}, {"features": features})
        half = np.empty_like(self._half)
        self._resizer.half(image, half)
        return KeyFrame(features, half, (image.shape[0], image.shape[1]))

    def answer(self, key: KeyFrame, image: Image | None) -> LabelMap:
        """Label map of ``image``, or of the key frame itself for None, at the size of its frame."""
        if image is None:
            return self._decode(key.features, key.size)
        image = check_image(image)
        self._resizer.half(image, self._half)
        self._flow.run({"key_half": key.half, "frame_half": self._half}, self._moved)
        warp_features(
            key.features,
            self._moved["flow"],
            self._moved["scale"],
            levels=self._levels,
            out=self._propagated,
            threads=self._warp_threads,
        )
        return self._decode(self._propagated, (image.shape[0], image.shape[1]))

    def close(self) -> None:
        """Free the graphs. Closing twice is allowed."""
        for engine in self._engines:
            engine.close()

    def __enter__(self) -> BundleRecogniser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, subnet: Subnet, threads: int | None) -> Engine:
        data = self.bundle.graph_bytes(self.precision, subnet)
        name = f"{self.precision} {subnet}"
        engine = open_engine(self._engine_name, data, name=name, threads=threads)
        self._engines.append(engine)
        return engine

    def _decode(self, features: NDArray[Any], size: tuple[int, int]) -> LabelMap:
        self._task.run({"features": features}, {"scores": self._scores})
        return decode_labels(self._scores[0], size, threads=self._warp_threads)
