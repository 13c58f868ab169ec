"""Validation of the networks during training, on data held out from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import lightning
from lightning.pytorch.callbacks import Callback

from dff_edge.data.clips import check_for_model, open_clips
from dff_edge.data.datasets import LabelledClip
from dff_edge.errors import ConfigError
from dff_edge.evaluation.evaluate import evaluate
from dff_edge.trainer.config import StageConfig, TrainConfig
from dff_edge.trainer.data import PairData, moves_already, open_pairs
from dff_edge.trainer.flow_validation import FlowValidation, is_due
from dff_edge.trainer.learner import Learner
from dff_edge.trainer.models import ModelConfig
from dff_edge.trainer.predictor import TorchPredictor

_log = logging.getLogger("dff_edge.trainer")
_VALIDATION_INTERVAL = 5  # l of the paper for segmentation
# For endless data; Flying Chairs has its own pairs to validate on.
_FLOW_PAIRS, _FLOW_SEED = 64, 2**32


class HeldOut(NamedTuple):
    """Data to validate on.

    Attributes:
        clips: for recognition and pairs; none where no stage is validated on them.
        flow_pairs: for flow; None where no stage is.
    """

    clips: list[LabelledClip]
    flow_pairs: PairData | None


def open_held_out(config: TrainConfig) -> HeldOut:
    """Open the data that the stages of a run are validated on.

    Raises:
        ConfigError: the data has no frames to validate on, or no true flow.
        SourceError: it is missing.
    """
    return HeldOut(_open_clips(config), _open_flow_pairs(config))


def unused_settings(config: TrainConfig) -> list[str]:
    """Return a line for each setting of validation that has no effect."""
    lines = []
    for key, kinds in (
        ("validate_on", ("recognition", "pairs")),
        ("validate_flow_on", ("flow",)),
    ):
        uri = getattr(config.data, key)
        watched = [
            f"stages.{number}"
            for number, stage in enumerate(config.stages)
            if stage.kind in kinds and stage.validate_every
        ]
        if uri is None and watched:
            lines.append(f"{watched[0]}.validate_every does nothing without data.{key}")
        if uri is not None and not watched:
            lines.append(f"data.{key} is not used: no stage that it is for has validate_every")
    return lines


def validation_of(config: TrainConfig, stage: StageConfig, held_out: HeldOut) -> list[Callback]:
    """Return the callback that validates a stage's networks, at most one."""
    every = stage.validate_every
    if not every:
        return []
    if stage.kind == "flow":
        return [FlowValidation(held_out.flow_pairs, every)] if held_out.flow_pairs else []
    interval = _interval(stage)
    return [_Validation(held_out.clips, config.model, every, interval)] if held_out.clips else []


def _open_clips(config: TrainConfig) -> list[LabelledClip]:
    """Return the clips to validate on, none where no stage does."""
    uri = config.data.validate_on
    intervals = [_interval(stage) for stage in config.stages if stage.validate_every]
    if uri is None or not any(intervals):
        return []
    clips = open_clips(uri)
    task, interval = config.model.task, max(intervals)
    check_for_model(clips, uri, task.name, task.classes, "the model", pairs=interval > 1)
    frames = (range(interval - 1, len(clip)) for clip in clips)
    if not any(clip.is_labelled(i) for clip, rest in zip(clips, frames, strict=True) for i in rest):
        raise ConfigError(
            f"data.validate_on is '{uri}', expected labelled frames with {interval - 1} frames "
            "before them."
        )
    return clips


def _open_flow_pairs(config: TrainConfig) -> PairData | None:
    """Return the pairs to measure flow on, None where no stage does."""
    uri = config.data.validate_flow_on
    if uri is None or not any(s.kind == "flow" and s.validate_every for s in config.stages):
        return None
    motion = "none" if moves_already(uri) else config.data.motion
    pairs = open_pairs(
        config.data.model_copy(update={"train": uri, "group": 1, "motion": motion}),
        seed=_FLOW_SEED,
        frame_size=config.model.frame_size,
        class_count=len(config.model.task.classes),
        length=_FLOW_PAIRS,
        max_distance=config.data.max_distance,
        for_flow=True,
        task=config.model.task.name,
        split="val",
    )
    if not pairs.knows_flow:
        raise ConfigError(
            f"data.validate_flow_on is '{uri}', expected pairs with true flow: Flying Chairs, "
            "synthetic://street, or with data.motion: synthetic any labelled pictures."
        )
    return pairs


def _interval(stage: StageConfig) -> int:
    """Return the key interval that a stage is validated at, 0 where it is not."""
    return {"recognition": 1, "flow": 0, "correction": 0, "pairs": _VALIDATION_INTERVAL}[stage.kind]


class _Validation(Callback):
    """Accuracy of key frames and of "DFF at l" on held-out clips, every few epochs."""

    def __init__(
        self, clips: Sequence[LabelledClip], model_config: ModelConfig, every: int, interval: int
    ) -> None:
        self._clips = clips
        self._config = model_config
        self._every = every
        self._interval = interval

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        assert isinstance(pl_module, Learner)
        if not trainer.is_global_zero or not is_due(trainer, pl_module, self._every):
            return
        interval = self._interval
        predictor = TorchPredictor(pl_module.model, self._config.frame_size)
        task = self._config.task
        accuracy = evaluate(predictor, self._clips, task.classes, interval, task=task.name)
        name = f"val_{accuracy.metric.key}"
        values = {f"{name}_frame": accuracy.at_distance(0)}
        if interval > 1:
            values[f"{name}_l{interval}"] = accuracy.at_interval(interval)
            values[f"{name}_distance_{interval - 1}"] = accuracy.at_distance(interval - 1)
        for name, value in values.items():
            pl_module.log(name, value, rank_zero_only=True)
            _log.info("step %d: %s %.4f", trainer.global_step, name, value)
