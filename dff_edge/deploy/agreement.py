"""Agreement of the results of two runs over the same frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dff_edge.runtime.tasks import Task


def agreement(task: Task[Any], answers: Sequence[Any], expected: Sequence[Any]) -> float:
    """Return the agreement of results for the same frames, 0..1; see ``Task.shared``.

    Example:
        >>> import numpy as np
        >>> from dff_edge.runtime.tasks import RUNTIME_TASKS
        >>> task = RUNTIME_TASKS.find("segmentation")
        >>> agreement(task, [np.uint8([[0, 1, 2, 3]])], [np.uint8([[0, 1, 2, 0]])])
        0.75
    """
    counts = [task.shared(*pair) for pair in zip(answers, expected, strict=True)]
    total = sum(of for _, of in counts)
    return sum(alike for alike, _ in counts) / total if total else 1.0  # nothing seen by either
