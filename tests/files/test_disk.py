"""Room for what will be written, asked beforehand."""

import errno
import os
import shutil
import tempfile

import pytest

from dff_edge.errors import DiskError
from dff_edge.files.disk import check_room, check_temporary_room


def test_there_is_room_in_a_folder_and_where_one_would_be_made(tmp_path):
    check_room(tmp_path, 1000, "the bundle")
    check_room(tmp_path / "not" / "there", 1000, "the bundle")
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_told_with_both_numbers(tmp_path):
    wanted = 10 * shutil.disk_usage(tmp_path).total
    with pytest.raises(
        DiskError,
        match=rf"the bundle will take about {wanted / 1e6:.1f} MB, and there is room for "
        rf"\d+\.\d MB at {tmp_path}\. Make room",
    ):
        check_room(tmp_path, wanted, "the bundle")


def test_place_that_nobody_can_write_to_is_told(monkeypatch, tmp_path):
    with pytest.raises(DiskError, match="the bundle cannot be written to /proc/x: No such file"):
        check_room("/proc/x", 1, "the bundle")

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(DiskError, match=r"Read-only file system\. Choose another folder"):
        check_room(tmp_path, 1, "the bundle")


def test_lack_of_a_folder_for_temporary_files_is_told(monkeypatch):
    def refuse():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    with pytest.raises(DiskError, match=r"of quantising cannot be written: none.*TMPDIR"):
        check_temporary_room(1, "the files of quantising")
