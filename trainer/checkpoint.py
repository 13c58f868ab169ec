"""Checkpoints: a folder with ``weights.safetensors`` and ``model.json``.

Nothing in them runs code on load.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

import dff_edge
from dff_edge.bundle.problems import describe as describe_fields
from dff_edge.bundle.records import ScoreThreshold
from dff_edge.errors import CheckpointError, ConfigError
from dff_edge.files.documents import read_json
from dff_edge.files.regular import open_regular
from dff_edge.trainer.models import DeepFeatureFlow, ModelConfig, build_model
from dff_edge.trainer.settings import describe
from dff_edge.trainer.storage import Storage, restored, stored
from dff_edge.trainer.tensor_files import (
    MAX_WEIGHT_BYTES,
    make_folder,
    packed,
    read_weights,
    unpacked,
    write_file,
)

WEIGHTS, CARD = "weights.safetensors", "model.json"
_MAX_CARD_BYTES = 1 << 20
_FORMAT = 1
_log = logging.getLogger("dff_edge.trainer")
SHIPPED = Path(dff_edge.__file__).parent / "models"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model.

    Attributes:
        name: name of the model.
        config: its configuration.
        model: built, with its weights, in evaluation mode.
        training: record of its training: configuration, versions, command.
        score_threshold: from which score on its boxes are shown; None where none was chosen.
        digest: SHA-256 of the weights file, hexadecimal.
    """

    name: str
    config: ModelConfig
    model: DeepFeatureFlow
    training: dict[str, Any]
    digest: str
    score_threshold: ScoreThreshold | None = None

    def at_frame_size(self, frame_size: tuple[int, int]) -> Checkpoint:
        """Return the same networks for frames of another ``(H, W)``, since their weights fit any.

        Raises:
            ConfigError: a side is not a multiple of 16, or below 32.
        """
        settings = self.config.model_dump() | {"frame_size": frame_size}
        try:
            return replace(self, config=ModelConfig.model_validate(settings))
        except ValidationError as error:
            raise ConfigError(describe(error, ModelConfig)) from error


def save_checkpoint(
    folder: Path,
    model: DeepFeatureFlow,
    config: ModelConfig,
    *,
    name: str,
    training: dict[str, Any],
    storage: Storage = "float32",
    score_threshold: ScoreThreshold | None = None,
) -> None:
    """Write a checkpoint; each file is written atomically.

    Args:
        folder: created where it is missing; a checkpoint in it is replaced.
        model: the model whose weights are written.
        config: its configuration.
        name: name of the model.
        training: JSON-ready facts of how it was made.
        storage: how weights are stored.
        score_threshold: from which score on its boxes are shown; None where none was chosen.

    Raises:
        CheckpointError: a weight that cannot be stored so.
    """
    make_folder(folder)
    weights = packed(stored(model.state_dict(), storage))
    card: dict[str, Any] = {
        "format": _FORMAT,
        "name": name,
        "model": config.model_dump(mode="json"),
        "training": training,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_file(folder / WEIGHTS, weights)
    _write_card(folder, card, score_threshold)


def keep_threshold(folder: Path, score_threshold: ScoreThreshold) -> None:
    """Write a threshold into a checkpoint's card, in place of the one that it has.

    Raises:
        CheckpointError: the card is damaged, or cannot be written.
    """
    _write_card(folder, _read_card(folder), score_threshold)


def _write_card(folder: Path, card: dict[str, Any], score_threshold: ScoreThreshold | None) -> None:
    if score_threshold is not None:
        card = card | {"score_threshold": score_threshold.model_dump(mode="json")}
    write_file(folder / CARD, (json.dumps(card, indent=2) + "\n").encode())


def find_checkpoint(name: str) -> Path:
    """Find a checkpoint's folder: a path, or the name of a model that comes with the package.

    A checkpoint in a folder of that name takes precedence over the model, with a warning.

    Raises:
        CheckpointError: names the shipped models when there is neither.
    """
    path = Path(name)
    try:
        return _find_checkpoint(path, name)
    except (OSError, ValueError) as error:  # an invalid file name
        raise CheckpointError(f"{_cut(name)} is no name of a checkpoint: {error}.") from error


def _find_checkpoint(path: Path, name: str) -> Path:
    if (path / CARD).is_file():
        if (SHIPPED / name / CARD).is_file() and not path.samefile(SHIPPED / name):
            _log.warning(
                "'%s' is used as the checkpoint in the folder %s, not as the model of that name "
                "that comes with dff-edge. Run this in another folder to use the model.",
                name,
                path.absolute(),
            )
        return path
    if (SHIPPED / name / CARD).is_file():
        return SHIPPED / name
    shipped = sorted(entry.parent.name for entry in SHIPPED.glob(f"*/{CARD}"))
    raise CheckpointError(
        f"'{name}' is no checkpoint: expected a folder with {CARD} and {WEIGHTS}, or a shipped "
        f"model ({', '.join(shipped) or 'none in this build'})."
    )


def is_weights_file(origin: Path) -> bool:
    """Return whether weights are in one file; else they are in a checkpoint."""
    return origin.is_file() or (bool(origin.suffix) and not origin.is_dir())


def load_checkpoint(name: str | Path) -> Checkpoint:
    """Load a checkpoint from a folder or, by name, a shipped one.

    Raises:
        CheckpointError: names the file and the fault.
    """
    folder = find_checkpoint(str(name))
    card = _read_card(folder)
    config = _model_config_of(card, folder / CARD)
    weights = read_weights(folder / WEIGHTS)
    digest = hashlib.sha256(weights).hexdigest()
    if digest != card.get("weights_sha256"):
        raise CheckpointError(
            f"{folder / WEIGHTS} has SHA-256 {digest}, {CARD} expects "
            f"{card.get('weights_sha256')}: the two files are not of one checkpoint, or one is "
            "damaged. Copy the folder again."
        )
    tensors = restored(unpacked(weights, folder / WEIGHTS))
    with torch.device("meta"):  # check the card against the file, then build
        check_weights(build_model(config), tensors, str(folder / WEIGHTS))
    model = build_model(config)
    load_weights(model, tensors, str(folder / WEIGHTS))
    training = card.get("training")
    return Checkpoint(
        name=str(card.get("name", folder.name)),
        config=config,
        model=model.eval(),
        training=training if isinstance(training, dict) else {},
        digest=digest,
        score_threshold=_threshold_of(card, folder / CARD),
    )


def load_model_config(name: str | Path) -> ModelConfig:
    """Load the configuration of a checkpoint's model, without its weights.

    Args:
        name: as for ``load_checkpoint``.

    Raises:
        CheckpointError: names the file and the fault.
    """
    folder = _folder_of(str(name))
    return _model_config_of(_read_card(folder), folder / CARD)


def _read_card(folder: Path) -> dict[str, Any]:
    card = read_json(folder / CARD, max_bytes=_MAX_CARD_BYTES, error=CheckpointError)
    if not isinstance(card, dict) or card.get("format") != _FORMAT:
        found = card.get("format") if isinstance(card, dict) else type(card).__name__
        raise CheckpointError(
            f"{folder / CARD} has format {found!r}, expected {_FORMAT}. A newer dff-edge may have "
            "written it."
        )
    return card


def _model_config_of(card: dict[str, Any], path: Path) -> ModelConfig:
    try:
        return ModelConfig.model_validate(card.get("model"))
    except ValidationError as error:
        raise CheckpointError(f"{path}: {describe(error, ModelConfig)}") from error


def _threshold_of(card: dict[str, Any], path: Path) -> ScoreThreshold | None:
    told = card.get("score_threshold")
    if told is None:
        return None
    try:
        return ScoreThreshold.model_validate(told)
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: score_threshold is not valid:\n{describe_fields(error)}\nChoose it again, "
            "`dff-edge evaluate CHECKPOINT --source VALIDATION --keep-threshold`, or remove it."
        ) from error


def load_weights(
    module: nn.Module, tensors: dict[str, Tensor], origin: str, ignore: tuple[str, ...] = ()
) -> None:
    """Copy tensors into a module; every name, shape and kind of number must match.

    Args:
        module: changed in place; its dtypes are kept.
        tensors: state dict.
        origin: where they are from, for the message.
        ignore: prefixes that may be missing in ``tensors`` or unknown to the module.

    Raises:
        CheckpointError: lists tensors that are missing, unknown, or of another shape or type, or
            names one with NaN or infinity.
    """
    check_weights(module, tensors, origin, ignore)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name in tensors:
                value.copy_(tensors[name])
                if not value.isfinite().all():
                    raise CheckpointError(
                        f"{origin}: {name} holds NaN, infinity, or more than {value.dtype} can "
                        "hold. Copy or download the file again, or go back to an earlier one."
                    )


def check_weights(
    module: nn.Module, tensors: dict[str, Tensor], origin: str, ignore: tuple[str, ...] = ()
) -> None:
    """Compare tensors with a module, which may be on the device "meta"; see ``load_weights``."""
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in tensors and not name.startswith(ignore)]
    unknown = sorted(  # files have them in any order
        name for name in tensors if name not in wanted and not name.startswith(ignore)
    )
    wrong = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    other = [
        f"{name} {tensors[name].dtype} for {wanted[name].dtype}"
        for name in wanted
        if name in tensors and not _is_kind_of(tensors[name].dtype, wanted[name].dtype)
    ]
    if missing or unknown or wrong or other:
        raise CheckpointError(
            f"{origin} does not fit the model: {_some('missing', missing)}"
            f"{_some('unknown', unknown)}{_some('of another shape', wrong)}"
            f"{_some('of another type', other)}"
            "expected the weights of the same configuration."
        )


def _is_kind_of(found: torch.dtype, wanted: torch.dtype) -> bool:
    """Return whether numbers of one type can be used for another: floats for floats."""
    if wanted.is_floating_point:
        return found in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return not (found.is_floating_point or found.is_complex or found == torch.bool)


def digest(origin: Path) -> str:
    """Return the SHA-256 of weights, hexadecimal: of a file, or of those in a checkpoint.

    Raises:
        CheckpointError: neither exists.
    """
    path = origin if is_weights_file(origin) else _folder_of(str(origin)) / WEIGHTS
    try:
        status = path.stat()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    return _digest(path, status.st_mtime_ns, status.st_size)


_folder_of = cache(find_checkpoint)  # cached, so that it warns once


@cache
def _digest(path: Path, _modified_ns: int, _size: int) -> str:
    digest = hashlib.sha256()
    with open_regular(path, max_bytes=MAX_WEIGHT_BYTES, error=CheckpointError) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{more}); "


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
