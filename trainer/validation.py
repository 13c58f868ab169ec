"""Validation of the networks during training, on data held out from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dff_edge.bundle.records import ScoreThreshold
from dff_edge.bundle.tasks import FORMATS
from dff_edge.data.clips import check_for_model, open_clips
from dff_edge.data.datasets import VID_AND_DET, LabelledClip
from dff_edge.data.hold_out import hold_out
from dff_edge.errors import ConfigError
from dff_edge.evaluation.box_accuracy import BoxAccuracy
from dff_edge.evaluation.evaluate import evaluate
from dff_edge.evaluation.score_threshold import choose_threshold
from dff_edge.printable import printable
from dff_edge.trainer.best_weights import BestWeights
from dff_edge.trainer.config import DataConfig, StageConfig, TrainConfig
from dff_edge.trainer.curves import steps_before
from dff_edge.trainer.data import PairData, moves_already, open_pairs
from dff_edge.trainer.flow_validation import FlowValidation
from dff_edge.trainer.models import DeepFeatureFlow, ModelConfig
from dff_edge.trainer.prediction_pictures import PredictionPictures
from dff_edge.trainer.predictor import TorchPredictor
from dff_edge.trainer.stage_validation import StageValidation

_log = logging.getLogger("dff_edge.trainer")
_SHOWN = 4  # clips in a line of the log
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
        ("validate_on", ("recognition", "pairs", "distil")),
        ("validate_flow_on", ("flow",)),
    ):
        uri = getattr(config.data, key)
        watched = [
            f"stages.{number}"
            for number, stage in enumerate(config.stages)
            if stage.kind in kinds and stage.validate_every
        ]
        is_held_out = key == "validate_on" and config.data.holds_out
        if is_held_out and not watched:
            lines.append("data.hold_out only takes frames away: no stage has validate_every")
        if uri is None and watched and not is_held_out:
            lines.append(f"{watched[0]}.validate_every does nothing without data.{key}")
        if uri is not None and not watched:
            lines.append(f"data.{key} is not used: no stage that it is for has validate_every")
    return lines


def validation_of(
    config: TrainConfig,
    number: int,
    held_out: HeldOut,
    run_folder: Path,
    best: BestWeights | None = None,
) -> list[StageValidation]:
    """Return the callback that validates a stage's networks, at most one.

    Args:
        config: the run.
        number: of the stage.
        held_out: data to validate on.
        run_folder: pictures of predictions are drawn in it.
        best: keeps the best weights; None for the last ones.
    """
    stage = config.stages[number]
    every = stage.validate_every
    if not every:
        return []
    if stage.kind == "flow":
        return [FlowValidation(held_out.flow_pairs, every, best)] if held_out.flow_pairs else []
    if not held_out.clips:
        return []
    interval = _interval(config, stage)
    pictures = PredictionPictures(
        run_folder,
        held_out.clips,
        config.model.task,
        interval=interval,
        done_steps=steps_before(run_folder, number),
    )
    return [
        _ClipValidation(held_out.clips, config.model, every, interval, best=best, pictures=pictures)
    ]


def choose_score_threshold(
    config: TrainConfig, model: DeepFeatureFlow, held_out: HeldOut
) -> ScoreThreshold | None:
    """Choose the score from which boxes are shown, on the clips that the run is validated on.

    Returns:
        None for a task without boxes, without such clips, or where no object is in them.
    """
    task = config.model.task
    if not held_out.clips or FORMATS.find(task.name).truth != "boxes":
        return None
    interval = max(_interval(config, stage) for stage in config.stages if stage.validate_every)
    predictor = TorchPredictor(model, config.model.frame_size)
    accuracy = evaluate(predictor, held_out.clips, task.classes, interval, task=task.name)
    assert isinstance(accuracy, BoxAccuracy)
    try:
        choice = choose_threshold(accuracy.matches(range(interval)))
    except ConfigError as error:
        _log.warning("no threshold of boxes is chosen: %s", error)
        return None
    _log.info("boxes are shown from a score of %.2f on: F1 %.4f", choice.score, choice.f1)
    return ScoreThreshold(
        score=choice.score,
        f1=choice.f1,
        data=printable(_name_of_held_out(config.data))[:4096],
        key_interval=interval,
    )


def _name_of_held_out(data: DataConfig) -> str:
    return (
        f"a share of {data.hold_out} held out of {data.train}"
        if data.holds_out
        else str(data.validate_on)
    )


def _open_clips(config: TrainConfig) -> list[LabelledClip]:
    """Return the clips to validate on, none where no stage does."""
    uri, key = config.data.validate_on, "data.validate_on"
    intervals = [_interval(config, stage) for stage in config.stages if stage.validate_every]
    if not any(intervals):
        return []
    if config.data.holds_out:
        uri, key = config.data.train, "data.hold_out, a part of data.train,"
        clips = _hold_out(uri, config.data.hold_out)
    elif uri is None:
        return []
    else:
        clips = open_clips(uri)
    task, interval = config.model.task, max(intervals)
    check_for_model(clips, uri, task.name, task.classes, "the model", pairs=interval > 1)
    frames = (range(interval - 1, len(clip)) for clip in clips)
    if not any(clip.is_labelled(i) for clip, rest in zip(clips, frames, strict=True) for i in rest):
        raise ConfigError(
            f"{key} is '{uri}', expected labelled frames with {interval - 1} frames before them. "
            "Without such frames set data.validate_interval to 1: key frames alone are measured."
        )
    return clips


def _hold_out(uri: str, share: float) -> list[LabelledClip]:
    """Return the part of training data that is held out, and log which it is."""
    if moves_already(uri) or uri.startswith(f"{VID_AND_DET}://"):
        raise ConfigError(
            f"data.hold_out is {share} with data.train '{uri}', expected labelled video, of which "
            "a part can be held out. Give data.validate_on."
        )
    clips = open_clips(uri, split="train")
    divided = hold_out(clips, share)
    labelled = [
        [[i for i in range(len(clip)) if clip.is_labelled(i)] for clip in part] for part in divided
    ]
    counts = [sum(map(len, part)) for part in labelled]
    first = [
        clip.where(frames[0])
        for clip, frames in zip(divided.held_out, labelled[1], strict=True)
        if frames
    ]
    _log.info(
        "data.hold_out: %d of %d labelled frames are held out: %s",
        counts[1],
        sum(counts),
        ", ".join(first[:_SHOWN]) + (", ..." if len(first) > _SHOWN else ""),
    )
    return divided.held_out


def _open_flow_pairs(config: TrainConfig) -> PairData | None:
    """Return the pairs to measure flow on, None where no stage does."""
    uri = config.data.validate_flow_on
    if uri is None or not any(s.kind == "flow" and s.validate_every for s in config.stages):
        return None
    motion = "none" if moves_already(uri) else config.data.motion
    pairs = open_pairs(
        config.data.model_copy(
            update={"train": uri, "group": 1, "motion": motion, "hold_out": 0.0}
        ),
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


def _interval(config: TrainConfig, stage: StageConfig) -> int:
    """Return the key interval that a stage is validated at, 0 where it is not."""
    if stage.kind in ("pairs", "distil"):
        return config.data.validate_interval
    return 1 if stage.kind == "recognition" else 0


class _ClipValidation(StageValidation):
    """Accuracy of key frames and of "DFF at l" on held-out clips; that at l decides."""

    def __init__(
        self,
        clips: Sequence[LabelledClip],
        model_config: ModelConfig,
        every: int,
        interval: int,
        *,
        best: BestWeights | None,
        pictures: PredictionPictures,
    ) -> None:
        super().__init__(every, best)
        self._clips = clips
        self._config = model_config
        self._interval = interval
        self._pictures = pictures

    def measure(self, model: DeepFeatureFlow, step: int) -> Mapping[str, float]:
        interval = self._interval
        predictor = TorchPredictor(model, self._config.frame_size)
        task = self._config.task
        accuracy = evaluate(predictor, self._clips, task.classes, interval, task=task.name)
        if step:  # at the start they are those of the stage before
            self._pictures.draw(predictor, step)
        name = f"val_{accuracy.metric.key}"
        values = {f"{name}_frame": accuracy.at_distance(0)}
        if interval == 1:
            return values
        return {
            f"{name}_l{interval}": accuracy.at_interval(interval),
            **values,
            f"{name}_distance_{interval - 1}": accuracy.at_distance(interval - 1),
        }
