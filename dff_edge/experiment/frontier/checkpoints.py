"""The trained networks: those that are named, and those that are trained here, once."""

from __future__ import annotations

from pathlib import Path

from dff_edge.errors import ConfigError
from dff_edge.experiment.frontier.config import FrontierConfig, NetworkConfig
from dff_edge.experiment.runs import train_once
from dff_edge.trainer.checkpoint import Checkpoint, load_checkpoint
from dff_edge.trainer.config import TrainConfig
from dff_edge.trainer.train import flatten

_RECIPE = ("model", "stages")  # paths of data and weights differ where a run was copied


def load_networks(
    config: FrontierConfig, trainings: dict[str, TrainConfig], folder: Path
) -> dict[str, Checkpoint]:
    """Return the checkpoint of each network, at the size of its frames.

    Args:
        config: of the frontier.
        trainings: of the networks to train, by name.
        folder: of their runs, ``<name>`` each in the layout of ``dff-edge train``. A run that is
            finished there, or was copied there, is used again, one that was broken off is resumed.

    Raises:
        ConfigError: a run in the folder has another recipe; networks of different tasks or classes.
        DffEdgeError: as training and loading do.
    """
    loaded = {}
    for name, network in config.networks.items():
        if name in trainings:
            path = train_once(name, trainings[name], folder / name)
            checkpoint = load_checkpoint(path)
            _check_recipe(checkpoint, trainings[name], path)
        else:
            checkpoint = load_checkpoint(str(network.checkpoint))
        loaded[name] = _at_size(checkpoint, network)
    _check_answers(loaded)
    return loaded


def _at_size(checkpoint: Checkpoint, network: NetworkConfig) -> Checkpoint:
    size = network.frame_size
    return checkpoint if size is None else checkpoint.at_frame_size(size)


def _check_recipe(checkpoint: Checkpoint, training: TrainConfig, path: Path) -> None:
    """Raise for a finished run of other networks or steps than the configuration has."""
    made = checkpoint.training.get("config", {})
    wanted = training.model_dump(mode="json")
    then, now = (flatten({key: each.get(key) for key in _RECIPE}) for each in (made, wanted))
    keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    if keys:
        raise ConfigError(
            f"{path} was trained with other settings than the configuration given: "
            f"{', '.join(keys)}. Move it away to train anew, or name it as the network's "
            "checkpoint."
        )


def _check_answers(networks: dict[str, Checkpoint]) -> None:
    """Raise unless all networks have one task and the same classes."""
    first, *others = networks
    wanted = networks[first].config.task
    for name in others:
        task = networks[name].config.task
        if (task.name, task.classes) != (wanted.name, wanted.classes):
            raise ConfigError(
                f"{name} is for {task.name} of {', '.join(task.classes)}, {first} for "
                f"{wanted.name} of {', '.join(wanted.classes)}; expected the same of all networks."
            )
