"""The tasks that networks are run for; see ``dff_edge.bundle.tasks`` for their other modules."""

from __future__ import annotations

from typing import Any

from dff_edge.bundle.manifest import Manifest
from dff_edge.bundle.tasks import TASKS
from dff_edge.registry import Registry
from dff_edge.runtime.tasks.base import AgreementRule, Task
from dff_edge.runtime.tasks.decoders import Decoder

__all__ = ["RUNTIME_TASKS", "AgreementRule", "Task", "decoder_of", "task_of"]

RUNTIME_TASKS: Registry[Task[Any]] = Registry("task", __name__, "TASK", TASKS)


def task_of(manifest: Manifest) -> Task[Any]:
    """Return the task of a bundle."""
    return RUNTIME_TASKS.find(manifest.task)


def decoder_of(manifest: Manifest, *, threads: int = 1, confidence: bool = False) -> Decoder:
    """Return a decoder for a bundle; see ``Task.decoder``."""
    return task_of(manifest).decoder(manifest, threads=threads, confidence=confidence)
