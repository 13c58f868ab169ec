"""A torch model as the evaluation sees it: frames in, label maps out, as on the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dff_edge.runtime.decode import decode_labels
from dff_edge.runtime.frames import Image, LabelMap
from dff_edge.runtime.resize import FrameResizer
from dff_edge.trainer.models import DeepFeatureFlow, warp_features

Key = tuple[Tensor, Tensor, tuple[int, int]]  # features, half frame, size of the source frame


class TorchRecogniser:
    """``dff_edge.runtime.evaluation.Recogniser`` over a torch model.

    Args:
        model: used in evaluation mode on the device it is on.
        frame_size: H and W of the networks.
        copies_features: zero flow and no scale: key features are copied, the baseline that
            feature flow has to beat.
    """

    def __init__(
        self,
        model: DeepFeatureFlow,
        frame_size: tuple[int, int],
        *,
        copies_features: bool = False,
    ) -> None:
        self._model = model.eval()
        self._device = next(model.parameters()).device
        self._resizer = FrameResizer(frame_size)
        self._full = np.empty((1, *frame_size, 3), np.uint8)
        self._half = np.empty((1, frame_size[0] // 2, frame_size[1] // 2, 3), np.uint8)
        self._copies_features = copies_features

    @torch.inference_mode()
    def extract(self, image: Image) -> Key:
        """Features and half-size image of a key frame."""
        self._resizer.full(image, self._full)
        features = self._model.extract(self._tensor(self._full))
        return features, self._half_tensor(image), (image.shape[0], image.shape[1])

    @torch.inference_mode()
    def answer(self, key: Key, image: Image | None) -> LabelMap:
        """Label map of ``image``, or of the key frame itself for None."""
        features, key_half, size = key
        if image is not None:
            size = (image.shape[0], image.shape[1])
            if not self._copies_features:
                flow, scale = self._model.estimate_flow(key_half, self._half_tensor(image))
                features = warp_features(features, flow, scale)
        scores = self._model.task(features)[0].permute(1, 2, 0).cpu().contiguous()
        return decode_labels(scores.float().numpy(), size, threads=torch.get_num_threads())

    def _half_tensor(self, image: Image) -> Tensor:
        self._resizer.half(image, self._half)
        return self._tensor(self._half)

    def _tensor(self, frame: Image) -> Tensor:
        tensor = torch.from_numpy(frame).to(self._device).permute(0, 3, 1, 2).float()
        return tensor.contiguous(memory_format=torch.channels_last)
