"""The tasks that are measured; see ``dff_edge.bundle.tasks`` for their other modules."""

from __future__ import annotations

from typing import Any

from dff_edge.bundle.tasks import TASKS
from dff_edge.evaluation.tasks.base import MeasuredTask, Tally
from dff_edge.registry import Registry

__all__ = ["MEASURED_TASKS", "MeasuredTask", "Tally"]

MEASURED_TASKS: Registry[MeasuredTask[Any]] = Registry("task", __name__, "TASK", TASKS)
