"""Checks of the command line of ``dff-edge run``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dff_edge.cli.command import check_output

if TYPE_CHECKING:
    from dff_edge.runtime.sinks.names import SinkUri
    from dff_edge.serve import Address

NAME = "{name}"  # as in dff_edge.runtime.sinks.names, whose import costs time


class SinkName(click.ParamType):
    """A sink; see `dff_edge.runtime.sinks.names`."""

    name = "sink"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> SinkUri:
        from dff_edge.errors import ConfigError
        from dff_edge.runtime.sinks.names import parse_sink

        try:
            return parse_sink(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class ServeAddress(click.ParamType):
    """The address of a run's page; see `dff_edge.serve.address`."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        from dff_edge.errors import ConfigError
        from dff_edge.serve import parse_address

        try:
            return parse_address(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def check_profile(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Raise for a file of another kind, or one that cannot be written."""
    if path is None:
        return None
    if path.suffix not in (".json", ".png"):
        raise click.BadParameter(f"'{path}' ends in neither .json nor .png.")
    if path.suffix == ".png":
        from dff_edge.report.plot import check_plotting

        check_plotting()
    return path if NAME in str(path) else check_output(ctx, param, path)


def check_run(
    sources: Sequence[str],
    outputs: Sequence[SinkUri],
    *,
    frames: int | None,
    is_served: bool,
    others: Mapping[str, Path | None],
) -> list[str]:
    """Check that options fit together, before anything is opened.

    Args:
        sources, outputs, frames: as given.
        is_served: whether there is a page.
        others: further files, by the option that names them.

    Returns:
        The list of single sources.

    Raises:
        UsageError, ConfigError: they do not fit together.
    """
    from dff_edge.runtime.live import check_outputs
    from dff_edge.runtime.sources.several import expand_sources, is_endless

    expanded = expand_sources(sources)
    if len(expanded) > 1:
        if is_served:
            raise click.UsageError(f"--serve shows one source, and these are {len(expanded)}.")
        for uri in outputs:
            if not uri.is_for_each:
                raise click.UsageError(
                    f"'{uri.text}' is one place for {len(expanded)} sources; give each its own: a "
                    f"folder (out/), or its name ('out/{NAME}.mp4')."
                )
        profile = others["--profile"]
        if profile is not None and NAME not in str(profile):
            raise click.UsageError(
                f"--profile {profile} is one file for {len(expanded)} sources; give each its own: "
                f"'out/{NAME}.json'."
            )
        if frames is None and any(is_endless(source) for source in expanded):
            raise click.UsageError(
                "Sources are run one after another, and a camera does not end; set --frames, or "
                "run it by itself."
            )
    files = [
        (f"{option} {path}", path)
        for option, path in others.items()
        if path is not None and str(path) != "-"
    ]
    check_outputs(expanded, outputs, files)
    return expanded
