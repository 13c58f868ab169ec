"""The file of a sink: whose it is, where results are meanwhile, and what trouble leaves."""

import os
import stat

import pytest

from dff_edge.errors import SinkError
from dff_edge.runtime.sinks.output_file import OutputFile
from tests.processes import process_that, run_python

WRITE = """
    import sys
    from pathlib import Path
    from dff_edge.runtime.sinks.output_file import OutputFile
    file = OutputFile(Path(sys.argv[1]), sys.argv[1])
    file.write(b"of another run")
    print("ready", flush=True)
    sys.stdin.read()
"""


def names(folder):
    return sorted(os.listdir(folder))


def output(path, **options):
    return OutputFile(path, str(path), **options)


def test_new_file_can_be_read_along(tmp_path):
    file = output(tmp_path / "out.jsonl")
    for count in (1, 2):
        file.write(b"line\n")
        assert (tmp_path / "out.jsonl").read_bytes() == count * b"line\n"
    file.close()
    assert names(tmp_path) == ["out.jsonl"]


def test_claim_alone_changes_nothing(tmp_path):
    old = tmp_path / "old.mp4"
    old.write_bytes(b"precious")
    for path in (old, tmp_path / "new.mp4"):
        file = output(path)
        file.close()
        file.close()
    assert names(tmp_path) == ["old.mp4"]
    assert old.read_bytes() == b"precious"


def test_recording_of_another_run_stays_until_this_one_is_whole(tmp_path):
    path = tmp_path / "drive.mp4"
    path.write_bytes(b"old")
    file = output(path)
    assert file.place == tmp_path / "drive.new.mp4"
    assert names(tmp_path) == ["drive.mp4"]
    file.write(b"new")
    assert path.read_bytes() == b"old"
    assert file.place.read_bytes() == b"new"
    file.close()
    assert path.read_bytes() == b"new"
    assert file.place == path
    assert names(tmp_path) == ["drive.mp4"]


def test_failed_run_leaves_both(tmp_path):
    path = tmp_path / "drive.mp4"
    path.write_bytes(b"old")
    file = output(path)
    file.write(b"half")
    file.close(is_whole=False)
    assert path.read_bytes() == b"old"
    assert (tmp_path / "drive.new.mp4").read_bytes() == b"half"
    assert str(file.what_stays()) == (
        f"What was written before stays readable in '{tmp_path}/drive.new.mp4', and '{path}' is "
        "as it was."
    )


def test_file_of_a_running_process_is_refused_and_whole(tmp_path):
    path = tmp_path / "drive.jsonl"
    with process_that(WRITE, path) as other:
        with pytest.raises(SinkError, match=f"being written by process {other.pid} "):
            output(path)
        assert path.read_bytes() == b"of another run"
        # One that writes beside an older recording owns its name too.
        other.kill()
        other.wait()
    with process_that(WRITE, path) as other:
        assert names(tmp_path) == ["drive.jsonl", "drive.new.jsonl"]
        with pytest.raises(SinkError, match=f"being written by process {other.pid} "):
            output(path)


def test_killed_runs_leave_all_that_they_wrote(tmp_path, caplog):
    path = tmp_path / "drive.mp4"
    for _ in range(3):
        with process_that(WRITE, path) as other:
            other.kill()
            other.wait()
    left = ["drive.mp4", "drive.new-2.mp4", "drive.new.mp4"]
    assert names(tmp_path) == left
    file = output(path)
    assert (
        "drive.new.mp4, drive.new-2.mp4 beside it were left by runs that were killed" in caplog.text
    )
    file.write(b"whole")
    file.close()
    assert path.read_bytes() == b"whole"
    assert names(tmp_path) == left


def test_empty_file_is_written_to_as_it_is(tmp_path):
    path = tmp_path / "out.jsonl"
    path.touch(mode=0o604)
    file = output(path)
    file.close()
    assert names(tmp_path) == ["out.jsonl"]
    file = output(path)
    file.write(b"line\n")
    assert path.read_bytes() == b"line\n"
    file.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_mode_of_the_old_file_stays(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"old")
    path.chmod(0o640)
    file = output(path)
    file.write(b"new")
    file.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_file_that_was_moved_away_meanwhile_goes_on(tmp_path):
    path = tmp_path / "out.jsonl"
    file = output(path)
    file.write(b"one")
    path.rename(tmp_path / "archive.jsonl")
    path.write_bytes(b"of somebody else")
    file.write(b"two")
    file.close()
    assert path.read_bytes() == b"of somebody else"
    assert (tmp_path / "archive.jsonl").read_bytes() == b"onetwo"


def test_file_that_came_meanwhile_is_not_replaced(tmp_path, caplog):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    file = output(path)
    file.write(b"new")
    path.unlink()
    path.write_bytes(b"of somebody else")
    file.close()
    assert path.read_bytes() == b"of somebody else"
    assert (tmp_path / "out.new.mp4").read_bytes() == b"new"
    assert "another file was put there meanwhile" in caplog.text


def test_new_file_without_content_that_was_replaced_meanwhile_is_left_alone(tmp_path):
    path = tmp_path / "out.mp4"
    file = output(path)
    path.unlink()
    path.write_bytes(b"of somebody else")
    file.close()
    assert path.read_bytes() == b"of somebody else"


def test_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    real = tmp_path / "disk" / "drive.mp4"
    link = tmp_path / "out.mp4"
    link.symlink_to(real)
    for text in (b"first", b"second"):
        file = output(link)
        file.write(text)
        file.close()
        assert link.is_symlink()
        assert real.read_bytes() == text
    assert names(tmp_path / "disk") == ["drive.mp4"]


def test_writes_all_or_raises(tmp_path):
    code = """
        import resource, sys
        from pathlib import Path
        from dff_edge.runtime.sinks.output_file import OutputFile

        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        file = OutputFile(Path(sys.argv[1]), sys.argv[1])
        try:
            file.write(bytes(1500))
        except OSError as error:
            print(error.strerror, file.tell(), file.write(b"dropped"))
    """
    done = run_python(code, tmp_path / "x")
    assert done.stdout == "File too large 1000 7\n", done.stderr
    assert (tmp_path / "x").stat().st_size == 1000


def test_can_be_cut(tmp_path):
    file = output(tmp_path / "x")
    file.write(b"whole line\nhalf a l")
    file.cut(11)
    file.close()
    assert (tmp_path / "x").read_bytes() == b"whole line\n"


def test_first_write_that_finds_no_room_leaves_nothing_new(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    for place in (path, tmp_path / "y"):
        file = output(place)
        file.write(b"")
        file.close(is_whole=False)
    assert names(tmp_path) == ["x"]


def test_folder_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(SinkError, match="is a folder, expected a file"):
        output(tmp_path)


def test_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def refuse(descriptor, kind):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    file = output(tmp_path / "out.jsonl")
    file.write(b"x")
    file.close()
    assert (tmp_path / "out.jsonl").read_bytes() == b"x"
    assert "is on a file system without locks" in caplog.text
