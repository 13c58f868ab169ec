"""The models that come with dff-edge, and their bundles.

A model is a folder of ``dff_edge/models``: a checkpoint (``weights.safetensors``, ``model.json``),
the configuration that trained it, and its card, ``card.json`` for programs and ``README.md`` for
readers. Bundles are not shipped: one is exported where torch is installed when it is first wanted,
and kept beside the engines of this machine (`DFF_EDGE_CACHE`). Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import dff_edge
from dff_edge import __version__
from dff_edge.bundle.tasks import TaskName
from dff_edge.errors import BundleError, CheckpointError, MissingDependencyError, require
from dff_edge.files.atomic import sync_folder
from dff_edge.files.staging import Workplace, remove_abandoned
from dff_edge.runtime.engines.cache import CACHE_VARIABLE, default_cache_folder

MODELS = Path(dff_edge.__file__).parent / "models"
_CARD, _WEIGHTS = "card.json", "weights.safetensors"
_NEW = ".new-"  # in front of the name of a folder that a bundle is exported into
_LOG = logging.getLogger("dff_edge.zoo")

Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CardData(_Strict):
    """What a model was made from and measured on; no two of them overlap.

    Attributes:
        name: of the data set.
        licence: under which it may be used, and what that means for the weights.
        train: what it was trained on, in words or as `dff-edge train` takes it.
        validate_on: what progress was watched on; None for nothing.
        test: what the results are of: never trained, calibrated or chosen on.
    """

    name: Text
    licence: Text
    train: Text
    validate_on: Text | None
    test: Text


class CardResults(_Strict):
    """What a model reaches on ``CardData.test``, in FP32.

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
        summary: what it is, one sentence.
        task: what it does.
        classes: names, in order.
        frame_size: ``(H, W)`` in pixels that its networks see.
        networks: what the three are, in words.
        data: what it was made from and measured on.
        results: what it reaches.
        commands: how it was made, and how the results were.
        limits: where not to trust it.
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


def shipped_models() -> tuple[str, ...]:
    """Name the models that come with this build."""
    return tuple(sorted(path.parent.name for path in MODELS.glob(f"*/{_CARD}")))


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
    path = MODELS / name / _CARD
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{path} is damaged: {error}. Install dff-edge again.") from error


def model_bytes(name: str) -> int:
    """Size of a shipped model's weights."""
    return (MODELS / name / _WEIGHTS).stat().st_size


def find_bundle(name: str | Path, say: Callable[[str], None] | None = None) -> Path:
    """Find a bundle's folder: a path, or the name of a model that comes with dff-edge.

    A bundle in a folder of that name goes before the model, with a warning. The bundle of a model
    is exported when it is first wanted, which takes torch and about a minute, and kept in the
    cache; what is added to it there (`dff-edge calibrate street`) stays.

    Args:
        name: as a user wrote it.
        say: called with a line for each step of an export; None has them logged.

    Raises:
        BundleError: there is neither such a folder nor such a model, or the cache cannot be
            written.
        MissingDependencyError: it has to be exported, and what that takes is not installed.
    """
    path = Path(name)
    is_shipped = str(name) in shipped_models()
    if (path / "manifest.json").is_file():
        if is_shipped:
            _LOG.warning(
                "'%s' is taken for the bundle in the folder %s, not for the model of that name "
                "that comes with dff-edge. Run this in another folder to have the model.",
                name,
                path.absolute(),
            )
        return path
    if is_shipped:
        return _cached(str(name), _LOG.warning if say is None else say)
    if not path.is_dir():
        raise BundleError(
            f"'{name}' is no folder and no model that comes with dff-edge, expected a bundle, "
            f"which `dff-edge export` writes, or one of {', '.join(shipped_models())}."
        )
    return path  # a folder that is no bundle: opening it says what it lacks


def cached_folder(name: str) -> Path:
    """Say where the bundle of a shipped model is, or will be when it has been exported."""
    # By the weights and by the version, whose export it is.
    digest = hashlib.sha256((MODELS / name / _WEIGHTS).read_bytes()).hexdigest()
    return default_cache_folder() / "bundles" / f"{name}-{__version__}-{digest[:16]}"


def _cached(name: str, say: Callable[[str], None]) -> Path:
    folder = cached_folder(name)
    remove_abandoned(folder.parent, _NEW)  # of a first use that was killed
    if folder.is_dir():
        return folder
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
        # Elsewhere first: of two that export at once the later finds the folder of the first.
        workplace = Workplace(folder.parent, _NEW, 0o700)
    except OSError as error:
        raise BundleError(
            f"the model '{name}' is exported to {folder.parent} when it is first used, and that "
            f"cannot be written: {error.strerror}. Name another folder in {CACHE_VARIABLE}, or "
            f"export it where there is room, `dff-edge export {name} -o {name}-bundle`, and name "
            "that folder."
        ) from error
    with workplace as staged:
        say(f"exporting the model {name} to {folder}, once for all")
        export_bundle(
            load_checkpoint(MODELS / name),
            staged.path / name,
            command=f"dff-edge export {name}",
            progress=say,
        )
        try:
            os.rename(staged.path / name, folder)
        except OSError:  # another export was first
            if not folder.is_dir():
                raise
        sync_folder(folder.parent)
    return folder
