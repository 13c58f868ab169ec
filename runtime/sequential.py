"""Algorithm 1 without overlap: one subnet after the other, on arrays of the host.

Slower than the scheduler, which overlaps its stages, but simple: evaluation, checks and
calibration run a bundle by it.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.reader import Bundle
from dff_edge.frames import Image
from dff_edge.names import Flavour, GraphName, Precision
from dff_edge.runtime.engines.base import Engine
from dff_edge.runtime.engines.hand_crafted_flow import open_flow
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.runtime.kernels.warp import warp_features

Arrays = dict[str, NDArray[Any]]


class SequentialRunner:
    """Runs subnets one at a time. Each call returns arrays that the receiver owns.

    Args:
        subnets: engines that run on arrays of the host; closed by their owner.
        warp_threads: of the native warp.
    """

    def __init__(self, subnets: Subnets, *, warp_threads: int = 1) -> None:
        self._subnets = subnets
        self._warp_threads = warp_threads
        shape = subnets.feature.inputs["frame"].shape
        self._resizer = FrameResizer((shape[1], shape[2]))

    def full(self, image: Image) -> Image:
        """Return a checked image as input of the feature network, uint8 ``(1, H, W, 3)``."""
        resized = self._subnets.feature.inputs["frame"].empty()
        self._resizer.full(image, resized)
        return resized

    def half(self, image: Image) -> Image:
        """Return a checked image as input of the flow network, uint8 ``(1, H/2, W/2, 3)``."""
        resized = self._subnets.flow.inputs["frame_half"].empty()
        self._resizer.half(image, resized)
        return resized

    def extract(self, full: Image) -> NDArray[Any]:
        """Return the features of a key frame, ``(1, h, w, C)``: line 8."""
        return run_engine(self._subnets.feature, {"frame": full})["features"]

    def estimate_flow(self, key_half: Image, frame_half: Image) -> Arrays:
        """Return the outputs of the flow network, line 11, from a frame to its key frame.

        ``flow`` in cells ``(1, h, w, 2)``, ``scale`` ``(1, h, w, C)`` and, where the bundle has
        one, ``correction``.
        """
        return run_engine(self._subnets.flow, {"key_half": key_half, "frame_half": frame_half})

    def warp(self, features: NDArray[Any], moved: Arrays) -> NDArray[Any]:
        """Return features ``(1, h, w, C)``, propagated by ``flow`` and ``scale``: line 11."""
        return warp_features(
            features,
            moved["flow"],
            moved["scale"],
            levels=self._subnets.levels,
            threads=self._warp_threads,
        )

    def score(self, features: NDArray[Any], correction: NDArray[Any] | None = None) -> Arrays:
        """Return the task network's outputs by name: lines 9 and 12.

        Args:
            features: of a key frame or propagated.
            correction: of the frame; None for key frames, to whose maps nothing is added.
        """
        inputs = {"features": features}
        if (spec := self._subnets.task.inputs.get("correction")) is not None:
            inputs["correction"] = (
                np.zeros(spec.shape, spec.dtype) if correction is None else correction
            )
        return run_engine(self._subnets.task, inputs)

    def propagate(self, features: NDArray[Any], moved: Arrays) -> Arrays:
        """Return the outputs for a frame between key frames, by one graph where there is one."""
        if self._subnets.propagate is not None:
            return run_engine(self._subnets.propagate, {"features": features, **moved})
        return self.score(self.warp(features, moved), moved.get("correction"))


def run_engine(engine: Engine, inputs: Arrays) -> Arrays:
    """Return an engine's outputs in new arrays; inputs that it does not have are left out."""
    outputs: Arrays = {name: spec.empty() for name, spec in engine.outputs.items()}
    engine.run({name: inputs[name] for name in engine.inputs}, outputs)
    return outputs


@contextmanager
def open_graphs(
    bundle: Bundle, precision: Precision, flavour: Flavour = "ort", *, propagate: bool = False
) -> Iterator[Subnets]:
    """Open a bundle's own graphs, in ONNX Runtime on the CPU.

    Args:
        bundle: a verified bundle.
        precision: of the graphs.
        flavour: of these. Those for TensorRT warp in their portable graph, as ONNX Runtime does not
            have the plugin, nor the native warp TensorRT's maps.
        propagate: whether those for ONNX Runtime warp in a graph too, where that returns the
            inputs of the task's decoder.

    Raises:
        BundleError: the bundle lacks the precision.
        EngineError: a graph cannot be loaded.
        MissingDependencyError: onnxruntime is not installed.
    """
    manifest = bundle.manifest
    with ExitStack() as stack:

        def opened(graph: GraphName) -> Engine:
            data = bundle.graph_bytes(precision, graph, flavour)
            return stack.enter_context(OrtEngine(data, name=f"{precision} {graph}"))

        warp: Engine | None = None
        if flavour == "trt":
            warp = opened("propagate_portable")
        elif propagate and not manifest.task_format.has_task_maps:
            warp = opened("propagate")
        yield Subnets(
            opened("feature"),
            stack.enter_context(closing(open_flow(bundle, precision, flavour))),
            opened(manifest.task_graph(flavour)),
            manifest.map_levels(precision, flavour),
            propagate=warp,
        )
