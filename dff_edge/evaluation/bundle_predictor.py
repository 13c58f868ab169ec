"""A bundle for the evaluation: frames in, label maps or boxes out, one call at a time.

Slower than the pipeline, which overlaps its stages, but simple: feature.onnx on key
frames, flow.onnx -> native warp -> task.onnx on others, then decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dff_edge.bundle.reader import Bundle
from dff_edge.frames import Image
from dff_edge.lifetime import Closing
from dff_edge.names import Precision
from dff_edge.runtime.engines.backends import DEFAULT_BACKEND
from dff_edge.runtime.engines.open import open_subnets
from dff_edge.runtime.engines.options import CudaOptions
from dff_edge.runtime.kernels.resize import check_image
from dff_edge.runtime.sequential import SequentialRunner
from dff_edge.runtime.tasks import decoder_of


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """Buffers of a key frame.

    Attributes:
        features: ``(1, h, w, C)``, float32, or uint8 with the bundle's levels.
        half: uint8 ``(1, H/2, W/2, 3)``.
        size: H and W of the source frame.
    """

    features: NDArray[Any]
    half: Image
    size: tuple[int, int]


class BundlePredictor(Closing):
    """``dff_edge.evaluation.evaluate.Predictor`` over a bundle. Use it from one thread.

    Args:
        bundle: a verified bundle.
        precision: of the graphs.
        threads: of each run; None means the cores this process may use.
        engine: the backend.
        cuda: options of running on a GPU.

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
        self._opened = open_subnets(bundle, precision, engine, threads=threads, cuda=cuda)
        self._runner = SequentialRunner(self._opened.subnets, warp_threads=threads or 1)
        self._decoder = decoder_of(bundle.manifest, threads=threads or 1)

    def extract(self, image: Image) -> KeyFrame:
        """See ``Predictor.extract``."""
        image = check_image(image)
        features = self._runner.extract(self._runner.full(image))
        return KeyFrame(features, self._runner.half(image), (image.shape[0], image.shape[1]))

    def predict(self, key: KeyFrame, image: Image | None) -> Any:
        """See ``Predictor.predict``."""
        if image is None:
            return self._decoder.decode(self._runner.score(key.features), key.size).content
        image = check_image(image)
        moved = self._runner.estimate_flow(key.half, self._runner.half(image))
        outputs = self._runner.propagate(key.features, moved)
        return self._decoder.decode(outputs, (image.shape[0], image.shape[1])).content

    def close(self) -> None:
        """Free the graphs. Closing twice is allowed."""
        self._opened.close()
