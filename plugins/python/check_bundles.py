"""Whether the ready bundles that a wheel carries are there, and are those of the models' weights.

Run by the build backend, where dff-edge and its packages are not installed: imports the standard
library only.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def models(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Return the cards of all models, by name."""
    cards = sorted((root / "dff_edge/models").glob("*/card.json"))
    return {path.parent.name: json.loads(path.read_bytes()) for path in cards}


def left_out(root: Path = ROOT) -> list[str]:
    """Return the names of the models that stay in the repository, by their cards."""
    return [name for name, card in models(root).items() if card["data"]["use"] != "any"]


def problems(root: Path = ROOT) -> Iterator[str]:
    """Yield what is wrong with the ready bundle of each model that a wheel carries."""
    version = re.search(r'^version = "(.+)"$', (root / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    for name, card in models(root).items():
        if card["data"]["use"] == "any":
            model = root / "dff_edge/models" / name
            problem = _problem(model, card["bundle"], version[1])
            if problem is not None:
                yield f"that of '{name}' {problem}"


def are_made(root: Path = ROOT) -> bool:
    """Return whether a checkout has a ready bundle of any model."""
    return any((root / "dff_edge/models").glob("*/bundle/manifest.json"))


def check(root: Path = ROOT) -> None:
    """End the process with what to do where a bundle is missing or stale."""
    found = list(problems(root))
    if found:
        sys.exit(
            f"dff-edge's wheel carries models ready to run, and {'; '.join(found)}. Make them with "
            "torch, once: make install bundles   # or build a wheel without them, which needs "
            "torch to run a model by its name: pip install . -C bundles=none"
        )


def _problem(model: Path, recipe: dict[str, Any], version: str) -> str | None:
    folder = model / "bundle"
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
    except FileNotFoundError:
        return "is missing"
    made = manifest["provenance"]
    if made["checkpoint_sha256"] != _sha256(model / "weights.safetensors"):
        return "was made from other weights than those that are there now"
    if made["versions"]["dff_edge"] != version:
        return f"was made by dff-edge {made['versions']['dff_edge']}, not {version}"
    held = manifest["graphs"]
    if held.keys() != {"ort"} or held["ort"].keys() != set(recipe["precisions"]):
        return f"does not hold {' and '.join(recipe['precisions'])} for ONNX Runtime alone"
    for precision, record in manifest.get("calibration", {}).get("ort", {}).items():
        if record["source"] != recipe["calibration"]:
            return f"was calibrated in {precision} on {record['source']}, not on the card's clips"
    for file, record in manifest["files"].items():
        path = folder / file
        if not path.is_file() or _sha256(path) != record["sha256"]:
            return f"is damaged: {file} is not the file of its manifest"
    return None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    check()
