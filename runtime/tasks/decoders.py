"""The task's last step: from the task network's outputs to the answer for a frame.

The scheduler carries what goes in and what comes out without looking at it.
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
    """What is said of a frame, at its size; see ``Result``. The receiver's."""

    labels: LabelMap | None = None
    confidence: NDArray[np.uint8] | None = None
    detections: Detections | None = None
    values: NDArray[np.float32] | None = None
    task: str = "segmentation"

    @property
    def content(self) -> Any:
        """The one of ``labels``, ``detections`` and ``values`` that the task gives."""
        return first_given(self.labels, self.detections, self.values)


class Decoder(Protocol):
    """Decodes on the host. Not for two threads at once."""

    def decode(self, outputs: Mapping[str, NDArray[Any]], size: Size) -> Answer:
        """Give the answer for a frame.

        Args:
            outputs: what the task network gave, by name; only read.
            size: ``(H, W)`` of the source frame.
        """


@runtime_checkable
class DeviceDecoder(Decoder, Protocol):
    """Decodes also on a device, for images that are there."""

    def decode_on_device(
        self, device: ImageDevice, outputs: Mapping[str, Buffer], size: Size, stream: Stream
    ) -> Answer:
        """Enqueue the decoding; the answer's arrays are on the device."""
