"""The training runs of the rows of the tables.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715, Table 3.
Differs from the paper: there N starts from ImageNet weights; so it does here where ``init`` has
    them, else every variant of a seed starts from the same recognition network, trained from
    scratch on single frames. All then take as many steps, on the same scenes, with the same
    schedule of the learning rate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dff_edge.trainer.checkpoint import digest
from dff_edge.trainer.config import NetworkName, StageConfig, TrainConfig
from dff_edge.trainer.models import ModelConfig

_START = 0  # phases of a seed: each has its own stream of scenes
_END = 1


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        name: for people.
        config: model, data and training.
        start: networks that begin with the final weights of another run, the others with
            those of ``config.init``.
        is_trained: False combines the networks of ``start`` as they are.
    """

    name: str
    config: TrainConfig
    start: Mapping[NetworkName, Run] = field(default_factory=dict)
    is_trained: bool = True

    @property
    def key(self) -> str:
        """Hexadecimal digest of all that determines the outcome.

        That is the configurations of this run and of those before it, and the weights that ``init``
        names. A setting at its default does not count, so that runs keep their keys when the
        project gains a setting.
        """
        settings: dict[str, Any] = {
            "config": self.config.model_dump(mode="json", exclude={"name"}, exclude_defaults=True),
            "start": {network: run.key for network, run in sorted(self.start.items())},
            "is_trained": self.is_trained,
        }
        origins = self.config.init.model_dump(exclude_defaults=True, exclude={"feature_order"})
        if origins:
            settings["weights"] = {name: digest(origin) for name, origin in origins.items()}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Recipe:
    """The runs of one seed.

    Attributes:
        train: Deep Feature Flow by default, as in ``ExperimentConfig``.
        seed: of weights and scenes.
    """

    train: TrainConfig
    seed: int

    def recognition(self, model: ModelConfig | None = None) -> Run | None:
        """Return the start of N: feature and task network on single frames; None for ``init``."""
        default = self.train.model
        # Single frames involve neither flow nor split: models that differ in those share this run.
        feature = default.feature if model is None else model.feature
        return self._first("recognition", default.model_copy(update={"feature": feature}))

    def flow(self, model: ModelConfig | None = None) -> Run | None:
        """Return the start of F: the flow network on true flow; None for ``init``."""
        default = self.train.model
        # True flow involves neither features nor scale: models that differ there share this run.
        flow = default.flow if model is None else model.flow
        flow = flow.model_copy(update={"scale": default.flow.scale})
        return self._first("flow", default.model_copy(update={"flow": flow}))

    def frame(self, model: ModelConfig | None = None) -> Run:
        """Return *Frame*: further steps on single frames, as many as *DFF* makes on pairs."""
        default = self.train.model
        feature = default.feature if model is None else model.feature
        stage = self._pairs.model_copy(update={"kind": "recognition"})
        return self._last(
            "frame",
            default.model_copy(update={"feature": feature}),
            stage,
            _of_n(self.recognition(model)),
        )

    def dff(
        self,
        name: str = "dff",
        *,
        model: ModelConfig | None = None,
        fixed: tuple[NetworkName, ...] = (),
    ) -> Run:
        """Return *DFF* and its variants: pairs end to end.

        Args:
            name: of the run.
            model: other networks than the default.
            fixed: networks that stay as they start. With N fixed it is that of *Frame*.
        """
        n = self.frame(model) if "feature" in fixed else self.recognition(model)
        stage = self._pairs.model_copy(update={"fixed": fixed})
        start = {**_of_n(n), **_of_f(self.flow(model))}
        return self._last(name, model or self.train.model, stage, start)

    def separate(self) -> Run:
        """Return *DFF separate*: N of *Frame* and F as it was pre-trained."""
        start = {**_of_n(self.frame()), **_of_f(self.flow())}
        run = self._last("dff-separate", self.train.model, self._pairs, start)
        return replace(run, is_trained=False)

    @property
    def _pairs(self) -> StageConfig:
        return self.train.stages[-1]

    def _first(self, kind: str, model: ModelConfig) -> Run | None:
        stages = tuple(stage for stage in self.train.stages if stage.kind == kind)
        if not stages:
            return None
        return Run(f"{kind}-s{self.seed}", self._config(model, _START, stages))

    def _last(
        self, name: str, model: ModelConfig, stage: StageConfig, start: Mapping[NetworkName, Run]
    ) -> Run:
        return Run(f"{name}-s{self.seed}", self._config(model, _END, (stage,)), start)

    def _config(
        self, model: ModelConfig, phase: int, stages: tuple[StageConfig, ...]
    ) -> TrainConfig:
        return self.train.model_copy(
            update={"model": model, "seed": 2 * self.seed + phase, "stages": stages}
        )


def _of_n(run: Run | None) -> dict[NetworkName, Run]:
    return {} if run is None else {"feature": run, "task": run}


def _of_f(run: Run | None) -> dict[NetworkName, Run]:
    return {} if run is None else {"flow": run}
