"""Bundles of the networks that are timed."""

from __future__ import annotations

from pathlib import Path

from dff_edge.export import export_bundle
from dff_edge.names import FlowFunction
from dff_edge.trainer.checkpoint import load_checkpoint


class Bundles:
    """One bundle for each combination of networks: weights make no difference to the speed.

    Args:
        folder: where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, Path] = {}

    def of(self, checkpoint: Path, name: str, flow: FlowFunction = "network") -> Path:
        """Export a checkpoint, unless one of the same networks was.

        Args:
            checkpoint: its folder.
            name: of the bundle.
            flow: source of the flow.

        Raises:
            CheckpointError, ExportError: as loading and exporting do.
        """
        loaded = load_checkpoint(checkpoint)
        kind = f"{flow}: {loaded.config.model_dump_json()}"
        if kind not in self._written:
            output = self._folder / name.replace(" ", "-")
            export_bundle(loaded, output, flow=flow, replace=True, command="dff-edge experiment")
            self._written[kind] = output
        return self._written[kind]
