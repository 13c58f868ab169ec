"""The configuration of a task network: segmentation or detection."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.trainer.settings import Settings, refuse_truth_values

_MAX_CLASSES = 255  # label maps are uint8, and 255 is what does not count

Colour = tuple[
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
]


class ClassesConfig(Settings):
    """What every task knows: its classes.

    Attributes:
        classes: names by class index, K of them.
        colours: ``(red, green, blue)`` of each class, 0..255, for pictures.
    """

    classes: tuple[str, ...] = Field(min_length=1, max_length=_MAX_CLASSES)
    colours: tuple[Colour, ...]

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

    name: Literal["segmentation"] = "segmentation"


def _without_truth_values(rfcn: Any) -> Any:
    """All of it is numbers, and pydantic takes true for one."""
    for key, value in rfcn.items() if isinstance(rfcn, dict) else ():
        refuse_truth_values(value, str(key))
    return rfcn


class DetectionConfig(ClassesConfig):
    """Object detection by R-FCN; the background is no entry of ``classes``.

    Attributes:
        name: the task.
        rfcn: anchors, pooling and the numbers of boxes.
    """

    name: Literal["detection"] = "detection"
    rfcn: Annotated[RfcnSettings, BeforeValidator(_without_truth_values)] = RfcnSettings()


def _name(task: Any) -> Any:
    """Which of them; a task without a name is segmentation, the only one there once was."""
    if isinstance(task, dict):
        return task.get("name", "segmentation")
    return getattr(task, "name", None)


TaskConfig = Annotated[
    Annotated[SegmentationConfig, Tag("segmentation")]
    | Annotated[DetectionConfig, Tag("detection")],
    Discriminator(
        _name,
        custom_error_type="task_name",
        custom_error_message="Input should be a mapping whose name is segmentation or detection",
    ),
]
