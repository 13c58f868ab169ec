"""Saves within a stage of training, which a broken run goes on from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from dff_edge.runtime.errors import ConfigError


class WholeSaves(TorchCheckpointIO):
    """Saves appear whole or not at all; lightning's own do on the disk of ``$TMPDIR`` alone."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a save beside its place, then put it there."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".part")
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)

    def load_checkpoint(self, path: str | Path, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Read a save.

        Raises:
            ConfigError: it is damaged.
        """
        try:
            return super().load_checkpoint(path, *arguments, **options)
        except FileNotFoundError:
            raise
        except Exception as error:  # torch raises many types for damaged files
            raise ConfigError(
                f"{path} is damaged: {error or 'it is empty'}. Without it the run goes on from the "
                "start of this stage: remove it."
            ) from error
