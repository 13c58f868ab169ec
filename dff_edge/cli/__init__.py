"""The ``dff-edge`` command. Each subcommand is one file and is imported when it is used."""

from __future__ import annotations

import importlib
import io
import sys

import click

_COMMANDS = {
    "train": "Train a model from a configuration.",
    "import-weights": "Import published weights to start from.",
    "export": "Write a checkpoint as a bundle of ONNX graphs.",
    "calibrate": "Add INT8 and FP16 graphs to a bundle.",
    "deploy": "Build a bundle's engines for this machine.",
    "evaluate": "Measure accuracy at every distance from the key frame.",
    "plan": "Search how to run a bundle on this machine, for a camera at a rate.",
    "run": "Run a bundle on a camera, a video or images.",
    "benchmark": "Compare precisions and key intervals in speed and accuracy.",
    "zoo": "List the models that come with dff-edge.",
    "experiment": "Run a table or figure of the paper.",
    "data": "Check and divide labelled data before training on it.",
    "inspect": "Show the contents of a bundle or a checkpoint.",
    "doctor": "Report what this machine has, lacks, and how to add it.",
}


class _LazyGroup(click.Group):
    """Knows its commands by name, so that ``--help`` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"dff_edge.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dff-edge", prog_name="dff-edge")
def main() -> None:
    """Deep Feature Flow from training to the device.

    Results go to stdout, progress to stderr. Exit code 2: the command line is wrong;
    1: the work failed.
    """
    # A path may hold bytes that are not text, or text that the terminal cannot display.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
