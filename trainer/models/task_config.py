"""The configuration of a task network, and the network that it builds."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.bundle.tasks import TASKS
from dff_edge.trainer.models.rfcn import RfcnHead, map_depths
from dff_edge.trainer.models.segmentation import SegmentationHead
from dff_edge.trainer.models.task_head import TaskHead
from dff_edge.trainer.settings import Settings, refuse_truth_values

_MAX_CLASSES = 255  # label maps are uint8, and 255 is not scored

Colour = tuple[
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
]


class ClassesConfig(Settings):
    """The base of all tasks' settings: the classes, and a network.

    Attributes:
        takes_class_weights: whether ``StageConfig.class_weights`` is for it.
        classes: names by class index, K of them.
        colours: ``(red, green, blue)`` of each class, 0..255, for pictures.
    """

    takes_class_weights: ClassVar[bool] = False

    classes: tuple[str, ...] = Field(min_length=1, max_length=_MAX_CLASSES)
    colours: tuple[Colour, ...]

    @property
    @abstractmethod
    def map_channels(self) -> int:
        """Return the number of channels of all maps of the network."""

    @abstractmethod
    def head(self, channels: int) -> TaskHead:
        """Build the network on features of ``channels`` channels."""

    def check_channels(self, channels: int) -> None:
        """Raise ValueError if features of so many channels cannot be read."""

    @model_validator(mode="after")
    def _check_classes(self) -> ClassesConfig:
        if len(self.colours) != len(self.classes):
            raise ValueError(
                f"colours has {len(self.colours)} entries, expected {len(self.classes)}: one "
                "for each of classes."
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes holds a name twice, expected each once.")
        return self


class SegmentationConfig(ClassesConfig):
    """Semantic segmentation: a score map for each class.

    Attributes:
        name: the task.
    """

    takes_class_weights: ClassVar[bool] = True

    name: Literal["segmentation"] = "segmentation"

    @property
    def map_channels(self) -> int:
        """See ``ClassesConfig.map_channels``: one per class."""
        return len(self.classes)

    def head(self, channels: int) -> SegmentationHead:
        """See ``ClassesConfig.head``."""
        return SegmentationHead(channels, len(self.classes))


def _without_truth_values(rfcn: Any) -> Any:
    """Raise for truth values among the numbers, which pydantic would accept as 1 and 0."""
    for key, value in rfcn.items() if isinstance(rfcn, dict) else ():
        refuse_truth_values(value, str(key))
    return rfcn


class DetectionConfig(ClassesConfig):
    """Object detection by R-FCN; the background is not an entry of ``classes``.

    Attributes:
        name: the task.
        rfcn: anchors, pooling and the numbers of boxes.
    """

    name: Literal["detection"] = "detection"
    rfcn: Annotated[RfcnSettings, BeforeValidator(_without_truth_values)] = RfcnSettings()

    @property
    def map_channels(self) -> int:
        """See ``ClassesConfig.map_channels``: those of ``RfcnMaps``."""
        return sum(map_depths(len(self.classes), self.rfcn))

    def head(self, channels: int) -> RfcnHead:
        """See ``ClassesConfig.head``."""
        return RfcnHead(channels, len(self.classes), self.rfcn)

    def check_channels(self, channels: int) -> None:
        """See ``ClassesConfig.check_channels``: one half proposes boxes, the other scores them."""
        if channels % 2:
            raise ValueError(
                f"feature.channels is {channels}, expected an even number for detection: one half "
                "proposes boxes, the other scores them."
            )


def _name(task: Any) -> Any:
    """Return the task's name; without a name it is segmentation, once the only task."""
    if isinstance(task, dict):
        return task.get("name", "segmentation")
    return getattr(task, "name", None)


TaskConfig = Annotated[
    Annotated[SegmentationConfig, Tag("segmentation")]
    | Annotated[DetectionConfig, Tag("detection")],
    Discriminator(
        _name,
        custom_error_type="task_name",
        custom_error_message=f"Input should be a mapping whose name is {' or '.join(TASKS)}",
    ),
]
