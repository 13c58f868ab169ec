"""A torch model for the evaluation: frames in, labels or objects out, as on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dff_edge.frames import Image
from dff_edge.names import FlowFunction
from dff_edge.runtime.engines.hand_crafted_flow import HandCraftedFlow
from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.trainer.models import DeepFeatureFlow, warp_features
from dff_edge.trainer.tasks import TRAINED_TASKS

Key = tuple[Tensor, Image, tuple[int, int]]  # features, half frame, size of the source frame


class TorchPredictor:
    """``dff_edge.evaluation.evaluate.Predictor`` over a torch model.

    Args:
        model: used in evaluation mode on the device it is on.
        frame_size: H and W of the networks.
        copies_features: zero flow and no scale: key features are copied, the baseline for
            feature flow.
        flow: source of the flow: the model's network, or a hand-crafted function on the CPU (SFF).
    """

    def __init__(
        self,
        model: DeepFeatureFlow,
        frame_size: tuple[int, int],
        *,
        copies_features: bool = False,
        flow: FlowFunction = "network",
    ) -> None:
        self._model = model.eval()
        self._device = next(model.parameters()).device
        self._frame_size = frame_size
        self._resizer = FrameResizer(frame_size)
        self._full = np.empty((1, *frame_size, 3), np.uint8)
        self._half = np.empty((1, frame_size[0] // 2, frame_size[1] // 2, 3), np.uint8)
        self._copies_features = copies_features
        self._hand_crafted = None
        if flow != "network":
            self._hand_crafted = HandCraftedFlow(
                flow,
                frame_size,
                channels=1,
                threads=torch.get_num_threads(),
                stride=model.feature.stride,
            )

    @torch.inference_mode()
    def extract(self, image: Image) -> Key:
        """Return features and half-size image of a key frame."""
        self._resizer.full(image, self._full)
        features = self._model.extract(self._tensor(self._full))
        half = np.empty_like(self._half)
        self._resizer.half(image, half)
        return features, half, (image.shape[0], image.shape[1])

    @torch.inference_mode()
    def predict(self, key: Key, image: Image | None) -> Any:
        """See ``dff_edge.evaluation.evaluate.Predictor.predict``."""
        features, key_half, size = key
        correction = None
        if image is not None:
            size = (image.shape[0], image.shape[1])
            if not self._copies_features:
                self._resizer.half(image, self._half)
                flow, scale, correction = self._move(key_half, self._half)
                features = warp_features(features, flow, scale)
        task = TRAINED_TASKS.find(self._model.task_name)
        maps = self._model.answer(features, correction)
        return task.predict(self._model, maps, self._frame_size, size)

    def _move(self, key_half: Image, half: Image) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return flow ``(1, 2, h, w)`` in feature cells, scale field, and correction."""
        if self._hand_crafted is None:
            return self._model.move(self._tensor(key_half), self._tensor(half))
        moved = {name: spec.empty() for name, spec in self._hand_crafted.outputs.items()}
        self._hand_crafted.run({"key_half": key_half, "frame_half": half}, moved)
        flow = torch.from_numpy(moved["flow"]).to(self._device)
        return flow.permute(0, 3, 1, 2).contiguous(), None, None

    def _tensor(self, frame: Image) -> Tensor:
        tensor = torch.from_numpy(frame).to(self._device).permute(0, 3, 1, 2).float()
        return tensor.contiguous(memory_format=torch.channels_last)
