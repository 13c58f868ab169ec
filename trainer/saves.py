"""Saves of a training run, from which it resumes: written atomically, and of this run alone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import IO, Any, cast

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from pydantic import ValidationError

from dff_edge.errors import CheckpointError, ConfigError, SinkError
from dff_edge.files.atomic import AtomicFile
from dff_edge.files.documents import parse_json
from dff_edge.files.regular import open_regular
from dff_edge.trainer.config import InitConfig, TrainConfig
from dff_edge.trainer.tensor_files import MAX_WEIGHT_BYTES, make_folder

_KEY = "dff_edge_run"
_GOES_ON = "With --resume the run goes on from the save before."


class Owner:
    """The stage of a run that a save belongs to.

    Args:
        config: the run's. The location of its first weights is ignored, for files are moved.
        stage: name of the stage's folder.
    """

    def __init__(self, config: TrainConfig, stage: str) -> None:
        self._config = config.model_copy(update={"init": InitConfig()})
        self._stage = stage
        self.text = json.dumps(
            {"stage": stage, "config": config.model_dump(mode="json", exclude={"init"})}
        )

    def check(self, text: object, path: Path) -> None:
        """Raise for a save of another run, which was copied to this place.

        Args:
            text: the owner in the save, ``text`` of its ``Owner``.
            path: of the save.

        Raises:
            ConfigError: it is another's, or has no owner.
        """
        try:
            told = parse_json(str(text), str(path))
            # As configurations, so that a key that came later counts with its default.
            is_own = (told["stage"], TrainConfig.model_validate(told["config"])) == (
                self._stage,
                self._config,
            )
        except (ConfigError, ValidationError, KeyError, TypeError):
            is_own = False
        if not is_own:
            raise ConfigError(
                f"{path} is not a save of this stage of this run, by its configuration. "
                "Put the right one there, or remove it to train the stage from its start."
            )


class _Writer(io.RawIOBase):
    """An ``AtomicFile`` as ``torch.save`` wants it."""

    def __init__(self, file: AtomicFile) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._file.write(data)
        return len(data)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Atomic saves; lightning's own are atomic only on the disk of ``$TMPDIR``.

    Args:
        owner: the owner of the saves.
    """

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self._owner = owner

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a save beside its place, then rename it.

        Raises:
            CheckpointError: it cannot be written.
        """
        target = Path(path)
        make_folder(target.parent)
        try:
            with AtomicFile(target) as file:
                torch.save({**checkpoint, _KEY: self._owner.text}, cast(IO[bytes], _Writer(file)))
                file.commit()
        except SinkError as error:
            raise CheckpointError(f"{error} {_GOES_ON}") from error
        except (OSError, RuntimeError) as error:  # of torch's writer
            raise CheckpointError(f"'{target}' cannot be written: {error}. {_GOES_ON}") from error

    def load_checkpoint(self, path: str | Path, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Read a save.

        Raises:
            ConfigError: it is damaged, or another run's.
        """
        try:
            with open_regular(Path(path), max_bytes=MAX_WEIGHT_BYTES):
                checkpoint: dict[str, Any] = super().load_checkpoint(path, *arguments, **options)
            told = checkpoint.pop(_KEY, None)
        except Exception as error:  # torch raises many types for damaged files
            raise ConfigError(
                f"{path} is damaged: {error or 'it is empty'}. Without it the run resumes from the "
                "start of this stage: remove it."
            ) from error
        self._owner.check(told, Path(path))
        return checkpoint
