"""The configuration of the experiments: a training run, its variations, and their measurement.

One YAML file serves all tables and the figure, changed by ``--set key=value`` like that of a
training run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, model_validator

from dff_edge.data.datasets import VID_AND_DET, parse_data_name, vid_and_det
from dff_edge.evaluation.tasks import MEASURED_TASKS
from dff_edge.names import FlowFunction
from dff_edge.trainer.config import TrainConfig
from dff_edge.trainer.models import FeatureConfig, FlowConfig
from dff_edge.trainer.models.config import split_points
from dff_edge.trainer.models.dff import HEAD, NONE
from dff_edge.trainer.settings import Settings

# Stages before the pairs, and the weights that can replace them.
_STARTS = {"recognition": "feature", "flow": "flow"}
Interval = Annotated[int, Field(ge=1, le=10_000)]


class SpeedConfig(Settings):
    """Settings of measuring frames per second.

    Attributes:
        frames: about the number of frames of a repetition; a multiple of each key interval.
        repetitions: their number; configurations take turns and the median counts.
        threads: of the networks; None means the cores that the process may use.
    """

    frames: int = Field(default=60, ge=1, le=1_000_000)
    repetitions: int = Field(default=5, ge=1, le=10_000)
    threads: int | None = Field(default=None, ge=1, le=256)


class ExperimentConfig(Settings):
    """All tables and the figure.

    Attributes:
        train: Deep Feature Flow as it is trained by default: stages recognition (the start of N),
            flow (the start of F) and pairs. One of the first two may be missing where ``init`` has
            weights to start from, as in the paper. On one device.
        test: labelled clips that results are reported on; used for nothing else.
        interval: key interval l of the tables; in the paper 5 for segmentation, 10 for detection.
        speed: how frames per second are measured.
        flow_functions: of Table 4, hand-crafted flow of the SFF rows, as in ``export --flow``.
        splits: of Table 5, by the paper's number of layers in the task network: ``model.split``.
        features: of Table 2 and Figure 3, feature networks, each with every flow network.
        flows: of Table 2 and Figure 3, flow networks.
        intervals: of Figure 3, key intervals l, each a point of a curve.
    """

    train: TrainConfig
    test: str
    interval: Interval = 5
    speed: SpeedConfig = SpeedConfig()
    flow_functions: tuple[FlowFunction, ...] = ()
    splits: dict[Annotated[int, Field(ge=0, le=1000)], str] = {}
    features: tuple[FeatureConfig, ...] = ()
    flows: tuple[FlowConfig, ...] = ()
    intervals: tuple[Interval, ...] = tuple(range(1, 11))

    @property
    def metric(self) -> str:
        """Title of the accuracy, such as "mIoU"."""
        title = MEASURED_TASKS.find(self.train.model.task.name).metric.title
        return title.partition("@")[0]

    @model_validator(mode="after")
    def _check_train(self) -> ExperimentConfig:
        kinds = [stage.kind for stage in self.train.stages]
        if kinds != [kind for kind in (*_STARTS, "pairs") if kind in kinds] or "pairs" not in kinds:
            raise ValueError(
                f"train.stages are {', '.join(kinds)}, expected recognition, flow, pairs, each "
                "once; weights in train.init can replace the first two."
            )
        init = self.train.init
        for kind, network in _STARTS.items():
            if kind not in kinds and init.model is None and getattr(init, network) is None:
                raise ValueError(
                    f"train.stages has no '{kind}' stage, expected one, or train.init.{network} "
                    "with the weights that all variants start from."
                )
        if self.train.seed != TrainConfig.model_fields["seed"].default:
            raise ValueError("train.seed is given: seeds come from --seeds. Leave it out.")
        if (self.train.device.devices, self.train.device.nodes) != (1, 1):
            raise ValueError(
                f"train.device has devices: {self.train.device.devices} and nodes: "
                f"{self.train.device.nodes}, expected 1 of both. Several devices take a command "
                "each, with other --seeds."
            )
        data = self.train.data
        watched = data.validate_on
        if holds(data.train, self.test, "train") or (watched and holds(watched, self.test)):
            raise ValueError(f"test is '{self.test}', which is trained or watched on: give others.")
        return self

    @model_validator(mode="after")
    def _check_rows(self) -> ExperimentConfig:
        known = (HEAD, NONE, *split_points(self.train.model.feature))
        for layers, split in self.splits.items():
            if split not in known:
                raise ValueError(f"splits.{layers} is '{split}', expected {', '.join(known)}.")
        for key, names in (
            ("flow_functions", self.flow_functions),
            ("splits", list(self.splits.values())),
            ("features", [feature.name for feature in self.features]),
            ("flows", [flow.name for flow in self.flows]),
            ("intervals", self.intervals),
        ):
            check_distinct(key, names)
        return self


def holds(used: str, test: str, split: str = "val") -> bool:
    """Return whether data is that for testing, or of its split, by default ``split``.

    Args:
        used: labelled data by name, trained or calibrated on.
        test: the same, to be tested on.
        split: of ``used`` where its name has none.
    """
    if used.startswith(f"{VID_AND_DET}://"):
        return any(holds(part, test, split) for part in vid_and_det(used))
    if used.startswith("synthetic://") and test.startswith("synthetic://"):
        splits = [dict(parse_qsl(urlsplit(uri).query)).get("split") for uri in (used, test)]
        is_trained_on = split == "train"  # an endless supply; clips of one split may differ
        return used == test or (is_trained_on and (splits[0] or split) == (splits[1] or "val"))
    ours, theirs = parse_data_name(used, split=split), parse_data_name(test)
    if ours is None or theirs is None:
        return Path(used) == Path(test)
    return (ours.kind, ours.root, ours.options.get("split")) == (
        theirs.kind,
        theirs.root,
        theirs.options.get("split"),
    )


def check_distinct(key: str, names: Sequence[object]) -> None:
    """Check that the names of rows or curves are distinct."""
    twice = [str(name) for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise ValueError(f"{key} has {', '.join(twice)} more than once, expected each once.")
