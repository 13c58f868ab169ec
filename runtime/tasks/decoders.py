"""The last step of a task: from the task network's outputs to the result of a frame.

The scheduler passes its inputs and outputs on unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import Detections
from dff_edge.frames import LabelMap, first_given
from dff_edge.runtime.devices.base import Buffer, ImageDevice, Stream

Size = tuple[int, int]  # H, W


class Answer(NamedTuple):
    """Result for a frame, at its size; see ``Result``. Owned by the receiver."""

    labels: LabelMap | None = None
    confidence: NDArray[np.uint8] | None = None
    detections: Detections | None = None
    values: NDArray[np.float32] | None = None
    task: str = "segmentation"

    @property
    def content(self) -> Any:
        """The one of ``labels``, ``detections`` and ``values`` that the task predicts."""
        return first_given(self.labels, self.detections, self.values)


class Decoder(Protocol):
    """Decodes on the host. Not thread-safe."""

    def decode(self, outputs: Mapping[str, NDArray[Any]], size: Size) -> Answer:
        """Return the result for a frame.

        Args:
            outputs: outputs of the task network, by name; only read.
            size: ``(H, W)`` of the source frame.
        """


@runtime_checkable
class DeviceDecoder(Decoder, Protocol):
    """Decodes also on a device, for images that are there."""

    def decode_on_device(
        self, device: ImageDevice, outputs: Mapping[str, Buffer], size: Size, stream: Stream
    ) -> Answer:
        """Enqueue the decoding; the result's arrays are on the device."""
