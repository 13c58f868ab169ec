"""The tasks that are trained; see ``dff_edge.bundle.tasks`` for their other modules.

Their networks are chosen by the configuration, ``dff_edge.trainer.models.task_config``.
"""

from __future__ import annotations

from dff_edge.bundle.tasks import TASKS
from dff_edge.registry import Registry
from dff_edge.trainer.tasks.base import TrainedTask

__all__ = ["TRAINED_TASKS", "TrainedTask"]

TRAINED_TASKS: Registry[TrainedTask] = Registry("task", __name__, "TASK", TASKS)
