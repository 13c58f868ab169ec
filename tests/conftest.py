"""For all tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def own_engines(tmp_path_factory, monkeypatch):
    """Engines that were deployed on this machine are none of the tests' business."""
    monkeypatch.setenv("DFF_EDGE_CACHE", str(tmp_path_factory.getbasetemp() / "engines"))
