"""For all tests."""

from __future__ import annotations

import signal

import pytest

# Shells start background jobs with SIGINT ignored, and the processes of tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_engines(tmp_path_factory, monkeypatch):
    """Engines that were deployed on this machine are none of the tests' business."""
    monkeypatch.setenv("DFF_EDGE_CACHE", str(tmp_path_factory.getbasetemp() / "engines"))
