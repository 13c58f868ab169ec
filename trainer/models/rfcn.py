"""The task network of object detection: R-FCN's learned maps, all of them 1x1 convolutions.

Runs on every frame, so it has to stay small. The steps from the maps to boxes have no weights:
``proposals`` and ``detect``.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 4, "Object Detection"; Dai et al., "R-FCN", NIPS 2016.
Differs from the paper: a logit for each anchor in place of a softmax over object and background,
    which is the sigmoid of their difference; it needs half of the maps. Import of weights with both
    subtracts them.

Shapes: N batch, C channels, A anchors a cell, K classes, k bins in each direction, h x w feature
    map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.errors import ConfigError
from dff_edge.trainer.models.task_head import TaskHead


class RfcnMaps(NamedTuple):
    """R-FCN's learned outputs at every feature cell.

    Deltas and box maps are raw: decoding multiplies them by ``PROPOSAL_STDS`` and ``BOX_STDS``
    (``box_coding``), export folds these into the weights.

    Attributes:
        objectness: ``(N, A, h, w)``, logit of each anchor: an object against background.
        deltas: ``(N, 4 * A, h, w)``, anchor-major: anchor, then (dx, dy, dw, dh) to the proposal.
        class_maps: ``(N, k * k * (K + 1), h, w)``, bin-major: bin row, bin column, then class, of
            which 0 is the background.
        box_maps: ``(N, k * k * 4, h, w)``, bin-major: bin row, bin column, then (dx, dy, dw, dh) to
            the detection, the same for all classes.
    """

    objectness: Tensor
    deltas: Tensor
    class_maps: Tensor
    box_maps: Tensor


def map_depths(classes: int, settings: RfcnSettings) -> tuple[int, int, int, int]:
    """Return how many channels each of ``RfcnMaps`` has, for K classes."""
    anchors, bins = settings.anchors, settings.bins**2
    return anchors, 4 * anchors, bins * (classes + 1), bins * 4


class RfcnHead(TaskHead):
    """Turn features into R-FCN's maps.

    The first half of the channels proposes boxes, the other half scores and refines them.

    Args:
        channels: C, channels of the features, an even number.
        classes: K, without the background.
        settings: anchors and bins.

    Raises:
        ConfigError: if ``channels`` is odd.
    """

    class_layers: ClassVar[Mapping[str, int]] = {"class_maps": 1}

    def __init__(self, channels: int, classes: int, settings: RfcnSettings) -> None:
        super().__init__()
        if channels % 2:
            raise ConfigError(
                f"channels is {channels}, expected an even number: one half proposes boxes, the "
                "other scores them."
            )
        half, self.depths = channels // 2, map_depths(classes, settings)
        self.objectness, self.deltas, self.class_maps, self.box_maps = (
            nn.Conv2d(half, depth, 1) for depth in self.depths
        )
        for layer in (self.objectness, self.deltas, self.class_maps, self.box_maps):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def maps(self, features: Tensor) -> RfcnMaps:
        """Compute the maps of features ``(N, C, h, w)``."""
        half = features.shape[1] // 2  # not chunk(): its operator differs between operator sets
        proposing, scoring = features[:, :half], features[:, half:]
        return RfcnMaps(
            self.objectness(proposing),
            self.deltas(proposing),
            self.class_maps(scoring),
            self.box_maps(scoring),
        )

    def parts(self, maps: Tensor) -> RfcnMaps:
        """See ``TaskHead.parts``."""
        return RfcnMaps(*maps.split(self.depths, 1))

    def forward(self, features: Tensor) -> RfcnMaps:
        """Call ``maps``, the common interface of task networks."""
        return self.maps(features)
