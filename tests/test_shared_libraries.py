"""Messages of the loader, put into words."""

from __future__ import annotations

import ctypes

import pytest

from dff_edge import shared_libraries
from dff_edge.shared_libraries import load_problem, missing_for_windows


def test_libraries_that_the_system_lacks_are_found(monkeypatch):
    monkeypatch.setattr(shared_libraries, "_WINDOW_LIBRARIES", ("libc.so.6", "libnone.so.9"))

    assert missing_for_windows() == ["libnone.so.9"]


def test_the_words_of_this_systems_loader_are_understood():
    with pytest.raises(OSError, match="libnone") as raised:
        ctypes.CDLL("libnone.so.9")

    found = load_problem(str(raised.value), "a package", "a package")

    assert found is not None
    assert found.text == "The system lacks the library libnone.so.9"
    assert found.fix.endswith("apt-file search libnone.so.9")


@pytest.mark.parametrize("library", shared_libraries._WINDOW_LIBRARIES)
def test_one_is_told_of_all_that_windows_need(library):
    error = f"{library}: cannot open shared object file: No such file or directory"
    found = load_problem(error, "cv2", "opencv-python")

    assert found is not None
    for package in ("libgl1", "libglib2.0-0", "libsm6", "libxext6"):
        assert f" {package}" in found.fix
    assert "pip install opencv-python-headless" in found.fix


def test_other_errors_are_none_of_the_loaders():
    assert load_problem("No module named 'cv2'", "cv2", "opencv-python") is None
    assert load_problem("numpy.core.multiarray failed to import", "cv2", "opencv-python") is None
