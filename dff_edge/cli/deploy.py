"""dff-edge deploy: a bundle's graphs as engines of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dff_edge.cli.command import Command, command_line, json_option, table, write_json
from dff_edge.cli.console import say
from dff_edge.cli.options import summaries, warp_option
from dff_edge.cli.parameters import BundleName, KeysName, Precisions, SourceName, bundle_folder
from dff_edge.runtime.engines.backends import targets

if TYPE_CHECKING:
    from dff_edge.deploy import Deployed
    from dff_edge.runtime.engines.cache import EngineCache, EngineKey, Entry

_ALL = "all that the bundle holds for the target"


@click.command(cls=Command)
@click.argument("bundle", required=False, type=BundleName())
@click.option(
    "--target",
    type=click.Choice(tuple(targets())),
    help="Target of the engines. " + summaries(targets()),
)
@click.option(
    "--precision",
    "precisions",
    type=Precisions(),
    multiple=True,
    help=f"Precision of the graphs; may be given several times.  [default: {_ALL}]",
)
@click.option(
    "--source",
    type=SourceName(),
    default="synthetic://street",
    show_default=True,
    help="Frames that engines are checked with against the FP32 graphs: best the device's own.",
)
@click.option("--rebuild", is_flag=True, help="Rebuild existing engines too.")
@click.option(
    "--keys",
    type=KeysName(),
    default="in-order",
    show_default=True,
    metavar="MODE",
    help="How key frames are computed where answers are compared: in-order, background or lag:n. "
    "It says whether streams of two priorities give the right results on this device.",
)
@click.option(
    "--workspace",
    "workspace_mb",
    type=click.IntRange(min=1),
    metavar="MB",
    help="tensorrt: maximum scratch memory of an engine.  [default: all that is free]",
)
@warp_option
@click.option("--list", "is_list", is_flag=True, help="List the engines, and do nothing.")
@click.option(
    "--prune",
    "is_prune",
    is_flag=True,
    help="Remove engines of the target that other versions or devices left behind.",
)
@json_option
def command(
    bundle: str | None,
    target: str | None,
    precisions: tuple[tuple[str, ...], ...],
    source: str,
    rebuild: bool,
    keys: str,
    workspace_mb: int | None,
    warp: str,
    is_list: bool,
    is_prune: bool,
    json_path: Path | None,
) -> None:
    """Build BUNDLE's engines for this machine, check them, and keep them.

    Existing engines are used again. Engines are kept in $DFF_EDGE_CACHE, or in
    ~/.cache/dff-edge.
    """
    if is_list or is_prune:
        if bundle is not None or (is_list and is_prune):
            raise click.UsageError("--list and --prune accept no bundle, and exclude each other.")
        if is_prune and target is None:
            raise click.UsageError("--prune needs --target, whose engines are checked.")
        _list(target, json_path) if is_list else _prune(target, warp, json_path)
        return
    if bundle is None or target is None:
        raise click.UsageError("expected BUNDLE and --target, or --list.")
    asked = tuple(dict.fromkeys(p for group in precisions for p in group))
    holding = ("fp32", *asked)  # engines are compared with fp32
    folder = bundle_folder(bundle, holding, flavour=targets()[target].flavour)
    _deploy(folder, target, asked, source, rebuild, keys, workspace_mb, warp, json_path)


def _deploy(
    path: Path,
    target_name: str,
    asked: tuple[str, ...],
    source: str,
    rebuild: bool,
    keys: str,
    workspace_mb: int | None,
    warp: str,
    json_path: Path | None,
) -> None:
    from dff_edge.bundle.reader import Bundle
    from dff_edge.deploy import deploy_bundle, open_target, precisions_of, refusal_of
    from dff_edge.runtime.engines.cache import EngineCache
    from dff_edge.runtime.keys import parse_keys

    bundle = Bundle.open(path)
    cache = EngineCache()
    done: list[Deployed] = []
    with open_target(
        target_name,
        cache,
        plugin=warp == "plugin",
        workspace_mb=workspace_mb,
        progress=say,
    ) as target:
        precisions: Any = asked or precisions_of(target, bundle)
        left_out = {
            precision: refusal_of(target, precision)
            for precision in bundle.precisions_for(target.platform.flavour)
            if not asked and precision not in precisions
        }
        try:
            with command_line():  # of the source
                for deployed in deploy_bundle(
                    bundle,
                    target,
                    precisions,
                    cache,
                    source=source,
                    rebuild=rebuild,
                    keys=parse_keys(keys),
                    progress=say,
                ):
                    done.append(deployed)
        except Exception:
            if done:
                _print_engines(done)  # the remaining ones
            raise
        numbers = {
            "bundle": str(bundle.path),
            "target": target.platform.target,
            "runtime": target.platform.runtime,
            "device": target.platform.device,
            "cache": str(cache.folder),
            "precisions": {deployed.precision: _numbers(deployed) for deployed in done},
            "not_deployed": left_out,
        }
    if write_json(json_path, numbers):
        return
    _print_engines(done)
    for deployed in done:
        sources = sorted({report.record.source for report in deployed.engines.values()})
        click.echo(
            f"{deployed.precision}: {deployed.fidelity:.2%} {deployed.measure} as by its "
            f"graphs (at least {deployed.floor:.1%}), {deployed.agreement:.2%} as by the FP32 "
            f"graphs, on {', '.join(sources)}"
        )
        if deployed.agreement < deployed.floor:
            say(
                f"{deployed.precision} costs more than usual on these frames: run `dff-edge "
                "evaluate`, or deploy with frames of the device's own as --source."
            )
    click.echo(f"{numbers['runtime']}, {numbers['device']}; engines in {cache.folder}")
    for precision, reason in left_out.items():
        click.echo(f"{precision} was left out: {reason}")


def _print_engines(done: list[Deployed]) -> None:
    table(
        ["graph", "precision", "from", "build s", "ms", "relative error", "MB"],
        [
            [
                graph,
                deployed.precision,
                report.origin,
                f"{report.record.build_s:.1f}",
                f"{report.record.median_ms:.2f}",
                f"{report.record.relative_error:.1e}",
                f"{_engine_bytes(report.path) / 1e6:.1f}",
            ]
            for deployed in done
            for graph, report in deployed.engines.items()
        ],
    )


def _numbers(deployed: Deployed) -> dict[str, Any]:
    return {
        "fidelity": deployed.fidelity,
        "floor": deployed.floor,
        "agreement": deployed.agreement,
        "engines": {
            graph: {
                "from": report.origin,
                "reason": report.reason,
                "path": str(report.path),
                "bytes": _engine_bytes(report.path),
                **report.record.model_dump(mode="json"),
            }
            for graph, report in deployed.engines.items()
        },
    }


def _engine_bytes(path: Path) -> int:
    return (path / "engine").stat().st_size


def _list(target: str | None, json_path: Path | None) -> None:
    from dff_edge.runtime.engines.cache import EngineCache

    cache = EngineCache()
    entries = [e for e in cache.entries() if target in (None, _target_of(e))]
    if not write_json(json_path, {"cache": str(cache.folder), "engines": _entry_numbers(entries)}):
        _print_entries(cache, entries)


def _prune(target: str | None, warp: str, json_path: Path | None) -> None:
    from dff_edge.deploy import open_target
    from dff_edge.runtime.engines.cache import EngineCache

    assert target is not None  # as was checked
    cache = EngineCache()
    with open_target(target, cache, plugin=warp == "plugin") as opened:
        platform = opened.platform

        def is_kept(key: EngineKey) -> bool:
            return key.target != platform.target or (
                (key.runtime, key.device) == (platform.runtime, platform.device)
                # Without the plugin it is unknown which of its engines are stale.
                and (
                    platform.plugin_sha256 is None
                    or key.plugin_sha256 in (None, platform.plugin_sha256)
                )
            )

        removed = cache.prune(is_kept)
    if not write_json(json_path, {"cache": str(cache.folder), "removed": _entry_numbers(removed)}):
        _print_entries(cache, removed)
        say(f"{len(removed)} engines removed")


def _target_of(entry: Entry) -> str | None:
    return None if entry.record is None else entry.record.key.target


def _entry_numbers(entries: list[Entry]) -> list[dict[str, Any]]:
    return [
        {
            "path": str(entry.path),
            "bytes": entry.bytes,
            "record": None if entry.record is None else entry.record.model_dump(mode="json"),
        }
        for entry in entries
    ]


def _print_entries(cache: EngineCache, entries: list[Entry]) -> None:
    rows = []
    for entry in entries:
        if entry.record is None:
            rows.append(["damaged", entry.path.name[:12], "", "", "", "", "", ""])
            continue
        key = entry.record.key
        rows.append(
            [
                key.target,
                key.precision,
                key.subnet,
                key.runtime,
                key.device,
                f"{entry.bytes / 1e6:.1f}",
                f"{entry.record.median_ms:.2f}",
                entry.record.built,
            ]
        )
    table(["target", "precision", "graph", "runtime", "device", "MB", "ms", "built"], rows)
    click.echo(f"in {cache.folder}")
