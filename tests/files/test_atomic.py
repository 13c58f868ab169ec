"""A file is the old one or the new one, whatever goes wrong while it is written."""

import fcntl
import os
import stat
import threading

import pytest

from dff_edge.errors import SinkError
from dff_edge.files import atomic
from dff_edge.files.atomic import AtomicFile, check_room, check_writable, write_atomically
from tests.processes import process_that, run_python

CLAIM = """
    import sys
    from dff_edge.files.atomic import AtomicFile
    file = AtomicFile(sys.argv[1])
    file.write("half a fi")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_content_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with AtomicFile(path) as file:
        file.write("one, ")
        file.write(b"two")
        assert path.read_text() == "old"
        file.commit()
        assert path.read_text() == "one, two"
    assert os.listdir(tmp_path) == ["run.json"]


def test_leaving_without_commit_changes_nothing(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with AtomicFile(path) as file:
        file.write("new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["run.json"]

    with AtomicFile(tmp_path / "other.json"):
        assert not (tmp_path / "other.json").exists()
    assert os.listdir(tmp_path) == ["run.json"]


@pytest.mark.parametrize("before", ["old", None])
def test_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, before):
    path = tmp_path / "run.json"
    if before is not None:
        path.write_text(before)
    code = """
        import resource, sys
        from dff_edge.files.atomic import write_atomically
        from dff_edge.errors import SinkError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_atomically(sys.argv[1], bytes(1500))
        except SinkError as error:
            print(error)
    """
    done = run_python(code, path)
    assert done.stdout == (
        f"'{path}' cannot be written, no room is left: File too large. The file that was there is "
        "unchanged. Make room, or write somewhere else.\n"
    )
    assert os.listdir(tmp_path) == ([] if before is None else ["run.json"])
    assert before is None or path.read_text() == before


def test_disk_without_room_is_told_before_anything_is_made(tmp_path, monkeypatch):
    class Disk:
        f_blocks, f_bavail, f_frsize = 10**6, 15, 4096

    monkeypatch.setattr(os, "statvfs", lambda path: Disk)
    with pytest.raises(SinkError, match=r"'x' cannot be written, no room is left.* has 0\.1 MB"):
        check_room(tmp_path, "x")
    check_room(tmp_path, "x", 61_000)
    with pytest.raises(SinkError, match="no room is left"):
        AtomicFile(tmp_path / "run.json")
    assert os.listdir(tmp_path) == []


def test_second_writer_is_told_of_the_first(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with process_that(CLAIM, path) as other:
        with pytest.raises(SinkError, match=f"run.json' is being written by process {other.pid}"):
            AtomicFile(path)
    assert path.read_text() == "old"


def test_staging_file_of_a_killed_process_is_taken_over(tmp_path):
    path = tmp_path / "run.json"
    with process_that(CLAIM, path) as other:
        other.kill()
        other.wait()
    assert os.listdir(tmp_path) == [".run.json.new"]
    write_atomically(path, "new")
    assert os.listdir(tmp_path) == ["run.json"]
    assert path.read_text() == "new"


def test_writer_that_waits_between_open_and_lock_does_not_get_the_renamed_file(
    tmp_path, monkeypatch
):
    """The first one renames its staging file when the second has opened it, but not locked it."""
    path = tmp_path / "run.json"
    first = AtomicFile(path)
    first.write("first")
    take, left = atomic.lock, [first]

    def late(descriptor, name):
        if left:
            other = left.pop()
            other.commit()
            other.close()
        return take(descriptor, name)

    monkeypatch.setattr(atomic, "lock", late)
    with AtomicFile(path) as second:
        assert path.read_text() == "first"
        second.write("second")
        assert path.read_text() == "first"
        second.commit()
    assert path.read_text() == "second"


def test_two_writers_without_locks_do_not_mix(tmp_path, monkeypatch):
    def refuse(descriptor, kind):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    write_atomically(tmp_path / "run.json", "new")
    assert os.listdir(tmp_path) == ["run.json"]
    with AtomicFile(tmp_path / "run.json"):
        assert sorted(os.listdir(tmp_path)) == [f".run.json.{os.getpid()}.new", "run.json"]


def test_link_is_followed_and_stays(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "run.json"
    link.symlink_to(tmp_path / "real" / "numbers.json")
    for text in ("first", "second"):
        write_atomically(link, text)
        assert link.is_symlink()
        assert (tmp_path / "real" / "numbers.json").read_text() == text


def test_mode_of_the_old_file_stays_and_a_new_one_has_that_of_the_process(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    old.chmod(0o604)
    before = os.umask(0o027)
    try:
        write_atomically(old, "x")
        write_atomically(new, "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(old.stat().st_mode) == 0o604
    assert stat.S_IMODE(new.stat().st_mode) == 0o640


def test_pipe_is_written_to(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_atomically(pipe, "numbers")
    reader.join(20)
    assert read == ["numbers"]
    assert os.listdir(tmp_path) == ["pipe"]


def test_stdout_by_its_name_is_written_to():
    code = """
        from dff_edge.files.atomic import write_atomically
        write_atomically("/dev/stdout", "numbers")
    """
    assert run_python(code).stdout == "numbers"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full of Linux")
def test_device_that_is_full_is_named():
    with pytest.raises(SinkError, match="'/dev/full' cannot be written, no room is left"):
        write_atomically("/dev/full", "x")


def test_place_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    with pytest.raises(SinkError, match=r"no folder '.*/gone'\. Make it first: mkdir -p"):
        check_writable(tmp_path / "gone" / "x")
    with pytest.raises(SinkError, match="is a folder, expected a file"):
        check_writable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot be written: Not a directory"):
        check_writable(tmp_path / "file" / "x")
    # Root may write everywhere, so what the system answers is played.
    monkeypatch.setattr(os, "access", lambda path, mode: os.path.isdir(path))
    with pytest.raises(SinkError, match="file' cannot be written: it is read-only"):
        check_writable(tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SinkError, match=r"x' cannot be written: the folder '.*' is not writable"):
        check_writable(tmp_path / "x")


def test_planted_link_in_place_of_the_staging_file_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".run.json.new").symlink_to(tmp_path / "victim")
    with pytest.raises(SinkError, match="run.json' cannot be written"):
        write_atomically(tmp_path / "run.json", "x")
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize(("number", "is_raised"), [(22, False), (95, False), (28, True), (5, True)])
def test_file_system_that_cannot_flush_is_no_error_but_a_full_disk_is(
    tmp_path, monkeypatch, number, is_raised
):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    (tmp_path / "run.json").write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    if is_raised:
        with pytest.raises(SinkError, match="run.json' cannot be written"):
            write_atomically(tmp_path / "run.json", "new")
    else:
        write_atomically(tmp_path / "run.json", "new")
    assert (tmp_path / "run.json").read_text() == ("old" if is_raised else "new")
    assert os.listdir(tmp_path) == ["run.json"]
