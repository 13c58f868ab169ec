"""Settings of tests that make up their inputs: seconds as they are, ``DFF_FUZZ=100`` for hours."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_TIMES = int(os.environ.get("DFF_FUZZ", "1"))


def examples(count: int) -> settings:
    """So many inputs, or ``$DFF_FUZZ`` times as many; each may take as long as it does."""
    return settings(
        max_examples=count * _TIMES,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
