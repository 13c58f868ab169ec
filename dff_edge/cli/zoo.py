"""dff-edge zoo: the models that come with dff-edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dff_edge.cli.command import Command, json_option, table, write_json


@click.command(cls=Command)
@click.argument("name", required=False)
@json_option
def command(name: str | None, json_path: Path | None) -> None:
    """List the models that come with dff-edge, or show the card of the one called NAME.

    Their names are accepted for a checkpoint (`dff-edge export street`), and for a bundle
    (`dff-edge run street VIDEO`). "ready" are the precisions that a model runs in as it is; in FP32
    a bundle of the others is exported when it is first used, which needs torch.
    """
    from dff_edge.bundle.shipped import MODELS, shipped_models
    from dff_edge.zoo.card import read_card

    if name is not None:
        if name not in shipped_models():
            raise click.BadParameter(
                f"'{name}' is no model that comes with dff-edge, expected one of "
                f"{', '.join(shipped_models())}.",
                param_hint="NAME",
            )
        card = read_card(name)
        if not write_json(json_path, _facts(name)):
            click.echo((MODELS / card.name / "README.md").read_text(encoding="utf-8"), nl=False)
        return
    names = shipped_models()
    if write_json(json_path, [_facts(known) for known in names]):
        return
    rows = []
    for known in names:
        card, facts = read_card(known), _facts(known)
        size, results = card.frame_size, card.results
        reached = [f"{100 * results.at_distance[0]:.1f} frame"]
        reached += [f"{100 * share:.1f} at l = {n}" for n, share in results.at_interval.items()]
        rows.append(
            [
                known,
                card.task,
                str(len(card.classes)),
                f"{size[0]}x{size[1]}",
                f"{facts['bytes'] / 1e6:.1f}",
                ", ".join(facts["ready"]) or "needs torch",
                card.data.name,
                f"{results.metric} %, {results.split}: {', '.join(reached)}",
            ]
        )
    table(["model", "task", "classes", "frame", "MB", "ready", "data", "accuracy"], rows)


def _facts(name: str) -> dict[str, Any]:
    from dff_edge.bundle.shipped import ready_precisions
    from dff_edge.zoo.card import model_bytes, read_card

    return {
        **read_card(name).model_dump(mode="json"),
        "bytes": model_bytes(name),
        "ready": list(ready_precisions(name)),
    }
