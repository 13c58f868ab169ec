"""What bundles say of a task: the names of all tasks, and what the graphs of each give.

A task has a module of its name in three packages, each of which knows what its layer has to:
``bundle.tasks`` (the contract of its graphs), ``runtime.tasks`` (decoding, drawing, JSON) and
``evaluation.tasks`` (metric and truth). A fourth one, ``trainer.tasks``, is for those that are
trained here. ``TASKS`` names those of the package; others are registered.
"""

from __future__ import annotations

from dff_edge.bundle.tasks.base import TaskFormat
from dff_edge.registry import Registry

__all__ = ["FORMATS", "TASKS", "TaskFormat", "TaskName"]

TaskName = str  # one of ``FORMATS.names``

TASKS: tuple[TaskName, ...] = ("segmentation", "detection")
FORMATS: Registry[TaskFormat] = Registry("task", __name__, "FORMAT", TASKS)
