"""The models that come with dff-edge: their cards, and the export of their bundles.

A model is a folder of ``dff_edge/models``: a checkpoint (``weights.safetensors``, ``model.json``),
the configuration that trained it, and its card, ``card.json`` for programs and ``README.md`` for
readers. Nothing here imports torch before a bundle has to be exported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dff_edge.bundle import shipped
from dff_edge.bundle.shipped import CARD, NEW, WEIGHTS, shipped_models
from dff_edge.bundle.tasks import TaskName
from dff_edge.errors import BundleError, CheckpointError, MissingDependencyError, require
from dff_edge.files.cache_folder import CACHE_VARIABLE
from dff_edge.files.staging import Workplace, rename_durably

Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CardData(_Strict):
    """Data that a model was made from and measured on; no two parts overlap.

    Attributes:
        name: of the data set.
        licence: under which it may be used, and its effect on the weights.
        train: data of the training, in words or as a name for `dff-edge train`.
        validate_on: data for watching progress; None for none.
        test: data of the results: never used for training, calibration or choices.
    """

    name: Text
    licence: Text
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
    results: CardResults
    commands: Annotated[tuple[Text, ...], Field(min_length=2)]
    limits: Text


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


def export_model(name: str, folder: Path, say: Callable[[str], None]) -> None:
    """Export a shipped model's bundle; of two exports at once, the later uses the first's.

    Args:
        name: the model's.
        folder: where the bundle will be.
        say: called with a line for each step.

    Raises:
        BundleError: the folder cannot be written.
        MissingDependencyError: a package for the export is not installed.
    """
    try:
        for module in ("torch", "onnx", "onnxscript", "onnxruntime"):
            require(module, extra="export", purpose=f"The first use of the model '{name}'")
    except MissingDependencyError as error:
        raise MissingDependencyError(
            f"{error} Or export it on another machine, `dff-edge export {name} -o {name}-bundle`, "
            "copy that folder here and name it."
        ) from error
    from dff_edge.export import export_bundle
    from dff_edge.trainer.checkpoint import load_checkpoint

    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        workplace = Workplace(folder.parent, NEW, 0o700)
    except OSError as error:
        raise BundleError(
            f"the model '{name}' is exported to {folder.parent} when it is first used, and that "
            f"cannot be written: {error.strerror}. Name another folder in {CACHE_VARIABLE}, or "
            f"export it where there is room, `dff-edge export {name} -o {name}-bundle`, and name "
            "that folder."
        ) from error
    with workplace as staged:
        say(f"exporting the model {name} to {folder}, once")
        export_bundle(
            load_checkpoint(shipped.MODELS / name),
            staged.path / name,
            command=f"dff-edge export {name}",
            progress=say,
        )
        try:
            rename_durably(staged.path / name, folder)
        except OSError:  # another export was first
            if not folder.is_dir():
                raise
