"""dff-edge train: a checkpoint from a configuration."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

import click

from dff_edge.cli.command import Command
from dff_edge.cli.parameters import Change, changed_settings
from dff_edge.errors import require


@click.command(cls=Command)
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    "run_folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="RUN",
    help="Folder of the run; new or empty. The checkpoint is written to RUN/checkpoint.",
)
@click.option(
    "--set",
    "changes",
    type=Change(),
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, as in stages.0.lr=0.01; may be given several times.",
)
@click.option("--resume", is_flag=True, help="Resume the run in RUN from its last save.")
def command(config: Path, run_folder: Path, changes: tuple[str, ...], resume: bool) -> None:
    """Train a model by CONFIG, a YAML file as in configs/.

    Prints the folder of the checkpoint. Keys and values are explained in configs/README.md.
    """
    for module in ("torch", "lightning", "yaml"):
        require(module, extra="train", purpose="dff-edge train")
    from dff_edge.files.locks import own_folder
    from dff_edge.trainer.completion import load_whole_config
    from dff_edge.trainer.kept_memory import keep_freed_memory
    from dff_edge.trainer.train import RECORD, is_first_process, train

    keep_freed_memory()
    logging.getLogger("dff_edge.trainer").setLevel(logging.INFO)
    for name in ("lightning.pytorch", "lightning.fabric"):  # hints and adverts come as INFO
        logging.getLogger(name).setLevel(logging.WARNING)
    with changed_settings():
        settings = load_whole_config(config, changes)
    try:
        with own_folder(run_folder) if is_first_process() else nullcontext():
            checkpoint = train(settings, run_folder, resume=resume)
    except KeyboardInterrupt as error:
        hint = f" The same command with --resume resumes it in '{run_folder}'."
        is_begun = (run_folder / RECORD).exists()
        by = str(error) or "the keyboard"
        raise click.ClickException(f"Stopped by {by}.{hint if is_begun else ''}") from None
    if is_first_process():
        click.echo(checkpoint)
