"""dff-edge doctor: what this machine has and lacks, and the commands that add it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dff_edge.cli.command import Command, json_option, write_json

if TYPE_CHECKING:
    from dff_edge.report.doctor import Finding

_MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "missing": ("missing", "red")}
_NO_MARK = ("-", None)


@click.command(cls=Command)
@json_option
@click.pass_context
def command(ctx: click.Context, json_path: Path | None) -> None:
    """Report what this machine has for dff-edge, and how to add what it lacks.

    Changes nothing and opens no camera. Exit code 1: something is missing that running a bundle
    on the CPU needs.
    """
    from dff_edge.report.doctor import examine, is_fit

    sections = examine()
    fit = is_fit(sections)
    content = {
        "is_fit": fit,
        "sections": {
            title: [asdict(finding) for finding in findings] for title, findings in sections.items()
        },
    }
    if not write_json(json_path, content):
        _print(sections)
        click.echo(
            "Everything for running on the CPU is installed."
            if fit
            else f"Missing for running on the CPU: {', '.join(_needed(sections))}."
        )
    if not fit:
        ctx.exit(1)


def _print(sections: dict[str, list[Finding]]) -> None:
    width = max(len(finding.name) for findings in sections.values() for finding in findings)
    for title, findings in sections.items():
        click.secho(title, bold=True)
        for finding in findings:
            mark, colour = _MARKS.get(finding.state, _NO_MARK)
            mark = click.style(f"{mark:<7}", fg=colour)
            click.echo(f"  {mark}  {finding.name:<{width}}  {finding.text}".rstrip())
            if finding.fix:
                click.echo(f"{'':<{width + 13}}> {finding.fix}")
        click.echo()


def _needed(sections: dict[str, list[Finding]]) -> list[str]:
    return [
        finding.name
        for findings in sections.values()
        for finding in findings
        if finding.is_needed and finding.state == "missing"
    ]
