"""The configuration of a training run: one YAML file, changed by ``--set key=value``.

Source of the paper's recipe: Zhu et al., CVPR 2017, arXiv:1611.07715, section 5.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from dff_edge.data.hold_out import MAX_SHARE, MIN_SHARE
from dff_edge.trainer.models import ModelConfig
from dff_edge.trainer.settings import Settings, load_settings
from dff_edge.trainer.storage import Storage

NetworkName = Literal["feature", "task", "flow", "correction"]

MAX_SEED = 2**32 - 1
Count = Annotated[int, Field(ge=1, le=10**9)]  # of steps
CropSide = Annotated[int, Field(ge=32, le=8192, multiple_of=32)]  # px; networks halve it five times


class InitConfig(Settings):
    """Weights to start from, None for random ones.

    Those of one network are a safetensors or PyTorch state dict, or part of a checkpoint: its
    folder, or the name of a shipped model. Paths are relative to the working folder of the
    command.

    Attributes:
        feature: of the feature network, with torchvision's names; a file may hold a classifier,
            which is left out, and ``feat_conv`` may be missing in it.
        feature_order: order of the image channels that a file for ``feature`` was trained on.
            torchvision's is rgb; frames here are BGR, so the first convolution is reversed.
            Checkpoints are BGR always.
        flow: of the flow network, with this project's names; the scale head may be missing, and
            one for features of another width is dropped with a warning.
        task: of the task network, with this project's names.
        correction: of the correction network: published weights of its EfficientNet-Lite, to which
            ``feature_order`` applies too, or a checkpoint.
        model: a checkpoint of the same configuration. The other three are loaded over it.
    """

    feature: Path | None = None
    feature_order: Literal["rgb", "bgr"] = "rgb"
    flow: Path | None = None
    task: Path | None = None
    correction: Path | None = None
    model: Path | None = None


class AugmentConfig(Settings):
    """Random changes of pairs of clips and pictures, the same for both frames and the labels.

    Frames are also mirrored half of the time. Scenes of ``synthetic://`` are used unchanged.

    Attributes:
        enlarge: largest enlargement; the crop is random within the whole frame.
        shrink: smallest size, as a share; the area outside a frame that does not fill the
            networks' is not scored. 1 for no reduction.
        colour: 0 for none, to 1: maximum share by which brightness, contrast and saturation are
            changed; hue by up to 30 degrees times it.
    """

    enlarge: float = Field(default=1.5, ge=1, le=8)
    shrink: float = Field(default=1.0, ge=0.125, le=1)
    colour: float = Field(default=0.2, ge=0, le=1)


class DataConfig(Settings):
    """Source of the training pairs.

    Attributes:
        train: labelled data by name: ``synthetic://street?split=train`` or a folder.
        validate_on: labelled clips for validation; None for none. Never the data
            that results are reported on.
        hold_out: without ``validate_on``: share of the labelled frames of ``train`` that is held
            out for validation, every n-th clip or block (``dff_edge/data/hold_out.py``); 0 for
            none.
        validate_interval: largest key interval l of the validation of stages of pairs: "DFF at l".
            1 measures key frames alone, for data without neighbouring frames.
        validate_flow_on: pairs with true flow, by name as ``train``, on which the end-point error
            is measured in stages of kind "flow"; None for none. ``motion`` applies to them too,
            where they have no motion of their own.
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
    hold_out: float = Field(default=0.0, ge=0, le=MAX_SHARE)
    validate_interval: int = Field(default=5, ge=1, le=1000)  # 5: l of the paper for segmentation
    validate_flow_on: str | None = None
    max_distance: int = Field(default=9, ge=0, le=10_000)
    motion: Literal["none", "synthetic", "driving"] = "none"
    video_share: float = Field(default=0.0, ge=0, lt=1)
    augment: AugmentConfig = AugmentConfig()
    group: int = Field(default=4, ge=1, le=4096)
    workers: int = Field(default=1, ge=0, le=1024)

    @property
    def holds_out(self) -> bool:
        """Whether a part of ``train`` is held out for validation."""
        return self.hold_out > 0 and self.validate_on is None

    @model_validator(mode="after")
    def _check_share(self) -> DataConfig:
        if 0 < self.hold_out < MIN_SHARE:
            raise ValueError(
                f"hold_out is {self.hold_out}, expected 0, or {MIN_SHARE} to {MAX_SHARE}."
            )
        if self.video_share and self.motion == "none":
            raise ValueError(
                f"video_share is {self.video_share} with motion: none, expected it with synthetic "
                "motion only: all pairs are from the video."
            )
        return self


class StageConfig(Settings):
    """One stage of training.

    Attributes:
        kind: "recognition" trains feature and task network on single frames; "flow" the flow
            network on true flow; "correction" the correction network on single frames, as if it
            were all there is; "pairs" all of them end to end, except those in ``fixed``; "distil"
            flow and correction network on pairs whose labels are not used: what is propagated to
            the current frame must become what the per-frame network finds in it.
        steps: optimiser steps.
        fixed: of "pairs": networks that are not trained, neither weights nor BatchNorm
            statistics. The paper's Table 3: feature and task for "DFF fix N", flow for "DFF fix F".
            A fixed flow network keeps its scale head too, which flow pre-training leaves at ones.
        fixed_layers: further layers of the networks that are not trained, by path: feature.conv1
            and feature.layer1 in the official code for detection.
        batch_size: pairs per device and step.
        crop: H and W of the part of each frame that is trained on, at the scale of whole frames:
            many steps on small parts cost as much as few on whole frames. Of data with boxes three
            of four parts hold an object. None for whole frames.
        optimizer: "sgd" or "adamw".
        lr: learning rate after the warm-up.
        body_rate: factor on the rate of the layers of the feature network below its neck, which
            may have published weights.
        momentum: of SGD.
        weight_decay: on weights, not on biases and BatchNorm.
        warmup: share of the steps in which the rate rises from zero.
        schedule: "cosine" to zero, "step" times ``decay`` at each milestone, "constant".
        milestones: for "step", as shares of the steps.
        decay: for "step".
        clip_norm: largest norm of all gradients together; None for no limit.
        batch_norm: "train", or "frozen" for fixed statistics and affine, from this stage on.
        class_weights: of segmentation: weight of each class in the loss; None for equal weights.
        hard_examples: of detection: number of boxes of a frame that count in the loss, the hardest
            ones.
        distil: of "pairs": weight of the loss of a "distil" stage beside that of the labels.
        epoch_steps: steps between two saves (and log lines); an interrupted run resumes from the
            last save.
        validate_every: epochs between two validations; 0 for none.
        keep: weights that the stage ends with: "last", or "best" by the first value of its
            validations, those of "DFF at l" in a stage of pairs; the weights at its start count
            too.
        patience: of keep "best": validations without a better one after which the stage ends; None
            for no early end.
    """

    kind: Literal["recognition", "flow", "correction", "pairs", "distil"]
    steps: Count
    fixed: tuple[NetworkName, ...] = ()
    fixed_layers: tuple[str, ...] = ()
    batch_size: int = Field(default=8, ge=1, le=65_536)
    crop: tuple[CropSide, CropSide] | None = None
    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: float = Field(gt=0, le=1e6)
    body_rate: float = Field(default=1.0, gt=0, le=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0, le=1e6)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    decay: float = Field(default=0.1, gt=0, lt=1)
    clip_norm: float | None = Field(default=None, gt=0, le=1e9)
    batch_norm: Literal["train", "frozen"] = "train"
    class_weights: tuple[Annotated[float, Field(ge=0, le=1e6)], ...] | None = None
    hard_examples: int = Field(default=128, ge=1, le=1_000_000)
    distil: float = Field(default=0.0, ge=0, le=1000)
    epoch_steps: Count = 100
    validate_every: int = Field(default=0, ge=0, le=10**9)
    keep: Literal["last", "best"] = "last"
    patience: int | None = Field(default=None, ge=1, le=10**9)

    @model_validator(mode="after")
    def _check_fixed(self) -> StageConfig:
        if self.fixed and self.kind != "pairs":
            raise ValueError(
                f"fixed is {list(self.fixed)} in a '{self.kind}' stage, expected it in a 'pairs' "
                "stage only: the others train their own networks alone."
            )
        if self.distil and self.kind != "pairs":
            raise ValueError(
                f"distil is {self.distil} in a '{self.kind}' stage, expected it in a 'pairs' stage "
                "only: the others propagate nothing."
            )
        if len(set(self.fixed)) != len(self.fixed):
            raise ValueError(f"fixed is {list(self.fixed)}, expected each network once.")
        return self

    @model_validator(mode="after")
    def _check_keep(self) -> StageConfig:
        if self.keep == "best" and not self.validate_every:
            raise ValueError(
                "keep is 'best' without validations, expected validate_every of 1 or more, or "
                "keep: last."
            )
        if self.patience is not None and self.keep != "best":
            raise ValueError(
                f"patience is {self.patience} with keep: last, expected keep: best: a stage that "
                "ends early ends with its best weights."
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


class DeviceConfig(Settings):
    """Devices of the training; the values are lightning's own.

    Attributes:
        accelerator: "auto", "cpu", "gpu".
        devices: their number, or "auto".
        nodes: machines of a distributed run.
        strategy: "auto", "ddp".
        precision: "32-true", "16-mixed", "bf16-mixed".
    """

    accelerator: str = "auto"
    devices: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = "auto"
    nodes: int = Field(default=1, ge=1, le=65_536)
    strategy: str = "auto"
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "64-true"] = "32-true"


class TrainConfig(Settings):
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

    name: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9._-]+$")
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    model: ModelConfig
    init: InitConfig = InitConfig()
    data: DataConfig = DataConfig()
    stages: tuple[StageConfig, ...] = Field(min_length=1, max_length=1000)
    device: DeviceConfig = DeviceConfig()
    storage: Storage = "float32"

    @model_validator(mode="after")
    def _check_stages(self) -> TrainConfig:
        classes = len(self.model.task.classes)
        networks = set(get_args(NetworkName))
        if self.model.correction is None:
            networks.remove("correction")
        if self.init.correction is not None and self.model.correction is None:
            raise ValueError(
                "init.correction is given, and the model has no correction network. Add "
                "model.correction, or leave it out."
            )
        is_frozen = False
        for number, stage in enumerate(self.stages):
            key = f"stages.{number}"
            if stage.batch_size % self.data.group:
                raise ValueError(
                    f"{key}.batch_size is {stage.batch_size}, expected a multiple of data.group "
                    f"({self.data.group})."
                )
            height, width = self.model.frame_size
            if stage.crop is not None and (stage.crop[0] > height or stage.crop[1] > width):
                raise ValueError(
                    f"{key}.crop is {list(stage.crop)}, expected a part of the frames of "
                    f"{height} x {width} px (model.frame_size)."
                )
            if stage.kind == "pairs" and networks <= set(stage.fixed):
                raise ValueError(
                    f"{key}.fixed names all networks, expected one left to train. Leave the stage "
                    "out."
                )
            if not set(stage.fixed) <= networks:
                raise ValueError(
                    f"{key}.fixed has 'correction', and the model has none. Leave it out."
                )
            if stage.kind == "correction" and self.model.correction is None:
                raise ValueError(
                    f"{key}.kind is 'correction', and the model has no correction network. Add "
                    "model.correction, or leave the stage out."
                )
            if stage.class_weights is not None and not self.model.task.takes_class_weights:
                raise ValueError(
                    f"{key}.class_weights is given, expected none for {self.model.task.name}, "
                    "whose loss has no weights of classes."
                )
            if stage.class_weights is not None and len(stage.class_weights) != classes:
                raise ValueError(
                    f"{key}.class_weights has {len(stage.class_weights)} numbers, expected one for "
                    f"each of the {classes} classes."
                )
            if stage.keep == "best" and not _can_validate(self.data, stage):
                keys = (
                    "validate_flow_on" if stage.kind == "flow" else "validate_on or data.hold_out"
                )
                raise ValueError(
                    f"{key}.keep is 'best' without data.{keys}, expected data that is held out "
                    "from the training, or keep: last."
                )
            if is_frozen and stage.batch_norm == "train":
                raise ValueError(
                    f"{key}.batch_norm is 'train' after a stage with 'frozen', expected 'frozen': "
                    "BatchNorm that was fixed stays so."
                )
            is_frozen = stage.batch_norm == "frozen"
        return self


def _can_validate(data: DataConfig, stage: StageConfig) -> bool:
    if stage.kind == "flow":
        return data.validate_flow_on is not None
    return data.validate_on is not None or data.holds_out


def load_config(path: Path, changes: Iterable[str] = ()) -> TrainConfig:
    """Read the configuration of a training run, as ``load_settings`` does."""
    return load_settings(path, TrainConfig, changes)
