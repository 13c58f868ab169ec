"""Tasks of bundles: the names of all tasks, and the outputs of each one's graphs.

A task has a module of its name in three packages, each for the needs of its layer:
``bundle.tasks`` (the contract of its graphs), ``runtime.tasks`` (decoding, drawing, JSON) and
``evaluation.tasks`` (metric and labels). A fourth one, ``trainer.tasks``, is for those that are
trained here. ``TASKS`` names those of the package; others are registered.
"""

from __future__ import annotations

from dff_edge.bundle.tasks.base import TaskFormat
from dff_edge.registry import Registry

__all__ = ["FORMATS", "TASKS", "TaskFormat", "TaskName"]

TaskName = str  # one of ``FORMATS.names``

TASKS: tuple[TaskName, ...] = ("segmentation", "detection")
FORMATS: Registry[TaskFormat] = Registry("task", __name__, "FORMAT", TASKS)
