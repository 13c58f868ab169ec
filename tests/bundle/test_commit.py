"""Commits that are cut off, and readers beside them: there is the old bundle or the new one."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dff_edge.bundle import commit as bundle_commit
from dff_edge.bundle.commit import finish
from dff_edge.bundle.reader import Bundle
from dff_edge.errors import BundleError, BundleReplacedError
from dff_edge.runtime import assembly
from dff_edge.runtime.pipeline import Pipeline
from tests.bundle.bundles import make_bundle
from tests.bundle.killed_writers import BUNDLES, calibrate, cut_off, export, state

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("scenario", BUNDLES)
def test_a_writer_killed_at_any_step_leaves_the_old_bundle_or_the_new_one(scenario, tmp_path):
    whole, steps = cut_off(scenario, "kill", tmp_path)

    assert {step["event"] for step in steps} >= {"os.mkdir", "os.rename", "open", "fsync"}
    left = [step["left"] for step in steps]
    assert set(left) == {whole["old"], whole["new"]}
    # Once it is there, it stays.
    assert left == sorted(left, key=[whole["old"], whole["new"]].index)
    for step in steps:
        assert (step["again"], step["names"]) == (whole["new"], whole["names"]), step["event"]


@pytest.mark.parametrize("scenario", ["first export", "calibrate again"])
def test_a_writer_that_fails_at_any_step_leaves_the_old_bundle_or_the_new_one(scenario, tmp_path):
    whole, steps = cut_off(scenario, "fail", tmp_path)

    assert {step["left"] for step in steps} == {whole["old"], whole["new"]}
    for step in steps:
        assert (step["again"], step["names"]) == (whole["new"], whole["names"]), step["event"]
        assert not [name for name in step["held"] if name.startswith(".staging")], step["event"]


class Calls:
    """Records what is made durable, and what is renamed, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[str, str]] = []
        for name in ("rename", "replace"):
            monkeypatch.setattr(os, name, self._renaming(getattr(os, name)))
        fsync = os.fsync

        def recorded(descriptor: int) -> None:
            self.made.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", recorded)

    def _renaming(self, rename: Any) -> Any:
        def recorded(source: Any, target: Any) -> None:
            self.made.append(("rename", str(target)))
            rename(source, target)

        return recorded


def test_everything_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    """A power loss: what was not synced may be there or not."""
    path = make_bundle(tmp_path / "b").path
    calls = Calls(monkeypatch)
    calibrate(path)
    published = calls.made.index(("rename", str(path / ".commit")))
    before = {Path(name).name for kind, name in calls.made[:published] if kind == "sync"}
    staged = {"feature.onnx", "flow.onnx", "task.onnx", "propagate.onnx", "int8"}
    assert before >= {*staged, "manifest.json", "replaced.json"}
    # The new names, before any of them is used; the moved files before the manifest that lists
    # them; all of it before the last that could finish it is removed.
    assert calls.made[published + 1] == ("sync", str(path))
    last = calls.made.index(("rename", str(path / "manifest.json")))
    moved = [number for number, (kind, _) in enumerate(calls.made) if kind == "rename"]
    synced = calls.made[moved[-2] : last]
    assert ("sync", str(path / "int8")) in synced
    assert calls.made[last + 1] == ("sync", str(path))


# ---- between the rename that counts and the last file in its place


@pytest.fixture
def half_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose int8 graphs are committed, of whose files one is in its place."""
    path = make_bundle(tmp_path / "b").path
    moved = 0

    def replace(source: Any, target: Any) -> None:
        nonlocal moved
        if moved == 1:
            raise OSError(5, "Input/output error")
        moved += 1
        real_replace(source, target)

    real_replace = os.replace
    monkeypatch.setattr(bundle_commit.os, "replace", replace)
    calibrate(path)
    monkeypatch.undo()
    assert (path / ".commit/manifest.json").exists()
    return path


def test_a_bundle_that_cannot_be_finished_is_there_with_a_warning(tmp_path, monkeypatch, caplog):
    path = make_bundle(tmp_path / "b").path

    def fail(*arguments: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(bundle_commit.os, "replace", fail)
    bundle = calibrate(path)

    assert bundle.precisions == ("fp32", "int8")
    assert (
        "is written, but not all of its files are in their places ([Errno 5] Input" in caplog.text
    )


def test_it_needs_no_right_to_write(half_moved, monkeypatch):
    real_open = os.open

    def read_only(*arguments: Any, **how: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    def opened(path: Any, flags: int, *rest: Any, **how: Any) -> int:
        return real_open(path, flags, *rest, **how) if flags & 3 == os.O_RDONLY else read_only()

    for name in ("rename", "replace", "mkdir", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, read_only)
    monkeypatch.setattr(os, "open", opened)

    bundle = Bundle.open(half_moved)

    assert bundle.precisions == ("fp32", "int8")
    assert bundle.graph_bytes("int8", "task")


def test_it_can_be_copied(half_moved, tmp_path):
    shutil.copytree(half_moved, tmp_path / "copy")

    assert Bundle.open(tmp_path / "copy").digest == Bundle.open(half_moved).digest


def test_finishing_is_done_once(half_moved):
    digest = Bundle.open(half_moved).digest
    for _ in range(2):
        finish(half_moved)
        assert Bundle.open(half_moved).digest == digest
        assert not (half_moved / ".commit").exists()


def test_a_link_in_the_place_of_a_commit_is_refused(half_moved, tmp_path):
    (half_moved / ".commit").rename(tmp_path / "elsewhere")
    (half_moved / ".commit").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(BundleError, match="'.commit' is a link|digest|is missing"):
        Bundle.open(half_moved)


@pytest.mark.parametrize("name", [".commit/weights.bin", ".commit/int8/x", "weights.bin"])
def test_what_is_not_of_the_commit_is_refused(half_moved, name):
    (half_moved / name).write_bytes(b"x")

    with pytest.raises(BundleError, match=f"the file '{name}' is not listed"):
        Bundle.open(half_moved)


def test_a_damaged_commit_is_told_and_not_the_old_bundle_in_its_place(half_moved):
    graph = next((half_moved / ".commit/int8").iterdir())
    graph.write_bytes(b"x" * graph.stat().st_size)

    with pytest.raises(BundleError, match=f"'int8/{graph.name}' has the digest"):
        Bundle.open(half_moved)


# ---- readers beside a writer


class BeforeOpening:
    """Does something before the n-th time that a file is opened for reading."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, then: Any) -> None:
        self.left = number
        real_open = os.open

        def counted(path: Any, flags: int, *rest: Any, **how: Any) -> int:
            self.left -= 1
            if self.left == -1:
                then()
            return real_open(path, flags, *rest, **how)

        monkeypatch.setattr(os, "open", counted)


@pytest.mark.parametrize("number", range(14))
def test_a_reader_sees_one_bundle_wherever_a_commit_falls(number, tmp_path, monkeypatch):
    path = make_bundle(tmp_path / "b").path
    old = state(path)
    opening = BeforeOpening(monkeypatch, number, lambda: export(path, seed=4))

    bundle = Bundle.open(path)

    monkeypatch.undo()
    was_between = opening.left < 0
    assert state(path) != old or not was_between
    assert bundle.digest in ((old, state(path)) if was_between else (old,))
    assert was_between == (number < 11)  # there are no more openings


def test_what_was_opened_before_a_commit_is_told_to_be_replaced(tmp_path):
    bundle = make_bundle(tmp_path / "b")
    export(bundle.path, seed=4)

    with pytest.raises(
        BundleReplacedError, match="was replaced since it was opened; open it again"
    ):
        bundle.graph_bytes("fp32", "flow")


def test_what_reads_graphs_is_done_again_with_the_new_bundle(tmp_path):
    path = make_bundle(tmp_path / "b").path
    seen = []

    def use(bundle: Bundle) -> bytes:
        seen.append(bundle.digest)
        if len(seen) == 1:
            export(path, seed=4)
        return bundle.graph_bytes("fp32", "flow")

    assert Bundle.use(path, use) == Bundle.open(path).graph_bytes("fp32", "flow")
    assert len(set(seen)) == 2


def test_a_pipeline_opens_beside_a_writer(tmp_path, monkeypatch):
    """The bundle is replaced after it was verified, and before its graphs are loaded."""
    path = make_bundle(tmp_path / "b").path
    real_open, digests = assembly.open_subnets, []

    def replaced_once(bundle: Bundle, *rest: Any, **how: Any) -> Any:
        digests.append(bundle.digest)
        if len(digests) == 1:
            export(path, seed=4)
        return real_open(bundle, *rest, **how)

    monkeypatch.setattr(assembly, "open_subnets", replaced_once)
    with Pipeline.open(path) as opened:
        assert opened.bundle == Bundle.open(path)
    assert len(set(digests)) == 2


_READER = """
import sys
from dff_edge.bundle.reader import Bundle
from dff_edge.errors import BundleReplacedError
seen = set()
print("ready", flush=True)
while len(seen) < 3:
    try:
        bundle = Bundle.open(sys.argv[1])
        for graph in ("feature", "flow", "task", "propagate"):
            bundle.graph_bytes("fp32", graph)
    except BundleReplacedError:
        continue
    seen.add(bundle.digest)
print(*sorted(seen))
"""


def test_readers_beside_a_writer_see_whole_bundles(tmp_path):
    path = make_bundle(tmp_path / "b", seed=0).path
    command = [sys.executable, "-c", _READER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        written = set()
        for turn in range(2000):
            written.add(export(path, seed=turn % 5).digest)
            if reader.poll() is not None:
                break
        seen = reader.stdout.read().split()
    assert reader.returncode == 0
    assert len(seen) == 3
    assert set(seen) <= written | {make_bundle(tmp_path / "first", seed=0).digest}
