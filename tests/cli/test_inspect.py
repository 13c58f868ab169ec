"""Output of `dff-edge inspect`, for bundles of strangers too."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from dff_edge.cli import main
from tests.bundle.bundles import make_bundle

EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[1;31mroad\u202e"


def inspect(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["inspect", *arguments])
    return done.exit_code, done.output


def is_plain(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "b").path


def test_graphs_are_told_with_their_operators(folder):
    code, output = inspect(str(folder))

    assert code == 0
    assert "classes: class0, class1, class2" in output
    assert "fp32 propagate" in output
    assert "GridSample:1" in output


@pytest.mark.parametrize(
    "place",
    [
        ("classes", 0, "name"),
        ("provenance", "training_data"),
        ("provenance", "command"),
        ("provenance", "created"),
        ("provenance", "config"),
        ("provenance", "versions", "onnx"),
    ],
    ids=str,
)
def test_a_manifest_that_would_move_the_cursor_is_refused(folder, place):
    fields = json.loads((folder / "manifest.json").read_text())
    inner = fields
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = EVIL
    (folder / "manifest.json").write_text(json.dumps(fields))

    code, output = inspect(str(folder))

    assert code == 1
    assert "expected text without control characters, which a terminal would obey" in output
    assert is_plain(output)


def test_names_of_keys_and_files_are_written_out(folder):
    fields = json.loads((folder / "manifest.json").read_text())
    fields[EVIL] = 1
    fields["files"][EVIL] = {"sha256": "a" * 64, "bytes": 1}
    fields["provenance"]["versions"][EVIL] = "1"
    (folder / "manifest.json").write_text(json.dumps(fields))
    code, output = inspect(str(folder))
    assert code == 1
    assert is_plain(output)


def test_the_name_of_a_stray_file_is_written_out(folder):
    (folder / f"{EVIL}.onnx").write_bytes(b"x")

    code, output = inspect(str(folder))

    assert code == 1
    assert "\\x1b]0;owned" in output
    assert is_plain(output)


def test_the_path_that_was_given_is_written_out(tmp_path):
    path = tmp_path / EVIL
    path.mkdir()

    code, output = inspect(str(path))

    assert code == 1
    assert is_plain(output)


def test_a_path_that_is_no_text_is_told(tmp_path):
    path = os.fsencode(tmp_path) + b"/d\xe4ta"
    os.mkdir(path)

    code, output = inspect(os.fsdecode(path))

    assert code == 1
    assert "d\\udce4ta holds no manifest.json" in output
