"""For all tests."""

from __future__ import annotations

import os
import signal
import sys
from types import SimpleNamespace

import pytest

from dff_edge import packages

# Shells start background jobs with SIGINT ignored, and the processes of tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Each process of pytest-xdist gets its share of the cores: with more threads than cores, those of
# torch wait for each other, and tests take five times as long. Set before torch is imported.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Escape what is no UTF-8 in what was logged: the processes of pytest-xdist end on it."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture
def full_disk(monkeypatch):
    """Every disk has room for a byte."""
    usage = SimpleNamespace(total=1 << 40, used=(1 << 40) - 1, free=1)
    monkeypatch.setattr("dff_edge.files.disk.shutil.disk_usage", lambda path: usage)


@pytest.fixture(autouse=True)
def own_engines(tmp_path_factory, monkeypatch):
    """Engines that were deployed on this machine are none of the tests' business."""
    monkeypatch.setenv("DFF_EDGE_CACHE", str(tmp_path_factory.getbasetemp() / "engines"))


@pytest.fixture
def without(monkeypatch):
    """Have packages look as if they were not installed; by the names of their modules."""
    hidden = set()
    version_of = packages.version_of
    monkeypatch.setattr(
        packages, "version_of", lambda name: None if name in hidden else version_of(name)
    )

    def hide(*modules):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)
            hidden.update(packages.same_files(packages.distribution_of(module)))

    return hide
