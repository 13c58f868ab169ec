"""The best weights of a stage by its validation, and the end of a stage that no longer improves."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from torch import nn

from dff_edge.errors import ConfigError
from dff_edge.trainer.checkpoint import load_weights
from dff_edge.trainer.saves import Owner
from dff_edge.trainer.tensor_files import read_tensors, write_tensors

_log = logging.getLogger("dff_edge.trainer")
_FILE = "best.safetensors"


class BestWeights:
    """The weights of the validation with the best value, in a file of the stage's folder.

    Args:
        folder: of the stage.
        owner: the owner of the file.
        patience: validations without a better one after which the stage ends; None for no end.

    Attributes:
        value: the best value; None before the first.
        name: of the value.
        step: when it was measured.
        waited: validations since then.
    """

    def __init__(self, folder: Path, owner: Owner, *, patience: int | None) -> None:
        self._path = folder / _FILE
        self._owner = owner
        self._patience = patience
        self.value: float | None = None
        self.name = ""
        self.step = 0
        self.waited = 0

    @property
    def is_over(self) -> bool:
        """Whether the stage has waited long enough."""
        return self._patience is not None and self.waited >= self._patience

    def consider(
        self, model: nn.Module, name: str, value: float, step: int, *, higher_is_better: bool = True
    ) -> None:
        """Keep a model's weights if they are the best so far; NaN is never the best.

        Raises:
            CheckpointError: they cannot be written.
        """
        if self._is_better(value, higher_is_better):
            write_tensors(self._path, model.state_dict(), {"run": self._owner.text})
            self.value, self.name, self.step, self.waited = value, name, step, 0
            return
        self.waited += 1
        if self.is_over:
            _log.info("step %d: no better %s since step %d; the stage ends", step, name, self.step)

    def load(self, model: nn.Module) -> None:
        """Give a model the best weights; it keeps its own where nothing could be measured.

        Raises:
            CheckpointError: the file is damaged.
            ConfigError: it is missing, or another run's.
        """
        if self.value is None:
            _log.warning(
                "%s: no validation gave a number; the last weights are kept", self._path.parent
            )
            return
        if not self._path.is_file():
            raise ConfigError(
                f"{self._path} is missing, expected the best weights of step {self.step}. Put it "
                "back, or remove last.ckpt beside it to train the stage from its start."
            )
        tensors, told = read_tensors(self._path)
        self._owner.check(told.get("run"), self._path)
        load_weights(model, tensors, str(self._path))
        _log.info(
            "%s: the weights of step %d are kept, %s %.4f",
            self._path.parent.name,
            self.step,
            self.name,
            self.value,
        )

    def state(self) -> dict[str, Any]:
        """Return the state for a save of the stage."""
        return {key: getattr(self, key) for key in ("value", "name", "step", "waited")}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the state of a save."""
        self.value, self.name = state["value"], state["name"]
        self.step, self.waited = state["step"], state["waited"]

    def _is_better(self, value: float, higher_is_better: bool) -> bool:
        if math.isnan(value):
            return False
        if self.value is None:
            return True
        return value > self.value if higher_is_better else value < self.value
