"""Training runs in a folder: each is made once and found again by its configuration."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from dff_edge.experiment.recipe import Run
from dff_edge.runtime.documents import dump_yaml, read_yaml
from dff_edge.runtime.errors import ConfigError
from dff_edge.trainer.checkpoint import CARD, save_checkpoint
from dff_edge.trainer.config import TrainConfig
from dff_edge.trainer.models import build_model
from dff_edge.trainer.train import RECORD, initialise, train

_log = logging.getLogger("dff_edge.experiment")


class Runs:
    """The runs of a folder.

    Two processes may work in one folder as long as they train different seeds.

    Args:
        folder: where they lie, ``<name>-<key>`` each, as ``dff-edge train`` leaves them; made when
            missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, run: Run) -> Path:
        """Where a run lies, also one that is still to be made; another experiment may have given it
        another name."""
        found = sorted(self._folder.glob(f"*-{run.key}"))
        return found[0] if found else self._folder / f"{run.name}-{run.key}"

    def checkpoint(self, run: Run) -> Path:
        """Give the checkpoint of a run: trained before, gone on with, or trained now.

        Raises:
            ConfigError, CheckpointError, SourceError: as ``train`` does.
        """
        folder = self.folder(run)
        done = folder / "checkpoint"
        if (done / CARD).is_file():
            return done
        start: dict[str, Path] = {
            network: self.checkpoint(origin) for network, origin in run.start.items()
        }
        init = run.config.init.model_copy(update=start)
        config = run.config.model_copy(update={"init": init})
        if not run.is_trained:
            _put_together(config, done)
            return done
        is_begun = (folder / RECORD).exists()
        if is_begun:
            _find_again(folder / RECORD, start)
        _log.info("%s: %s", run.name, "goes on with its training" if is_begun else "training")
        return train(config, folder, resume=is_begun)


def _find_again(record: Path, start: Mapping[str, Path]) -> None:
    """Note where the runs that a broken run started from lie now: the folder may have been moved,
    or be called by another path. They are the same runs, by the key in the run's name."""
    try:
        config = read_yaml(record)
        config["init"] |= {network: str(checkpoint) for network, checkpoint in start.items()}
    except (ConfigError, TypeError, KeyError):
        return  # damaged, which ``train`` says
    temporary = record.with_name(record.name + ".part")
    temporary.write_text(dump_yaml(config), encoding="utf-8")
    os.replace(temporary, record)


def _put_together(config: TrainConfig, output: Path) -> None:
    """Write a checkpoint of networks from other runs as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_model(config.model)
    initialise(model, config)
    training = {"init": config.init.model_dump(mode="json")}
    save_checkpoint(output, model, config.model, name=config.name, training=training)
