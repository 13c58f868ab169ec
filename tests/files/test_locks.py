"""One writer a file: who is kept out, what is said of the other, and file systems without locks."""

import errno
import fcntl
import os
import re
import time
from datetime import datetime

import pytest

from dff_edge.errors import SinkError
from dff_edge.files.locks import FolderLock, holder, lock, own_folder
from tests.processes import process_that

HOLD = """
    import os, sys
    from dff_edge.files.locks import lock
    descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
    lock(descriptor, "x")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def opened(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def test_other_process_is_named_with_its_start(tmp_path, opened):
    before_s = time.time()
    with process_that(HOLD, tmp_path / "file") as other:
        with pytest.raises(SinkError) as caught:
            lock(opened, "drive.mp4")
        text = str(caught.value)
    assert text.startswith(f"'drive.mp4' is being written by process {other.pid} ('python")
    since = re.search(r"running since ([-\d]+ [:\d]+)\)", text)[1]
    started_s = datetime.strptime(since, "%Y-%m-%d %H:%M:%S").timestamp()
    assert abs(started_s - before_s) < 5  # jiffies and whole seconds
    assert text.endswith("Name another place, or end that process first.")


def test_lock_ends_with_a_killed_process(tmp_path, opened):
    with process_that(HOLD, tmp_path / "file") as other:
        other.kill()
        other.wait()
        assert lock(opened, "x")


def test_other_output_of_this_process_is_kept_out_too(tmp_path, opened):
    lock(opened, "x")
    again = os.open(tmp_path / "file", os.O_RDWR)
    with pytest.raises(SinkError, match="by this process already, as another output"):
        lock(again, "x")
    os.close(again)


def test_command_line_of_the_other_is_not_told(tmp_path, opened):
    with process_that(HOLD, tmp_path / "file", "rtsp://user:secret@camera/"):
        with pytest.raises(SinkError) as caught:
            lock(opened, "x")
    assert "secret" not in str(caught.value)


def test_other_that_cannot_be_seen_is_told_so(tmp_path, opened, monkeypatch):
    monkeypatch.setattr("dff_edge.files.locks._read", lambda path: "")
    assert "another process, which is not visible here" in holder(opened)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_said_and_used(opened, monkeypatch, caplog, number):
    def refuse(descriptor, kind):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert not lock(opened, "drive.mp4")
    assert "'drive.mp4' is on a file system without locks" in caplog.text


def test_folder_is_for_one(tmp_path):
    with FolderLock(tmp_path, "labels://x"):
        with pytest.raises(SinkError, match="'labels://x' is being written by this process"):
            FolderLock(tmp_path, "labels://x")
    FolderLock(tmp_path, "labels://x").close()


def test_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(SinkError, match="cannot be opened: No such file"):
        FolderLock(tmp_path / "gone", "x")


def test_own_folder_is_made_and_one_that_stays_empty_is_removed(tmp_path):
    with own_folder(tmp_path / "a" / "run"):
        assert (tmp_path / "a" / "run").is_dir()
        with pytest.raises(SinkError, match="run' is being written by this process"):
            FolderLock(tmp_path / "a" / "run", str(tmp_path / "a" / "run"))
    assert not (tmp_path / "a" / "run").exists()
    with own_folder(tmp_path / "run"):
        (tmp_path / "run" / "weights").touch()
    with own_folder(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / "weights").exists()


def test_own_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="the folder '.*/file/run' cannot be made: Not a directory"):
        with own_folder(tmp_path / "file" / "run"):
            pass
