"""Cards of the models that come with dff-edge.

A model is a folder of ``dff_edge/models``: a checkpoint (``weights.safetensors``, ``model.json``),
the configuration that trained it, and its card, ``card.json`` for programs and ``README.md`` for
readers.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dff_edge.bundle import shipped
from dff_edge.bundle.shipped import CARD, WEIGHTS, shipped_models
from dff_edge.bundle.tasks import TaskName
from dff_edge.errors import CheckpointError
from dff_edge.names import Precision

Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CardData(_Strict):
    """Data that a model was made from and measured on; no two parts overlap.

    Attributes:
        name: of the data set.
        licence: under which it may be used, and its effect on the weights.
        use: what the weights may be used for by it; models for "research" stay in the repository,
            and those for "any" use are in the wheel too.
        train: data of the training, in words or as a name for `dff-edge train`.
        validate_on: data for watching progress; None for none.
        test: data of the results: never used for training, calibration or choices.
    """

    name: Text
    licence: Text
    use: Literal["any", "research"]
    train: Text
    validate_on: Text | None
    test: Text


class CardResults(_Strict):
    """Results of a model on ``CardData.test``, in FP32.

    Attributes:
        split: of the data.
        metric: "mIoU", or "mAP@0.5".
        at_distance: accuracy at distances 0, 1, .. from the key frame, shares of 1.
        copied_at_distance: the same with key features copied in place of propagated.
        at_interval: "DFF at l", by l.
    """

    split: Literal["val", "test"]
    metric: Literal["mIoU", "mAP@0.5"]
    at_distance: Annotated[tuple[Share, ...], Field(min_length=5)]
    copied_at_distance: tuple[Share, ...] | None = None
    at_interval: Annotated[dict[int, Share], Field(min_length=1)]


class CardBundle(_Strict):
    """The ready bundle of a model, with which it runs where there is no torch.

    Attributes:
        precisions: precisions that it holds, for ONNX Runtime and OpenVINO.
        calibration: clips that INT8 is calibrated on: a source such as synthetic://street, or a
            file or folder in the model's own.
    """

    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)]
    calibration: Text


class ModelCard(_Strict):
    """A shipped model's card.

    Attributes:
        name: the model's, and its folder's.
        summary: a description in one sentence.
        task: its task.
        classes: names, in order.
        frame_size: ``(H, W)`` in pixels of its networks' input.
        networks: the three networks, in words.
        data: data that it was made from and measured on.
        bundle: its ready bundle; None for a model that stays in the repository.
        results: its results.
        commands: how it and its results were made.
        limits: where it is not reliable.
    """

    name: Text
    summary: Text
    task: TaskName
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    frame_size: tuple[int, int]
    networks: Text
    data: CardData
    bundle: CardBundle | None = None
    results: CardResults
    commands: Annotated[tuple[Text, ...], Field(min_length=2)]
    limits: Text

    @model_validator(mode="after")
    def _is_ready_where_carried(self) -> ModelCard:
        if (self.bundle is not None) != (self.data.use == "any"):
            raise ValueError("a bundle where data.use is 'any', and nowhere else")
        return self


def read_card(name: str) -> ModelCard:
    """Read a shipped model's card.

    Raises:
        CheckpointError: no such model, or its card is damaged.
    """
    if name not in shipped_models():
        raise CheckpointError(
            f"'{name}' is no model that comes with dff-edge, expected one of "
            f"{', '.join(shipped_models()) or 'none in this build'}."
        )
    path = shipped.MODELS / name / CARD
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{path} is damaged: {error}. Install dff-edge again.") from error


def model_bytes(name: str) -> int:
    """Return the size of a shipped model's weights in bytes."""
    return (shipped.MODELS / name / WEIGHTS).stat().st_size
