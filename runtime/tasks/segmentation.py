"""Semantic segmentation: label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.manifest import Manifest
from dff_edge.frames import Image, LabelMap
from dff_edge.opencv import cv2
from dff_edge.runtime.devices.base import Buffer, ImageDevice, Stream
from dff_edge.runtime.devices.cpu import kernel_threads
from dff_edge.runtime.drawing.overlay import draw_overlay
from dff_edge.runtime.drawing.style import Style
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.kernels.decode import decode_labels
from dff_edge.runtime.tasks.base import AgreementRule, Size, Task
from dff_edge.runtime.tasks.decoders import Answer


@dataclass(frozen=True, slots=True)
class LabelDecoder:
    """Score maps to a label map.

    Attributes:
        threads: of the kernel, at most.
        confidence: whether results get one.
    """

    threads: int = 1
    confidence: bool = False

    def decode(self, outputs: Mapping[str, NDArray[Any]], size: Size) -> Answer:
        """See ``Decoder.decode``; reads ``scores``, float32 ``(1, h, w, K)``."""
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


class Segmentation(Task[LabelMap]):
    """Labels every pixel; results are label maps, uint8 ``(H, W)``."""

    name = "segmentation"
    gives_label_maps = True
    # Pixels on the borders between classes change with the last bit of the scores: FP32 of another
    # library changes less than one in a thousand. FP16 has 2**13 times coarser numbers, and sums in
    # another order. In INT8 a value between two levels may be rounded to the other one by
    # another order of sums, which later layers see as a step.
    deployed = AgreementRule(
        {"fp32": 0.999, "fp16": 0.99, "int8": 0.95}, "pixels", "of the pixels labelled"
    )
    # Usual for trained models; see the calibration of those that ship.
    calibrated = AgreementRule(
        {"int8": 0.97, "fp16": 0.995},
        "pixels",
        "of the pixels have the same label as in fp32",
    )

    def decoder(
        self, manifest: Manifest, *, threads: int = 1, confidence: bool = False
    ) -> LabelDecoder:
        """See ``Task.decoder``."""
        return LabelDecoder(threads, confidence)

    def record(self, answer: LabelMap, classes: Sequence[str], min_score: float) -> dict[str, Any]:
        """See ``Task.record``: ``classes``, the share of pixels of each class."""
        counts = cv2.calcHist([answer], [0], None, [256], [0, 256]).ravel()
        shares = {name: round(float(counts[i]) / answer.size, 6) for i, name in enumerate(classes)}
        return {"classes": shares}

    def draw(
        self,
        image: Image,
        answer: LabelMap,
        classes: Sequence[str],
        colours: Colours,
        style: Style,
        *,
        size: Size,
        caption: str | None = None,
    ) -> Image:
        """See ``Task.draw``: class colours over the frame, and a legend."""
        height, width = image.shape[:2]
        if (height, width) != size:
            nearest = cv2.resize(answer, (width, height), interpolation=cv2.INTER_NEAREST)
            answer = np.asarray(nearest, np.uint8)
        return draw_overlay(
            image,
            answer,
            colours,
            alpha=style.opacity,
            caption=caption,
            legend=classes if style.legend else None,
            shown=style.shown,
        )

    def shared(self, answer: LabelMap, expected: LabelMap) -> tuple[float, float]:
        """See ``Task.shared``: pixels of the same label."""
        return float(np.count_nonzero(answer == expected)), float(expected.size)

    def kept(self, answer: LabelMap, expected: LabelMap) -> tuple[float, float]:
        """See ``Task.kept``: pixels of the same label."""
        return self.shared(answer, expected)


TASK = Segmentation()
