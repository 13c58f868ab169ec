"""The configuration of a training run: one YAML file, changed by ``--set key=value``.

Source of the paper's recipe: Zhu et al., CVPR 2017, arXiv:1611.07715, section 5.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, Tag, ValidationError, model_validator

from dff_edge.runtime.errors import ConfigError
from dff_edge.trainer.models import ModelConfig
from dff_edge.trainer.storage import Storage

NetworkName = Literal["feature", "task", "flow"]

M = TypeVar("M", bound=BaseModel)
MAX_SEED = 2**32 - 1
_LONGEST_VALUE = 60  # characters of a received value in a message


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InitConfig(_Config):
    """Weights to start from, None for random ones.

    Those of one network are a safetensors or PyTorch state dict, or come out of a checkpoint: its
    folder, or the name of a shipped model. Paths are relative to the folder that the command runs
    in.

    Attributes:
        feature: of the feature network, with torchvision's names; a file may hold a classifier,
            which is left out, and ``feat_conv`` may be missing in it.
        feature_order: order of the image channels that a file for ``feature`` was trained on.
            torchvision's is rgb; frames here are BGR, so the first convolution is turned round.
            Checkpoints are BGR always.
        flow: of the flow network, with this project's names; the scale head may be missing, and
            one for features of another width is left out with a warning.
        task: of the task network, with this project's names.
        model: a checkpoint of the same configuration. The other three are loaded over it.
    """

    feature: Path | None = None
    feature_order: Literal["rgb", "bgr"] = "rgb"
    flow: Path | None = None
    task: Path | None = None
    model: Path | None = None


class AugmentConfig(_Config):
    """How pairs of clips and pictures are changed, both frames and the truth alike.

    Frames are also mirrored half of the time. Scenes of ``synthetic://`` are used as drawn.

    Attributes:
        enlarge: largest enlargement; what is cut out is drawn from the whole frame.
        shrink: smallest size, as a share; what lies outside a frame that does not fill the
            networks' is not scored. 1 for no reduction.
        colour: 0 for none, to 1: by which share brightness, contrast and saturation are changed at
            most; hue by up to 30 degrees times it.
    """

    enlarge: float = Field(default=1.5, ge=1, le=8)
    shrink: float = Field(default=1.0, ge=0.125, le=1)
    colour: float = Field(default=0.2, ge=0, le=1)


class DataConfig(_Config):
    """Where training pairs come from.

    Attributes:
        train: labelled data by name: ``synthetic://street?split=train`` or a folder.
        validate_on: labelled clips to watch progress on; None for no validation. Never the data
            that results are reported on.
        validate_flow_on: pairs with true flow, by name as ``train``, on which the end-point error
            is watched in stages of kind "flow"; None for none. ``motion`` is for them too, where
            they do not move of themselves.
        max_distance: largest i - k of a pair; 9 in the paper, 0 where there are no neighbouring
            frames.
        motion: "none" takes pairs from video; "synthetic" makes both frames of a pair from one
            labelled picture, for data without neighbouring frames: other views of it, moved and
            bent the more the larger the distance, with known flow. "driving" does the same, and in
            three of four pairs a camera drives through the picture as through a street.
        video_share: with synthetic motion: which share of the pairs is taken from the video all the
            same, from a frame and the one before it, however far apart these are.
        augment: how pairs are changed.
        group: pairs that are made of one video at a time; the batch size is a multiple of it.
        workers: processes that make pairs; 0 makes them in the training process.
    """

    train: str = "synthetic://street?split=train"
    validate_on: str | None = None
    validate_flow_on: str | None = None
    max_distance: int = Field(default=9, ge=0)
    motion: Literal["none", "synthetic", "driving"] = "none"
    video_share: float = Field(default=0.0, ge=0, lt=1)
    augment: AugmentConfig = AugmentConfig()
    group: int = Field(default=4, ge=1)
    workers: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _check_share(self) -> DataConfig:
        if self.video_share and self.motion == "none":
            raise ValueError(
                f"video_share is {self.video_share} with motion: none, expected it with synthetic "
                "motion only: all pairs are from the video."
            )
        return self


class StageConfig(_Config):
    """One stage of training.

    Attributes:
        kind: "recognition" trains feature and task network on single frames; "flow" the flow
            network on true flow; "pairs" all of them end to end, but for those in ``fixed``.
        steps: optimiser steps.
        fixed: of "pairs": networks that stay as they are, weights and BatchNorm statistics. The
            paper's Table 3: feature and task for "DFF fix N", flow for "DFF fix F". A fixed flow
            network keeps its scale head too, which flow pre-training leaves at all ones.
        fixed_layers: layers of the networks that stay as they are too, by path: feature.conv1 and
            feature.layer1 in the official code for detection.
        batch_size: pairs per device and step.
        optimizer: "sgd" or "adamw".
        lr: learning rate after the warm-up.
        body_rate: factor on the rate of the layers of the feature network below its neck, which
            published weights may have been trained for.
        momentum: of SGD.
        weight_decay: on weights, not on biases and BatchNorm.
        warmup: share of the steps in which the rate rises from zero.
        schedule: "cosine" to zero, "step" times ``decay`` at each milestone, "constant".
        milestones: for "step", as shares of the steps.
        decay: for "step".
        clip_norm: largest norm of all gradients together; None for no limit.
        batch_norm: "train", or "frozen" for fixed statistics and affine, from this stage on.
        class_weights: of segmentation: weight of each class in the loss; None for equal weights.
        hard_examples: of detection: how many boxes of a frame count in the loss, the hardest ones.
        epoch_steps: steps between two saves (and log lines); a broken run resumes from the last
            save.
        validate_every: epochs between two validations; 0 for none.
    """

    kind: Literal["recognition", "flow", "pairs"]
    steps: int = Field(ge=1)
    fixed: tuple[NetworkName, ...] = ()
    fixed_layers: tuple[str, ...] = ()
    batch_size: int = Field(default=8, ge=1)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: float = Field(gt=0)
    body_rate: float = Field(default=1.0, gt=0, le=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    decay: float = Field(default=0.1, gt=0, lt=1)
    clip_norm: float | None = Field(default=None, gt=0)
    batch_norm: Literal["train", "frozen"] = "train"
    class_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    hard_examples: int = Field(default=128, ge=1)
    epoch_steps: int = Field(default=100, ge=1)
    validate_every: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check_fixed(self) -> StageConfig:
        if self.fixed and self.kind != "pairs":
            raise ValueError(
                f"fixed is {list(self.fixed)} in a '{self.kind}' stage, expected it in a 'pairs' "
                "stage only: the others train their own networks alone."
            )
        if len(set(self.fixed)) != len(self.fixed):
            raise ValueError(f"fixed is {list(self.fixed)}, expected each network once.")
        if len(self.fixed) == len(get_args(NetworkName)):
            raise ValueError(
                "fixed names all networks, expected one left to train. Leave the stage out."
            )
        return self

    @model_validator(mode="after")
    def _check_milestones(self) -> StageConfig:
        if self.schedule == "step" and not self.milestones:
            raise ValueError(
                "schedule is 'step' without milestones, expected one or more shares of the steps, "
                "as in milestones: [0.75]."
            )
        if self.schedule != "step" and self.milestones:
            raise ValueError(
                f"milestones is {list(self.milestones)} with schedule '{self.schedule}', expected "
                "schedule: step, or no milestones."
            )
        return self


class DeviceConfig(_Config):
    """What lightning trains on; the values are lightning's own.

    Attributes:
        accelerator: "auto", "cpu", "gpu".
        devices: how many, or "auto".
        nodes: machines of a distributed run.
        strategy: "auto", "ddp".
        precision: "32-true", "16-mixed", "bf16-mixed".
    """

    accelerator: str = "auto"
    devices: int | Literal["auto"] = "auto"
    nodes: int = Field(default=1, ge=1)
    strategy: str = "auto"
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "64-true"] = "32-true"


class TrainConfig(_Config):
    """A whole training run.

    Attributes:
        name: name of the model that comes out.
        seed: of weights and pairs.
        model: the networks.
        init: weights to start from.
        data: what to train on.
        stages: one after the other, on the same networks.
        device: what to train on.
        storage: how the final weights are stored: "float32"; "float16" in half the space; "int8"
            in a quarter of it, kernels as bytes with a scale for each output channel.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    model: ModelConfig
    init: InitConfig = InitConfig()
    data: DataConfig = DataConfig()
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    device: DeviceConfig = DeviceConfig()
    storage: Storage = "float32"

    @model_validator(mode="after")
    def _check_stages(self) -> TrainConfig:
        classes = len(self.model.task.classes)
        is_frozen = False
        for number, stage in enumerate(self.stages):
            key = f"stages.{number}"
            if stage.batch_size % self.data.group:
                raise ValueError(
                    f"{key}.batch_size is {stage.batch_size}, expected a multiple of data.group "
                    f"({self.data.group})."
                )
            if stage.class_weights is not None and self.model.rfcn is not None:
                raise ValueError(
                    f"{key}.class_weights is given, expected none for detection, which trains on "
                    "the hardest boxes (hard_examples)."
                )
            if stage.class_weights is not None and len(stage.class_weights) != classes:
                raise ValueError(
                    f"{key}.class_weights has {len(stage.class_weights)} numbers, expected one for "
                    f"each of the {classes} classes."
                )
            if is_frozen and stage.batch_norm == "train":
                raise ValueError(
                    f"{key}.batch_norm is 'train' after a stage with 'frozen', expected 'frozen': "
                    "BatchNorm that was fixed stays so."
                )
            is_frozen = stage.batch_norm == "frozen"
        return self


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would take the last without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            given = (key.tag, str(key.value))
            if given in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.composer.ComposerError(
                    None, None, f"the key '{key.value}' is given twice", key.start_mark
                )
            seen.add(given)
        return node


def load_config(path: Path, changes: Iterable[str] = ()) -> TrainConfig:
    """Read the configuration of a training run, as ``load_settings`` does."""
    return load_settings(path, TrainConfig, changes)


def load_settings(path: Path, model: type[M], changes: Iterable[str] = ()) -> M:
    """Read a configuration.

    Args:
        path: YAML file.
        model: what it holds.
        changes: ``key=value`` each, the key with dots for levels and numbers for list items
            (``stages.0.lr=0.01``), the value as YAML.

    Raises:
        ConfigError: names the key, the value received and what was expected.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not readable as YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path} holds {type(raw).__name__}, expected a mapping of keys to values."
        )
    for change in changes:
        _apply(raw, change)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error, model)}") from error


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """Put a validation error into words: key, value received and what was expected.

    Args:
        error: from validating ``model``.
        model: whose keys they are.
    """
    problems: dict[str, str] = {}
    for problem in error.errors():
        location, known = _resolve(model, problem["loc"])
        key = ".".join(location) or "the file"
        received = _short(problem["input"])
        if problem["type"] == "extra_forbidden":
            text = f"'{key}' is not a known key (received {received}), expected {', '.join(known)}"
        elif problem["type"] == "missing":
            text = f"'{key}' is missing"
        elif problem["type"] == "value_error":  # from a validator of ours: says it all
            message = str(problem["ctx"]["error"]).rstrip(".")
            text = f"{key}: {message}" if location else message
        elif key in problems:  # another member of a union
            text = f"{problems[key]}, or: {_expected(problem['msg'])}"
        else:
            text = f"{key} is {received}, expected: {_expected(problem['msg'])}"
        problems[key] = text
    # Pydantic also calls a list too short whose only item is wrong.
    inner = [key for key in problems if not any(k.startswith(f"{key}.") for k in problems)]
    return "; ".join(problems[key] for key in inner) + "."


def _resolve(
    model: type[BaseModel], location: Sequence[int | str]
) -> tuple[list[str], Sequence[str]]:
    """The part of a location that is written in the file, and the keys known at its place.

    Pydantic adds the names of union members to a location; nobody wrote those.
    """
    place: Any = model
    written: list[str] = []
    known: Sequence[str] = ()
    for part in location:
        if isinstance(part, int):
            place = next(iter(get_args(place)), None)
        elif isinstance(place, type) and issubclass(place, BaseModel):
            known = tuple(place.model_fields)
            place = place.model_fields[part].annotation if part in known else None
        elif (member := _tagged(place, part)) is not None:
            place = member
            continue
        else:
            break
        written.append(str(part))
    return written, known


def _tagged(union: Any, tag: str) -> Any:
    """The member of a tagged union that a tag stands for, None where there is none."""
    for member in get_args(union):
        inner, *notes = get_args(member) or (member,)
        if any(isinstance(note, Tag) and note.tag == tag for note in notes):
            return inner
    return None


def _expected(message: str) -> str:
    return message.removeprefix("Input should be ")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _apply(raw: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition("=")
    if not separator or not key:
        raise ConfigError(f"'{change}' is no change of a setting, expected key=value.")
    try:
        value = yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"'{change}': the value is not readable as YAML: {error}") from error
    *parents, last = key.split(".")
    place: Any = raw
    for depth, part in enumerate(parents):
        if isinstance(place, list):
            place = place[_list_index(place, part, key)]
        elif isinstance(place, dict):
            if place.get(part) is None:  # absent, or written with nothing behind it
                place[part] = {}
            place = place[part]
        else:
            raise ConfigError(f"'{change}': {'.'.join(parents[:depth])} has no keys below it.")
    if isinstance(place, list):
        place[_list_index(place, last, key)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise ConfigError(f"'{change}': {'.'.join(parents)} has no keys below it.")


def _list_index(items: list[Any], part: str, key: str) -> int:
    if not (part.isascii() and part.isdecimal()) or int(part) >= len(items):
        expected = f"0 to {len(items) - 1}" if items else "no item, for the list is empty"
        raise ConfigError(
            f"'{key}': '{part}' is no item of a list of {len(items)}, expected {expected}."
        )
    return int(part)
