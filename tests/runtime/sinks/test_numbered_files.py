"""Files by frame index in a folder that is one run's."""

import os

import cv2
import numpy as np
import pytest

from dff_edge.errors import SinkError
from dff_edge.runtime.sinks.numbered_files import NumberedFiles
from tests.processes import process_that


def files_in(folder, name="%06d.png", **options):
    return NumberedFiles(folder / name, f"labels://{folder}", **options)


def names(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("%06d.png", ["000000.png", "000012.png", "1234567.png"]),
        ("a-%d.jpg", ["a-0.jpg", "a-12.jpg", "a-1234567.jpg"]),
        ("50%%-%03d.png", ["50%-000.png", "50%-012.png", "50%-1234567.png"]),
    ],
)
def test_names_are_those_of_the_pattern(tmp_path, pattern, expected):
    files = files_in(tmp_path, pattern)
    for index in (0, 12, 1234567):
        files.write(index, b"x")
    files.close()
    assert names(tmp_path) == sorted(expected)
    with pytest.raises(SinkError, match="holds files of another run"):
        files_in(tmp_path, pattern)


def test_folder_of_another_run_is_refused_with_what_can_be_done(tmp_path):
    for index in range(5):
        (tmp_path / f"{index:06d}.png").touch()
    with pytest.raises(SinkError) as caught:
        files_in(tmp_path)
    assert "(000000.png, 000001.png, 000002.png and 2 more)" in str(caught.value)
    assert f"remove them: 'labels://{tmp_path}?replace=yes'" in str(caught.value)


def test_files_of_another_run_are_removed_when_the_first_one_is_written(tmp_path):
    for name in ("000000.png", "000099.png", "12.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"old")
    files = files_in(tmp_path, replace=True)
    assert len(names(tmp_path)) == 4
    files.write(7, b"new")
    files.close()
    assert names(tmp_path) == ["000007.png", "12.png", "notes.txt"]


def test_run_without_results_leaves_the_folder_as_it_was(tmp_path):
    files_in(tmp_path / "new").close()
    assert names(tmp_path) == []
    (tmp_path / "000000.png").touch()
    files_in(tmp_path, replace=True).close()
    assert names(tmp_path) == ["000000.png"]


def test_folder_is_for_one_run_at_a_time(tmp_path):
    code = """
        import sys
        from pathlib import Path
        from dff_edge.runtime.sinks.numbered_files import NumberedFiles
        files = NumberedFiles(Path(sys.argv[1]) / "%06d.png", "x")
        print("ready", flush=True)
        sys.stdin.read()
    """
    with process_that(code, tmp_path) as other:
        with pytest.raises(SinkError, match=f"is being written by process {other.pid} "):
            files_in(tmp_path)
    files_in(tmp_path).close()


def test_files_appear_whole(tmp_path, monkeypatch):
    seen, replace = [], os.replace

    def look(source, target):
        seen.append((sorted(os.listdir(tmp_path)), os.path.getsize(source)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    files = files_in(tmp_path)
    files.write(3, b"whole")
    files.close()
    assert seen == [([".000003.png.new"], 5)]
    assert names(tmp_path) == ["000003.png"]


def test_source_folder_is_not_written_into(tmp_path):
    cv2.imwrite(str(tmp_path / "000000.png"), np.zeros((4, 5, 3), np.uint8))
    for source in (tmp_path, str(tmp_path), f"{tmp_path}/*.png"):
        with pytest.raises(SinkError, match="is the source itself"):
            files_in(tmp_path, source=source)


def test_missing_parent_is_refused_with_advice(tmp_path):
    with pytest.raises(SinkError, match=r"no folder '.*/gone'.*mkdir -p '.*/gone/out'"):
        files_in(tmp_path / "gone" / "out")


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(SinkError, match="is a file, expected a folder"):
        files_in(tmp_path / "out")


def test_folder_of_a_source_image_is_not_written_into(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "picture.png"), np.zeros((4, 5, 3), np.uint8))
    pictures = (tmp_path / "b" / "picture.png", f"{tmp_path}/*/*.png", f"{tmp_path}/**/*.png")
    for source in pictures:
        with pytest.raises(SinkError, match="is the source itself"):
            files_in(tmp_path / "b", source=source)
    files_in(tmp_path / "a", source=pictures[0]).close()
