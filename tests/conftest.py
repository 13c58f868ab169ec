"""For all tests."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

# Shells start background jobs with SIGINT ignored, and the processes of tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def full_disk(monkeypatch):
    """Every disk has room for a byte."""
    usage = SimpleNamespace(total=1 << 40, used=(1 << 40) - 1, free=1)
    monkeypatch.setattr("dff_edge.runtime.disk.shutil.disk_usage", lambda path: usage)


@pytest.fixture(autouse=True)
def own_engines(tmp_path_factory, monkeypatch):
    """Engines that were deployed on this machine are none of the tests' business."""
    monkeypatch.setenv("DFF_EDGE_CACHE", str(tmp_path_factory.getbasetemp() / "engines"))
