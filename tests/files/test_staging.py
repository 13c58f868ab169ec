"""Folders that are prepared aside: whose they are, and what is left of processes that are gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dff_edge.errors import SinkError
from dff_edge.files.staging import Workplace, locked, remove_abandoned, write_durably

ROOT = Path(__file__).parents[2]
_KILLED = """
import os, sys
from pathlib import Path
from dff_edge.errors import SinkError
from dff_edge.files.staging import Workplace
place = Workplace(Path(sys.argv[1]), ".new-")
(place.path / "half").write_bytes(b"x")
print(place.path, flush=True)
if sys.argv[2] == "dies":
    os._exit(9)
sys.stdin.read()
"""


def another_process(folder: Path, what: str) -> subprocess.Popen[str]:
    """Start one that makes a workplace, and then dies, or waits until its stdin is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(folder), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_a_workplace_is_there_until_it_is_closed(tmp_path):
    with Workplace(tmp_path, ".new-") as place:
        (place.path / "deep").mkdir()
        (place.path / "deep" / "file").write_text("x")
        assert list(tmp_path.iterdir()) == [place.path]
    place.close()

    assert list(tmp_path.iterdir()) == []


def test_a_workplace_that_was_put_in_place_stays(tmp_path):
    with Workplace(tmp_path, ".new-") as place:
        place.path.rename(tmp_path / "there")

    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


def test_what_a_process_that_is_gone_left_is_removed(tmp_path):
    with another_process(tmp_path, "dies") as process:
        left = Path(process.stdout.readline().strip())
    assert (left / "half").exists()

    remove_abandoned(tmp_path, ".new-")

    assert list(tmp_path.iterdir()) == []


def test_what_a_process_is_at_is_left(tmp_path):
    with another_process(tmp_path, "waits") as process:
        at_work = Path(process.stdout.readline().strip())
        remove_abandoned(tmp_path, ".new-")

        assert (at_work / "half").exists()
        process.stdin.close()
    remove_abandoned(tmp_path, ".new-")
    assert not at_work.exists()


def test_what_this_process_is_at_is_left(tmp_path):
    with Workplace(tmp_path, ".new-") as place:
        remove_abandoned(tmp_path, ".new-")

        assert place.path.is_dir()


def test_other_names_links_and_files_are_left(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / ".new-link").symlink_to(tmp_path / "kept")
    (tmp_path / ".new-file").write_text("x")

    remove_abandoned(tmp_path, ".new-")

    assert len(list(tmp_path.iterdir())) == 3


def test_nothing_to_remove_is_no_error(tmp_path):
    remove_abandoned(tmp_path / "nowhere", ".new-")


def test_a_folder_is_kept_from_others_for_a_while(tmp_path):
    with locked(tmp_path, 0.0):
        with pytest.raises(SinkError, match="is being written by this process already"):
            with locked(tmp_path, 0.0):
                pass
    with locked(tmp_path, 0.0):
        pass


def test_a_file_is_written_whole_and_never_over_another(tmp_path):
    write_durably(tmp_path / "a", b"whole")

    assert (tmp_path / "a").read_bytes() == b"whole"
    with pytest.raises(FileExistsError):
        write_durably(tmp_path / "a", b"other")
