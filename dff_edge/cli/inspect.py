"""dff-edge inspect: contents of a bundle or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dff_edge.cli.command import Command, json_option, table, write_json
from dff_edge.cli.parameters import ModelName
from dff_edge.errors import MissingDependencyError, require
from dff_edge.printable import printable

if TYPE_CHECKING:
    from dff_edge.bundle.records import Calibration, ScoreThreshold
    from dff_edge.bundle.staleness import StalenessModel


@click.command(cls=Command)
@click.argument("model", type=ModelName())
@json_option
def command(model: str, json_path: Path | None) -> None:
    """Show the contents of MODEL, a bundle or a checkpoint, after verifying it.

    Of a model that comes with dff-edge it is the checkpoint, and without torch the bundle that is
    ready.
    """
    facts = _facts(model)
    if write_json(json_path, facts):
        return
    graphs = facts.pop("graphs", [])
    for key, value in facts.items():
        click.echo(f"{key.replace('_', ' ')}: {_text(value)}")
    if graphs:
        click.echo()
        table(
            ["graph", "file", "MB", "opset", "operators"],
            [
                [
                    g["graph"],
                    g["file"],
                    f"{g['bytes'] / 1e6:.2f}",
                    str(g["opset"]),
                    _counts(g["operators"]),
                ]
                for g in graphs
            ],
        )


def _facts(model: str) -> dict[str, Any]:
    from dff_edge.bundle.shipped import find_bundle, ready_precisions, shipped_models

    if (Path(model) / "model.json").is_file():
        return _checkpoint(model)
    if Path(model).is_dir():
        return _bundle(model)
    try:
        return _checkpoint(model)
    except MissingDependencyError:
        if model not in shipped_models() or not ready_precisions(model):
            raise
        return _bundle(str(find_bundle(model)))


def _bundle(model: str) -> dict[str, Any]:
    from dff_edge.bundle.reader import Bundle
    from dff_edge.names import FLAVOURS

    bundle = Bundle.open(model)
    manifest = bundle.manifest
    graphs = []
    for flavour in FLAVOURS:
        paths = manifest.graph_paths(flavour)
        for precision in bundle.precisions_for(flavour):
            for graph, path in paths[precision].items():
                summary = bundle.graph_summary(precision, graph, flavour)
                name = f"{precision} {graph}"
                graphs.append(
                    {
                        "graph": f"{name}, TensorRT" if flavour == "trt" else name,
                        "file": path,
                        "bytes": manifest.files[path].bytes,
                        "opset": summary.opset,
                        "operators": dict(summary.operators.most_common()),
                    }
                )
    return {
        "bundle": str(bundle.path),
        "digest": bundle.digest,
        "task": manifest.task,
        "classes": list(manifest.class_names),
        "frame_size": list(manifest.frame_size),
        "channels": manifest.channels,
        "flow": manifest.flow_function,
        "correction": bool(manifest.correction),  # by the flow graph, which holds its network
        "key_interval": manifest.default_key_interval,
        "largest_distance": {
            "trained": manifest.provenance.max_distance,
            "calibrated": {
                flavour: {precision: record.max_distance for precision, record in records.items()}
                for flavour, records in manifest.calibration.items()
            },
        },
        **_threshold(manifest.score_threshold),
        "bytes": {
            flavour: {p: bundle.size_bytes(p, flavour) for p in bundle.precisions_for(flavour)}
            for flavour in FLAVOURS
        },
        "calibration": {
            flavour: {precision: _source(record) for precision, record in records.items()}
            for flavour, records in manifest.calibration.items()
        },
        "accuracy": [
            record.model_dump(mode="json", exclude_none=True) for record in manifest.accuracy
        ],
        "staleness": None if manifest.staleness is None else _staleness(manifest.staleness),
        "worst_parity": max((record.relative_error for record in manifest.parity), default=None),
        "made": manifest.provenance.created,
        "versions": manifest.provenance.versions,
        "training_data": manifest.provenance.training_data,
        "graphs": graphs,
    }


def _threshold(chosen: ScoreThreshold | None) -> dict[str, Any]:
    return {} if chosen is None else {"score_threshold": chosen.model_dump(mode="json")}


def _source(record: Calibration) -> str:
    clips = f"{record.clips} clips of {record.source}"
    bits = ", weights of 7 bits" if record.weight_bits == 7 else ""
    return f"{record.frames} frames, {record.pairs} pairs, {clips}{bits}"


def _staleness(model: StalenessModel) -> dict[str, Any]:
    quality = model.quality
    return {
        "fitted_on": f"{model.pairs} pairs at distances up to {model.max_distance}, {model.clips} "
        f"clips of {model.source}",
        "rank_correlation": quality.rank_correlation,
        "rank_correlation_of_distance_alone": quality.distance_alone,
        "rank_correlation_within_a_distance": quality.within_distance,
        "growth_with_distance": round(model.growth, 4),
        "weights": {name: round(term.weight, 4) for name, term in model.terms.items()},
        "expected_and_found": ", ".join(
            f"{own.expected:.3f} {own.found:.3f}" for own in quality.calibration
        ),
    }


def _checkpoint(model: str) -> dict[str, Any]:
    require("torch", extra="export", purpose="Reading a checkpoint")
    from dff_edge.trainer.checkpoint import find_checkpoint, load_checkpoint

    checkpoint = load_checkpoint(model)
    config = checkpoint.config
    networks = {
        name: sum(parameter.numel() for parameter in network.parameters())
        for name, network in checkpoint.model.named_children()
        if name in ("feature", "flow", "correction", "task")
    }
    return {
        "checkpoint": str(find_checkpoint(model)),
        "name": checkpoint.name,
        "digest": checkpoint.digest,
        "feature": f"{config.feature.name}, width {config.feature.width}, "
        f"{config.channels} channels",
        "flow": f"{config.flow.name}, width {config.flow.width}, scale {config.flow.scale}",
        "correction": None
        if config.correction is None
        else f"{config.correction.name}, width {config.correction.width}, "
        f"{config.correction.channels} channels",
        "parameters": networks,
        **_threshold(checkpoint.score_threshold),
        "classes": list(config.task.classes),
        "frame_size": list(config.frame_size),
        "versions": {
            key: value for key, value in checkpoint.training.items() if isinstance(value, str)
        },
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        if any(isinstance(item, dict) for item in value.values()):
            return "".join(f"\n  {printable(key)}: {_text(item)}" for key, item in value.items())
        return ", ".join(printable(f"{key} {item}") for key, item in value.items()) or "none"
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            return "".join("\n  " + _text(item) for item in value)
        return ", ".join(map(printable, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else printable(value)


def _counts(operators: dict[str, int]) -> str:
    return " ".join(f"{name}:{count}" for name, count in operators.items())
