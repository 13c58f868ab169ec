"""The task's last step: from what the task network gave to the answer for a frame.

A decoder is the one place that knows the task; the scheduler carries what goes in and what comes
out without looking at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import Detections, in_source_pixels
from dff_edge.bundle.contract import STRIDE
from dff_edge.bundle.manifest import Manifest
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.errors import ConfigError
from dff_edge.frames import LabelMap
from dff_edge.runtime.devices.base import Buffer, ImageDevice, Stream
from dff_edge.runtime.devices.cpu import kernel_threads
from dff_edge.runtime.kernels.decode import decode_labels
from dff_edge.runtime.kernels.detect import Detector

Size = tuple[int, int]  # H, W


class Answer(NamedTuple):
    """What is said of a frame, at its size; see ``Result``. The receiver's."""

    labels: LabelMap | None = None
    confidence: NDArray[np.uint8] | None = None
    detections: Detections | None = None


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


@dataclass(frozen=True, slots=True)
class LabelDecoder:
    """Score maps to a label map.

    Attributes:
        threads: of the kernel, at most.
        confidence: whether answers get one.
    """

    threads: int = 1
    confidence: bool = False

    def decode(self, outputs: Mapping[str, NDArray[Any]], size: Size) -> Answer:
        """See ``Decoder.decode``; takes ``scores``, float32 ``(1, h, w, K)``."""
        confidence = np.empty(size, np.uint8) if self.confidence else None
        labels = decode_labels(
            outputs["scores"][0],
            size,
            confidence=confidence,
            threads=kernel_threads(size[0] * size[1], self.threads),
        )
        return Answer(labels, confidence)

    def decode_on_device(
        self, device: ImageDevice, outputs: Mapping[str, Buffer], size: Size, stream: Stream
    ) -> Answer:
        """See ``DeviceDecoder.decode_on_device``."""
        return Answer(*device.decode(outputs["scores"], size, stream, confidence=self.confidence))


class BoxDecoder:
    """The learned maps of R-FCN to detections. On the host wherever the maps were computed.

    Args:
        settings: of the detector.
        frame_size: ``(H, W)`` of the network's frames.
        classes: K, without the background.
        threads: of the kernels, at most.
        stride: pixels of the frame per feature cell.
    """

    def __init__(
        self,
        settings: RfcnSettings,
        frame_size: Size,
        classes: int,
        *,
        threads: int = 1,
        stride: int = STRIDE,
    ) -> None:
        self._frame_size = frame_size
        # The threads share the pooling: 2 x 2 samples of every map in every bin of a proposal.
        samples = 4 * settings.proposals * settings.bins**2 * (1 + classes + 4)
        self._threads = kernel_threads(samples, threads)
        cells = (frame_size[0] // stride, frame_size[1] // stride)
        self._detector = Detector(settings, cells, classes, stride=stride)

    def decode(self, outputs: Mapping[str, NDArray[Any]], size: Size) -> Answer:
        """See ``Decoder.decode``; takes the maps of ``task_maps``, float32 ``(1, h, w, *)``."""
        found = self._detector.finish(
            outputs["objectness"][0],
            outputs["deltas"][0],
            outputs["class_maps"][0],
            outputs["box_maps"][0],
            threads=self._threads,
        )
        return Answer(detections=in_source_pixels(found, self._frame_size, size))


def decoder_of(manifest: Manifest, *, threads: int = 1, confidence: bool = False) -> Decoder:
    """The decoder of a bundle's task.

    Args:
        manifest: of the bundle.
        threads: of the kernels, at most.
        confidence: whether label maps come with one.

    Raises:
        ConfigError: a confidence is asked of detection.
    """
    if manifest.rfcn is None:
        return LabelDecoder(threads, confidence)
    if confidence:
        raise ConfigError(
            "confidence was asked for, expected False: this bundle detects, and every box has its "
            "score (result.detections.scores)."
        )
    return BoxDecoder(
        manifest.rfcn,
        manifest.frame_size,
        len(manifest.classes),
        threads=threads,
        stride=manifest.stride,
    )
