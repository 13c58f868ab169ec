"""The threads of the runtime that run, for tests that none is left."""

from __future__ import annotations

import threading


def running_workers(prefix: str = "dff-") -> list[threading.Thread]:
    """Return them by their names' start.

    Those that Ctrl-C kept from starting, in other tests, Python lists for ever; they do not run.
    """
    return [t for t in threading.enumerate() if t.name.startswith(prefix) and t.is_alive()]
