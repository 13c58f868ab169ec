"""Checks of the command line of ``dff-edge run``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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


class RunPlan(NamedTuple):
    """The sources of a run, and how they are run.

    Attributes:
        sources: single sources.
        names: of each in the names of its files.
        at_once: whether they run at once, not one after another.
    """

    sources: list[str]
    names: list[str]
    at_once: bool


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
    at_once: bool,
    is_served: bool,
    others: Mapping[str, Path | None],
) -> RunPlan:
    """Check that options fit together, before anything is opened.

    Args:
        sources, outputs, at_once: as given.
        is_served: whether there is a page.
        others: further files, by the option that names them.

    Raises:
        UsageError, ConfigError: they do not fit together.
    """
    from dff_edge.runtime.sinks.names import source_name, source_names
    from dff_edge.runtime.sinks.places import check_outputs
    from dff_edge.runtime.sources.several import expand_sources, is_camera

    expanded = expand_sources(sources)
    is_at_once = len(expanded) > 1 and (at_once or any(map(is_camera, expanded)))
    if len(expanded) > 1:
        if is_served and not is_at_once:
            raise click.UsageError(
                f"--serve shows sources that run at once, and these {len(expanded)} run one after "
                "another; add --at-once, or serve one of them."
            )
        for uri in outputs:
            if not uri.is_for_each:
                raise click.UsageError(
                    f"'{uri.text}' is one place for {len(expanded)} sources; give each its own: a "
                    f"folder (out/), or its name ('out/{NAME}.mp4')."
                )
            if is_at_once and uri.kind == "display":
                raise click.UsageError(
                    "display:// is a window of one source, and these run at once; watch them in a "
                    "browser: --serve 8080"
                )
        profile = others["--profile"]
        if profile is not None and NAME not in str(profile):
            raise click.UsageError(
                f"--profile {profile} is one file for {len(expanded)} sources; give each its own: "
                f"'out/{NAME}.json'."
            )
    files = [
        (f"{option} {path}", path)
        for option, path in others.items()
        if path is not None and str(path) != "-"
    ]
    names = source_names(expanded) if is_at_once else [source_name(uri) for uri in expanded]
    check_outputs(expanded, outputs, files, names=names)
    return RunPlan(expanded, names, is_at_once)
