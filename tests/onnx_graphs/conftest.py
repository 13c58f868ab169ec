"""One small bundle."""

from __future__ import annotations

import pytest

from tests.export.checkpoints import tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory)
