"""The native code that is not in the wheel, built once for all workers."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest


@pytest.fixture(scope="session")
def build_folder(tmp_path_factory):
    """Where to build; shared by the workers, so builds in it are to be locked."""
    if shutil.which("cmake") is None:
        pytest.skip("building plugins/ needs cmake")
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture
def rng():
    return np.random.default_rng(0)
