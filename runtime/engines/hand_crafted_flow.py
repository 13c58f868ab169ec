"""Hand-crafted optical flow in place of the flow network: shallow feature flow (SFF).

Algorithm 1 works with any flow function that computes M[i->k]; the scale field is one everywhere.
The flow is computed between the half-size frames in grey, from the current frame to the key
frame, and averaged over the pixels of each feature cell.

Sources:
    Zhu et al., CVPR 2017, arXiv:1611.07715, section 3 "Inference" and Table 3 (SFF).
    "dis-*": Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016, by OpenCV.
    "farneback": Farneback, Two-Frame Motion Estimation Based on Polynomial Expansion, SCIA 2003,
        by OpenCV.
    "siftflow-*": Liu et al., SIFT Flow: Dense Correspondence across Scenes and Its Applications,
        TPAMI 2011; plugins/siftflow. "slow" has wider windows and twice the iterations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge import _native
from dff_edge.bundle.contract import STRIDE, graph_contract
from dff_edge.bundle.levels import Levels
from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError, EngineError, words_of
from dff_edge.names import HAND_CRAFTED_FLOWS, Flavour, FlowFunction, Precision
from dff_edge.opencv import cv2
from dff_edge.runtime.engines.base import BaseEngine, Engine, usable_cores
from dff_edge.runtime.engines.onnxruntime import OrtEngine

_DIS_PRESETS: Mapping[str, int] = {
    "dis-ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "dis-fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "dis-medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
_SIFTFLOW_IS_SLOW: Mapping[str, bool] = {"siftflow-fast": False, "siftflow-slow": True}

# Writes the flow (dx, dy) of each pixel of the first grey image to the second into the third array.
_Solver = Callable[[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]], None]


class HandCraftedFlow(BaseEngine):
    """A flow function as the engine of the flow subnet; on the CPU.

    OpenCV has one thread count for the whole process: each run sets it to ``threads``.

    Args:
        function: its name, any but "network".
        frame_size: ``(H, W)`` of the network's frames.
        channels: C of the scale field.
        scale_levels: quantisation of the scale field; None for float32.
        threads: of one run; None means the cores this process may use.
        stride: pixels of the frame per feature cell.

    Raises:
        ConfigError: another function, or fewer than one thread.
    """

    def __init__(
        self,
        function: FlowFunction,
        frame_size: tuple[int, int],
        channels: int,
        *,
        scale_levels: Levels | None = None,
        threads: int | None = None,
        stride: int = STRIDE,
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"threads is {threads} for the flow, expected 1 or more.")
        contract = graph_contract(
            "flow",
            frame_size=frame_size,
            channels=channels,
            classes=1,
            maps=np.float32 if scale_levels is None else scale_levels.dtype,
            stride=stride,
        )
        self._cell_px = stride // 2  # of a half-size frame, each way
        self._threads = threads or usable_cores()
        self._one = (
            1.0 if scale_levels is None else scale_levels.quantize(np.ones(1, np.float32))[0]
        )
        half = (frame_size[0] // 2, frame_size[1] // 2)
        self._solve: _Solver | None = _solver(function, half, self._threads)
        self._key, self._current = np.empty(half, np.uint8), np.empty(half, np.uint8)
        self._flow_px = np.empty((*half, 2), np.float32)
        super().__init__(f"{function} flow", contract.inputs, contract.outputs)

    def _compute(
        self,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, NDArray[Any]],
        addresses: tuple[int, ...],
    ) -> None:
        assert self._solve is not None  # the engine is open
        if cv2.getNumThreads() != self._threads:
            cv2.setNumThreads(self._threads)
        try:
            cv2.cvtColor(inputs["key_half"][0], cv2.COLOR_BGR2GRAY, dst=self._key)
            cv2.cvtColor(inputs["frame_half"][0], cv2.COLOR_BGR2GRAY, dst=self._current)
            self._solve(self._current, self._key, self._flow_px)
        except cv2.error as error:
            raise EngineError(f"The {self.name} failed: {words_of(error)}") from error
        flow = outputs["flow"][0]
        cells = (flow.shape[1], flow.shape[0])
        cv2.resize(self._flow_px, cells, dst=flow, interpolation=cv2.INTER_AREA)  # means of cells
        flow /= self._cell_px
        outputs["scale"].fill(self._one)

    def _free(self) -> None:
        self._solve = None


def open_flow(
    bundle: Bundle,
    precision: Precision,
    flavour: Flavour = "ort",
    *,
    threads: int | None = None,
) -> Engine:
    """Open a bundle's flow on the CPU: its flow function, or its flow network in ONNX Runtime.

    Raises:
        BundleError: the bundle lacks the precision.
        EngineError: the graph cannot be loaded.
        MissingDependencyError: onnxruntime is not installed.
    """
    manifest = bundle.manifest
    if manifest.flow_function == "network":
        data = bundle.graph_bytes(precision, "flow", flavour)
        return OrtEngine(data, name=f"{precision} flow", threads=threads)
    levels = manifest.map_levels(precision, flavour)
    return HandCraftedFlow(
        manifest.flow_function,
        manifest.frame_size,
        manifest.channels,
        scale_levels=None if levels is None else levels.scale,
        threads=threads,
        stride=manifest.stride,
    )


def _solver(function: FlowFunction, size: tuple[int, int], threads: int) -> _Solver:
    if function == "farneback":
        return _farneback
    if function in _SIFTFLOW_IS_SLOW:
        return partial(_native.siftflow, slow=_SIFTFLOW_IS_SLOW[function], threads=threads)
    if function in _DIS_PRESETS:
        return _dis(_DIS_PRESETS[function], size)
    raise ConfigError(
        f"flow function is '{function}', expected one of {', '.join(HAND_CRAFTED_FLOWS)}."
    )


def _dis(preset: int, size: tuple[int, int]) -> _Solver:
    estimator = cv2.DISOpticalFlow.create(preset)
    # Where images are too small for its finest scale, OpenCV 5.0 chooses scales by the width
    # alone, and crashes on wide images. So a scale is chosen that it has levels for.
    patch = estimator.getPatchSize()
    by_length = int(math.log2(max(size) / (4 * patch)) + 0.5)
    levels = min(by_length, int(math.log2(min(size) / patch)))
    estimator.setFinestScale(min(estimator.getFinestScale(), levels))

    def solve(
        current: NDArray[np.uint8], key: NDArray[np.uint8], flow_px: NDArray[np.float32]
    ) -> None:
        # Zeroed: the content of the array is the initial estimate.
        flow_px.fill(0)
        estimator.calc(current, key, flow_px)

    return solve


def _farneback(
    current: NDArray[np.uint8], key: NDArray[np.uint8], flow_px: NDArray[np.float32]
) -> None:
    cv2.calcOpticalFlowFarneback(
        current,
        key,
        flow_px,
        pyr_scale=0.5,
        levels=5,  # halvings; large motion is found at the coarsest
        winsize=15,
        iterations=3,
        poly_n=5,
        poly_sigma=1.1,
        flags=0,
    )
