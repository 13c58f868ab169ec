"""Accuracy of a checkpoint by the paper's protocol, cached on disk."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Literal

from dff_edge.data.clips import check_for_model, open_clips
from dff_edge.evaluation.evaluate import evaluate
from dff_edge.files.atomic import write_atomically
from dff_edge.files.documents import read_json
from dff_edge.names import FlowFunction
from dff_edge.trainer.checkpoint import load_checkpoint
from dff_edge.trainer.predictor import TorchPredictor

Flow = FlowFunction | Literal["copy"]  # "copy": none, key features stand for the current ones

_log = logging.getLogger("dff_edge.experiment")


def accuracy_at_intervals(
    checkpoint: Path, folder: Path, test: str, max_interval: int, flow: Flow = "network"
) -> list[float]:
    """Measure "DFF at l" for l = 1..max_interval, all on the same labelled frames.

    Args:
        checkpoint: its folder.
        folder: where results are cached.
        test: labelled clips by name.
        max_interval: largest l.
        flow: source of the flow.

    Returns:
        Accuracy 0..1 for each l.

    Raises:
        CheckpointError, ConfigError, SourceError: as loading and ``evaluate`` do.
    """
    protocol = {"test": test, "max_interval": max_interval, "flow": flow}
    digest = hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:12]
    kept = folder / f"accuracy-{digest}.json"
    if kept.is_file():
        values: list[float] = read_json(kept)["accuracy"]
        return values
    _log.info("%s: measuring on %s, flow: %s", folder.name, test, flow)
    loaded = load_checkpoint(checkpoint)
    predictor = TorchPredictor(
        loaded.model,
        loaded.config.frame_size,
        copies_features=flow == "copy",
        flow="network" if flow == "copy" else flow,
    )
    task = loaded.config.task
    clips = open_clips(test)
    check_for_model(clips, test, task.name, task.classes, "the model")
    measured = evaluate(predictor, clips, task.classes, max_interval, task=task.name)
    values = [measured.at_interval(interval + 1) for interval in range(max_interval)]
    write_atomically(kept, json.dumps({**protocol, "accuracy": values}, indent=1))
    return values
