"""INT8 bundles of the networks, made once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from dff_edge.bundle.reader import Bundle
from dff_edge.calibration import Clip, calibrate_bundle, open_calibration_clips
from dff_edge.experiment.frontier.config import CalibrationConfig
from dff_edge.export import export_bundle
from dff_edge.names import FlowFunction
from dff_edge.trainer.checkpoint import Checkpoint

# A network for every frame needs no flow: this one has no graph, which would be calibrated.
NO_FLOW: FlowFunction = "dis-ultrafast"
_LEAST_INTERVAL = 2  # that a calibration takes
_log = logging.getLogger("dff_edge.experiment")


class Int8Bundles:
    """The bundles of a folder, ``<name>-<flow>-<key>`` by what they are made of.

    Args:
        folder: where they are written.
        calibration: what they are calibrated on.
    """

    def __init__(self, folder: Path, calibration: CalibrationConfig) -> None:
        self._folder = folder
        self._calibration = calibration

    def of(self, name: str, checkpoint: Checkpoint, flow: FlowFunction | None) -> Bundle:
        """Return the bundle of a checkpoint: made before, or exported and calibrated now.

        Args:
            name: of the network.
            checkpoint: at the size of its frames.
            flow: source of the flow; None for a network that answers every frame.

        Raises:
            BundleError, CalibrationError, ExportError: as export and calibration do.
        """
        interval = _LEAST_INTERVAL if flow is None else self._calibration.interval
        made_of = {
            "weights": checkpoint.digest,
            "model": checkpoint.config.model_dump(mode="json"),
            "flow": flow,
            "source": self._calibration.source,
            "interval": interval,
        }
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]
        path = self._folder / f"{name}-{flow or 'frames'}-{key}"
        if (path / "manifest.json").is_file():
            bundle = Bundle.open(path)
            if "int8" in bundle.precisions:  # else it was broken off in between
                return bundle
        _log.info("%s: export and calibration", path.name)
        export_bundle(
            checkpoint,
            path,
            interval=interval,
            flow=flow or NO_FLOW,
            replace=True,
            command="dff-edge experiment frontier",
        )
        return calibrate_bundle(
            path,
            self._clips,
            source=self._calibration.source,
            interval=interval,
            flavours=("ort",),
            precisions=("int8",),
            progress=_log.info,
        )

    @cached_property
    def _clips(self) -> Sequence[Clip]:
        return open_calibration_clips(self._calibration.source)
