"""Each command verifies each file of a bundle once: a large one takes seconds a time."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from dff_edge.bundle.graphs import check
from dff_edge.bundle.reader import Bundle
from dff_edge.cli import main

CLIPS = "synthetic://street?split=val&clips=3&frames=9"
FEW = ("--source", "synthetic://street?split=val&clips=1&frames=3", "--json", "-")
QUICK = ("--intervals", "1,2", "--frames", "2", "--repetitions", "1", "--threads", "1", "--record")


@contextmanager
def verified() -> Iterator[Counter[str]]:
    """Names of the graphs that are read and checked inside, and how often."""
    names: Counter[str] = Counter()
    check_stream = check.check_stream

    def counted(stream, name, **how):
        names[name] += 1
        return check_stream(stream, name, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "check_stream", counted)
        yield names


def run(*arguments: object) -> Counter[str]:
    with verified() as names:
        done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return names


@pytest.fixture(scope="module")
def exported(checkpoint_path, tmp_path_factory):
    """The folder of a new bundle, and what was verified while it was made."""
    folder = tmp_path_factory.mktemp("verified") / "bundle"
    return folder, run("export", checkpoint_path, "-o", folder, "--interval", 3)


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported[0], tmp_path / "bundle")


def test_export_verifies_each_graph_once(exported):
    folder, names = exported

    # Of the graphs that serve both flavours, either name.
    assert set(names.values()) == {1}
    assert names.keys() >= Bundle.open(folder).manifest.files.keys()


def test_calibration_verifies_the_bundle_and_each_new_graph_once(copy):
    names = run("calibrate", copy, "--source", CLIPS, "--precision", "fp16")

    assert names == dict.fromkeys(Bundle.open(copy).manifest.files, 1)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("inspect", ()),
        ("run", ("synthetic://street?frames=2", "--json", "-")),
        ("evaluate", ("--max-interval", "2", *FEW)),
        ("benchmark", (*QUICK, *FEW)),
        ("deploy", ("--target", "cpu", "--json", "-")),
    ],
)
def test_what_uses_a_bundle_verifies_it_once(copy, tmp_path, monkeypatch, command, options):
    monkeypatch.setenv("DFF_EDGE_CACHE", str(tmp_path))

    names = run(command, copy, *options)

    assert names == dict.fromkeys(Bundle.open(copy).manifest.files, 1)
