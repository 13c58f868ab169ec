"""The configuration of a task network: segmentation or detection."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from dff_edge.runtime.rfcn import RfcnSettings

_MAX_CLASSES = 255  # label maps are uint8, and 255 is what does not count

Colour = tuple[
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
]


class ClassesConfig(BaseModel):
    """What every task knows: its classes.

    Attributes:
        classes: names by class index, K of them.
        colours: ``(red, green, blue)`` of each class, 0..255, for pictures.
    """

    # NaN and unknown keys are refused by name.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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


class DetectionConfig(ClassesConfig):
    """Object detection by R-FCN; the background is no entry of ``classes``.

    Attributes:
        name: the task.
        rfcn: anchors, pooling and the numbers of boxes.
    """

    name: Literal["detection"] = "detection"
    rfcn: RfcnSettings = RfcnSettings()


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
