"""Ordinary files are read whole, bounded, and never block."""

import os

import pytest

from dff_edge.errors import SourceError
from dff_edge.files.regular import read_regular, read_text


def test_bytes_of_a_file_and_of_a_link_to_it(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").symlink_to("a")

    assert (
        read_regular(tmp_path / "a", max_bytes=5, what="five bytes", error=SourceError) == b"12345"
    )
    assert (
        read_regular(tmp_path / "b", max_bytes=5, what="five bytes", error=SourceError) == b"12345"
    )


def test_names_that_are_no_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"d\xe4ta")
    path.write_bytes(b"x")

    assert read_regular(path, max_bytes=1, what="a byte", error=SourceError) == b"x"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read: No such file or directory; expected a list"),
        (lambda path: path.mkdir(), "is a folder, expected a list"),
        (os.mkfifo, "is a pipe, expected a list"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, expected a list"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b""), r"is empty \(0 bytes\)"),
        (lambda path: path.write_bytes(b"123456"), "has 6 bytes, expected 5 at most for a list"),
    ],
    ids=["missing", "folder", "pipe", "device", "circle", "empty", "large"],
)
def test_what_is_no_such_file_is_refused(tmp_path, make, message):
    make(tmp_path / "x")

    with pytest.raises(SourceError, match=message):
        read_regular(tmp_path / "x", max_bytes=5, what="a list", error=SourceError)


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    with pytest.raises(SourceError, match="null byte; expected a list"):
        read_regular(tmp_path / "a\0b", max_bytes=5, what="a list", error=SourceError)


def test_text_may_have_a_byte_order_mark(tmp_path):
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbf1\r\n2\r\n")

    assert read_text(tmp_path / "x", max_bytes=99, what="a list", error=SourceError).split() == [
        "1",
        "2",
    ]


def test_text_of_another_encoding_is_refused(tmp_path):
    (tmp_path / "x").write_bytes("1\n2\n".encode("utf-16"))

    with pytest.raises(SourceError, match=r"is no UTF-8 text \(invalid start byte at byte 0\)"):
        read_text(tmp_path / "x", max_bytes=99, what="a list", error=SourceError)
