"""One experiment by name: its configuration read, its folder claimed, its results written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dff_edge.errors import ConfigError
from dff_edge.experiment.config import ExperimentConfig
from dff_edge.experiment.figure3 import run_figure3
from dff_edge.experiment.frontier.config import FrontierConfig
from dff_edge.experiment.frontier.run import run_frontier
from dff_edge.experiment.table2 import run_table2
from dff_edge.experiment.table4 import run_table4
from dff_edge.experiment.table5 import run_table5
from dff_edge.files.atomic import write_atomically
from dff_edge.files.documents import dump_yaml
from dff_edge.trainer.settings import Settings, load_settings
from dff_edge.trainer.train import flatten


class _Results(Protocol):
    def markdown(self) -> str: ...

    def model_dump_json(self, *, indent: int) -> str: ...


class _Experiment(NamedTuple):
    settings: type[Settings]
    run: Callable[[Any, Path, Sequence[int]], _Results]


_EXPERIMENTS = {
    "table2": _Experiment(ExperimentConfig, run_table2),
    "table4": _Experiment(ExperimentConfig, run_table4),
    "table5": _Experiment(ExperimentConfig, run_table5),
    "figure3": _Experiment(ExperimentConfig, run_figure3),
    "frontier": _Experiment(FrontierConfig, run_frontier),
}


def run_experiment(
    name: str, config_path: Path, changes: Iterable[str], folder: Path, seeds: Sequence[int]
) -> str:
    """Run or resume a table or figure, or the frontier.

    Args:
        name: "table2", "table4", "table5", "figure3" or "frontier".
        config_path: YAML file.
        changes: ``key=value`` each.
        folder: of its training runs and results, ``<name>.json``, ``<name>.md`` and for a figure
            ``<name>.png``. All experiments of a configuration share one, and so the runs that
            they have in common.
        seeds: of the training runs.

    Returns:
        The results as Markdown.

    Raises:
        ConfigError: a wrong configuration, or the folder belongs to another one.
        DffEdgeError: as training, evaluation and export do.
    """
    experiment = _EXPERIMENTS[name]
    config = load_settings(config_path, experiment.settings, changes)
    _claim(folder, config)
    results = experiment.run(config, folder, seeds)
    text = results.markdown()
    write_atomically(folder / f"{name}.json", results.model_dump_json(indent=2) + "\n")
    write_atomically(folder / f"{name}.md", text)
    return text


def _claim(folder: Path, config: Settings) -> None:
    """Record the configuration of a folder, or check that it is the same."""
    record = folder / "experiment.yaml"
    if not record.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(record, dump_yaml(config.model_dump(mode="json")))
        return
    try:
        before = load_settings(record, type(config))
    except ConfigError as error:
        raise ConfigError(
            f"{error} If it is damaged, remove it; finished runs are found without it. If it is "
            "that of another experiment, give a new folder."
        ) from error
    if before != config:
        then, now = (flatten(each.model_dump(mode="json")) for each in (before, config))
        keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        raise ConfigError(
            f"{record} differs from the configuration given in {', '.join(keys)}. Results of two "
            "configurations do not belong in one folder: give a new one. Finished runs are found "
            "there too, once they are in its runs/."
        )
