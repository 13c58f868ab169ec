"""The base of validations: measured every few epochs, the best weights kept."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from dff_edge.trainer.best_weights import BestWeights
from dff_edge.trainer.learner import Learner
from dff_edge.trainer.models import DeepFeatureFlow

_log = logging.getLogger("dff_edge.trainer")


class StageValidation(Callback):
    """Measure the networks of a stage after some of its epochs, always after the last.

    Where the best weights are kept, also before the first, so that no stage makes a model worse.

    Args:
        every: epochs between two validations.
        best: keeps the best weights, by the first of the values; None for the last weights.

    Attributes:
        higher_is_better: of the first value.
    """

    higher_is_better = True

    def __init__(self, every: int, best: BestWeights | None = None) -> None:
        self._every = every
        self._best = best

    @abstractmethod
    def measure(self, model: DeepFeatureFlow, step: int) -> Mapping[str, float]:
        """Return the values of a model by their names, that which decides first.

        Args:
            model: put into evaluation mode.
            step: of the stage.
        """

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Measure the weights that the best ones must beat: those at the start. See ``Callback``.

        A stage that was resumed after its early end ends at once.
        """
        assert isinstance(pl_module, Learner)
        if self._best is None:
            return
        if trainer.global_step == 0 and trainer.is_global_zero:
            values = dict(self._measure(pl_module.model, 0))
            for logger in trainer.loggers:
                logger.log_metrics(values, step=-1)  # lightning's number before the first step
        trainer.should_stop = self._best.is_over

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Measure and log. See ``Callback``."""
        assert isinstance(pl_module, Learner)
        if not _is_due(trainer, pl_module, self._every):
            return
        if trainer.is_global_zero:
            for name, value in self._measure(pl_module.model, trainer.global_step).items():
                pl_module.log(name, value, rank_zero_only=True, batch_size=1)
        if self._best is not None:
            # All processes end together, or those that go on wait for ever.
            trainer.should_stop = trainer.strategy.reduce_boolean_decision(
                self._best.is_over, all=False
            )

    def _measure(self, model: DeepFeatureFlow, step: int) -> Mapping[str, float]:
        values = self.measure(model, step)
        for name, value in values.items():
            _log.info("step %d: %s %.4f", step, name, value)
        if self._best is not None:
            name, value = next(iter(values.items()))
            self._best.consider(model, name, value, step, higher_is_better=self.higher_is_better)
        return values

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the best weights, for a save. See ``Callback``."""
        return {} if self._best is None else self._best.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See ``state_dict``."""
        if self._best is not None:
            self._best.restore(state_dict)


def _is_due(trainer: lightning.Trainer, learner: Learner, every: int) -> bool:
    """Return whether validation is due after this epoch: every ``every`` ones, and at the end."""
    is_last = trainer.global_step >= learner.stage.steps
    return (trainer.current_epoch + 1) % every == 0 or is_last
