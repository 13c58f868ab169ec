"""Training runs in a folder: each is made once and looked up by its configuration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch

from dff_edge.errors import ConfigError
from dff_edge.experiment.recipe import Run
from dff_edge.files.atomic import write_atomically
from dff_edge.files.documents import dump_yaml, read_yaml
from dff_edge.files.locks import own_folder
from dff_edge.trainer.checkpoint import CARD, save_checkpoint
from dff_edge.trainer.config import TrainConfig
from dff_edge.trainer.models import build_model
from dff_edge.trainer.train import RECORD, initialise, is_first_process, train

_log = logging.getLogger("dff_edge.experiment")


class Runs:
    """The runs of a folder.

    Two processes may work in one folder; of two that want the same run the later one gets an error.

    Args:
        folder: holds them as ``<name>-<key>``, in the layout of ``dff-edge train``; created where
            it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, run: Run) -> Path:
        """Return the folder of a run, which need not exist.

        Another experiment may have given it another name.
        """
        found = sorted(self._folder.glob(f"*-{run.key}"))
        return found[0] if found else self._folder / f"{run.name}-{run.key}"

    def checkpoint(self, run: Run) -> Path:
        """Return the checkpoint of a run: trained before, resumed, or trained now.

        Raises:
            ConfigError, CheckpointError, SourceError: as ``train`` does.
            SinkError: another process trains it.
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
        return train_once(run.name, config, folder, start)


def train_once(
    name: str, config: TrainConfig, folder: Path, start: Mapping[str, Path] | None = None
) -> Path:
    """Return the checkpoint of a run's folder: trained before, resumed, or trained now.

    Args:
        name: of the run, for people.
        config: of a run that is new; one that was broken off must have the same.
        folder: in the layout of ``dff-edge train``.
        start: checkpoints of ``config.init`` that may have been moved since.

    Raises:
        ConfigError, CheckpointError, SourceError: as ``train`` does.
        SinkError: another process trains it.
    """
    done = folder / "checkpoint"
    if (done / CARD).is_file():
        return done
    with own_folder(folder) if is_first_process() else nullcontext():
        if (done / CARD).is_file():  # by another process, just now
            return done
        is_begun = (folder / RECORD).exists()
        if is_begun and start:
            _find_again(folder / RECORD, start)
        _log.info("%s: %s", name, "resumes its training" if is_begun else "training")
        return train(config, folder, resume=is_begun)


def _find_again(record: Path, start: Mapping[str, Path]) -> None:
    """Update where the runs that an interrupted run started from are.

    The folder may have been moved, or be reached by another path. The key in a run's name
    identifies it.
    """
    try:
        config = read_yaml(record)
        config["init"] |= {network: str(checkpoint) for network, checkpoint in start.items()}
    except (ConfigError, TypeError, KeyError):
        return  # damaged, which ``train`` reports
    write_atomically(record, dump_yaml(config))


def _put_together(config: TrainConfig, output: Path) -> None:
    """Write a checkpoint of networks from other runs as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_model(config.model)
    initialise(model, config)
    training = {"init": config.init.model_dump(mode="json")}
    save_checkpoint(output, model, config.model, name=config.name, training=training)
