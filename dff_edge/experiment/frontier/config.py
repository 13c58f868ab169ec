"""The configuration of the frontier: the networks that are compared, and on what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dff_edge.errors import ConfigError
from dff_edge.experiment.config import SpeedConfig, check_distinct, holds
from dff_edge.names import FlowFunction
from dff_edge.trainer.completion import load_whole_config
from dff_edge.trainer.config import TrainConfig
from dff_edge.trainer.models.config import FrameSide
from dff_edge.trainer.settings import Settings

Role = Literal["dff", "smaller", "light"]
Interval = Annotated[int, Field(ge=2, le=1000)]
# Of a network: a key of the configuration and the name of folders.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class TrainingConfig(Settings):
    """How a network is trained.

    Attributes:
        config: a configuration of ``dff-edge train``.
        changes: ``key=value`` each, as of ``dff-edge train --set``.
    """

    config: Path
    changes: tuple[str, ...] = ()


class NetworkConfig(Settings):
    """A network.

    Attributes:
        role: "dff" is a key network, which answers every frame and propagates to others; the
            others answer every frame: "smaller" is a key network at smaller frames, "light" is
            what one would take in place of Deep Feature Flow.
        checkpoint: its folder, or the name of a model that comes with dff-edge. Where it is given,
            nothing is trained.
        train: how it is trained otherwise.
        frame_size: ``(H, W)`` in pixels of its frames; None for those that it was trained at.
        flows: of a key network: sources of its flow, as in ``export --flow``, each a curve.
        held: of a key network: whether to measure its answers kept for the frames between.
        background: of a key network: whether to measure it with key frames in the background.
    """

    role: Role
    checkpoint: str | None = None
    train: TrainingConfig | None = None
    frame_size: tuple[FrameSide, FrameSide] | None = None
    flows: Annotated[tuple[FlowFunction, ...], Field(min_length=1)] = ("network",)
    held: bool = False
    background: bool = False

    @property
    def is_dff(self) -> bool:
        """Whether it propagates."""
        return self.role == "dff"

    @model_validator(mode="after")
    def _check_origin(self) -> NetworkConfig:
        if self.checkpoint is None and self.train is None:
            raise ValueError(
                "neither checkpoint nor train is given, expected a trained network, or the "
                "configuration to train it by."
            )
        return self

    @model_validator(mode="after")
    def _check_propagation(self) -> NetworkConfig:
        fields = NetworkConfig.model_fields
        given = [
            name
            for name in ("flows", "held", "background")
            if getattr(self, name) != fields[name].default
        ]
        if given and not self.is_dff:
            raise ValueError(
                f"{', '.join(given)} is given for the role '{self.role}', expected it for "
                "'dff' only: the others answer every frame."
            )
        if self.background and "network" not in self.flows:
            raise ValueError(
                f"background is true with the flows {', '.join(self.flows)}, expected 'network' "
                "among them: it runs with the flow network."
            )
        check_distinct("flows", self.flows)
        return self


class CalibrationConfig(Settings):
    """Clips that all networks are calibrated on.

    Attributes:
        source: clips, as of ``dff-edge calibrate --source``; not those for testing.
        interval: largest key interval that is calibrated for; smaller than that of the
            measurement where the clips are of a lower rate.
    """

    source: str
    interval: Interval = 10


class CameraConfig(Settings):
    """The camera that key frames in the background are measured with.

    Attributes:
        rate: frames per second; that of the clips for testing.
        frames: number of frames that are played.
    """

    rate: float = Field(default=30.0, gt=0, le=1000)
    frames: int = Field(default=150, ge=10, le=1_000_000)


class FrontierConfig(Settings):
    """The frontier.

    Attributes:
        test: labelled clips that results are reported on; used for nothing else.
        calibration: what INT8 is made on.
        intervals: key intervals l of the curves; l = 1 is measured always.
        camera: of the key frames in the background.
        speed: how the time of a frame is measured.
        networks: by name.
    """

    test: str
    calibration: CalibrationConfig
    intervals: Annotated[tuple[Interval, ...], Field(min_length=1)] = (2, 3, 5, 10)
    camera: CameraConfig = CameraConfig()
    speed: SpeedConfig = SpeedConfig()
    networks: Annotated[dict[Name, NetworkConfig], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> FrontierConfig:
        check_distinct("intervals", self.intervals)
        if holds(self.calibration.source, self.test):
            raise ValueError(
                f"calibration.source is '{self.calibration.source}', which is tested on: give "
                "others."
            )
        return self


def load_trainings(config: FrontierConfig) -> dict[str, TrainConfig]:
    """Read the configurations of the networks that are to be trained, by name.

    Raises:
        ConfigError: one is wrong, or trains on what is tested on.
        CheckpointError, SourceError: as ``load_whole_config``.
    """
    trainings = {}
    for name, network in config.networks.items():
        if network.checkpoint is not None or network.train is None:
            continue
        try:
            training = load_whole_config(network.train.config, network.train.changes)
        except ConfigError as error:
            raise ConfigError(f"networks.{name}.train: {error}") from error
        data = training.data
        watched = data.validate_on
        if holds(data.train, config.test, "train") or (watched and holds(watched, config.test)):
            raise ConfigError(
                f"test is '{config.test}', which networks.{name} is trained or watched on: give "
                "others."
            )
        trainings[name] = training
    return trainings
