"""A bundle as the evaluation sees it: frames in, label maps or boxes out, one plain call at a time.

Slower than the pipeline, which overlaps its stages, and easy to trust: feature.onnx on key
frames, flow.onnx -> native warp -> task.onnx on others, then decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.reader import Bundle
from dff_edge.frames import Image
from dff_edge.names import Precision
from dff_edge.runtime.engines.backends import DEFAULT_BACKEND
from dff_edge.runtime.engines.open import open_subnets
from dff_edge.runtime.engines.options import CudaOptions
from dff_edge.runtime.kernels.resize import FrameResizer, check_image
from dff_edge.runtime.kernels.warp import warp_features
from dff_edge.runtime.tasks import decoder_of


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
    """``dff_edge.evaluation.evaluate.Recogniser`` over a bundle. Use it from one thread.

    Args:
        bundle: a verified bundle.
        precision: which of its graphs.
        threads: of each run; None means the cores this process may use.
        engine: what computes the graphs.
        cuda: how a GPU is used.

    Raises:
        BundleError: the bundle does not hold the precision.
        EngineError: a graph could not be loaded.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: Precision = "fp32",
        threads: int | None = None,
        engine: str = DEFAULT_BACKEND,
        cuda: CudaOptions | None = None,
    ) -> None:
        self.bundle = bundle
        self.precision = precision
        self._resizer = FrameResizer(bundle.manifest.frame_size)
        self._warp_threads = threads or 1
        self._opened = open_subnets(bundle, precision, engine, threads=threads, cuda=cuda)
        subnets = self._subnets = self._opened.subnets
        self._frame = subnets.feature.inputs["frame"].empty()
        self._half = subnets.flow.inputs["frame_half"].empty()
        self._moved = {name: spec.empty() for name, spec in subnets.flow.outputs.items()}
        self._propagated = subnets.task.inputs["features"].empty()
        self._outputs = {name: spec.empty() for name, spec in subnets.task.outputs.items()}
        self._decoder = decoder_of(bundle.manifest, threads=self._warp_threads)

    def extract(self, image: Image) -> KeyFrame:
        """Features and half-size image of a key frame; the receiver may keep them."""
        image = check_image(image)
        self._resizer.full(image, self._frame)
        features = self._subnets.feature.outputs["features"].empty()
        self._subnets.feature.run({"frame": self._frame}, {"features": features})
        half = np.empty_like(self._half)
        self._resizer.half(image, half)
        return KeyFrame(features, half, (image.shape[0], image.shape[1]))

    def answer(self, key: KeyFrame, image: Image | None) -> Any:
        """Answer for ``image``, or for the key frame itself for None, at the size of its frame."""
        if image is None:
            return self._score(key.features, key.size)
        image = check_image(image)
        size = (image.shape[0], image.shape[1])
        self._resizer.half(image, self._half)
        subnets = self._subnets
        subnets.flow.run({"key_half": key.half, "frame_half": self._half}, self._moved)
        if subnets.propagate is not None:
            inputs = {"features": key.features, **self._moved}
            subnets.propagate.run(inputs, self._outputs)
            return self._decode(size)
        warp_features(
            key.features,
            self._moved["flow"],
            self._moved["scale"],
            levels=subnets.levels,
            out=self._propagated,
            threads=self._warp_threads,
        )
        return self._score(self._propagated, size)

    def close(self) -> None:
        """Free the graphs. Closing twice is allowed."""
        self._opened.close()

    def __enter__(self) -> BundleRecogniser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _score(self, features: NDArray[Any], size: tuple[int, int]) -> Any:
        self._subnets.task.run({"features": features}, self._outputs)
        return self._decode(size)

    def _decode(self, size: tuple[int, int]) -> Any:
        return self._decoder.decode(self._outputs, size).content
