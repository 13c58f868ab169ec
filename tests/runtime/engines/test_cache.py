"""The engine cache: gives exactly what was stored under a key, and refuses what is not that."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from dff_edge.errors import EngineError
from dff_edge.files.staging import Workplace
from dff_edge.runtime.engines import cache as engine_cache
from dff_edge.runtime.engines.cache import (
    DamagedEngineError,
    EngineCache,
    EngineKey,
    difference,
)
from tests.bundle.killed_writers import CACHES, cut_off
from tests.runtime.engines.records import FIELDS
from tests.runtime.engines.records import engine_key as a_key
from tests.runtime.engines.records import engine_record as a_record

OTHER: dict[str, Any] = {
    "target": "cuda",
    "precision": "int8",
    "subnet": "flow",
    "graph_sha256": "3" * 64,
    "plugin_sha256": None,
    "runtime": "TensorRT 10.16.0",
    "device": "Thor (compute capability 11.0)",
    "flags": "",
}


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


def the_entry(cache: EngineCache) -> Path:
    (entry,) = cache.entries()
    return entry.path


def test_what_was_stored_is_loaded_with_its_record(cache):
    record = a_record(b"engine")
    cache.store(b"engine", record)

    found = EngineCache(cache.folder).load(a_key())

    assert found is not None
    assert (found.data, found.record) == (b"engine", record)


def test_nothing_is_loaded_that_was_not_stored(cache):
    assert cache.load(a_key()) is None


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_of_the_key_counts(cache, field):
    cache.store(b"engine", a_record(b"engine"))
    changed = a_key(**{field: OTHER[field]})

    assert changed.digest != a_key().digest
    assert cache.load(changed) is None


def test_fields_do_not_run_into_each_other():
    assert a_key(runtime="a", device="bc").digest != a_key(runtime="ab", device="c").digest


def test_the_digest_of_a_key_is_that_of_its_json_by_hand():
    text = (
        '{"device":"d","flags":"","graph_sha256":"' + "0" * 64 + '","plugin_sha256":null,'
        '"precision":"fp32","runtime":"r","subnet":"s","target":"t"}'
    )
    key = EngineKey(
        target="t", precision="fp32", subnet="s", graph_sha256="0" * 64, runtime="r", device="d"
    )

    assert key.digest == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("at", [0, 3, -1])
def test_a_flipped_bit_is_noticed(cache, at):
    cache.store(b"engine", a_record(b"engine"))
    engine = the_entry(cache) / "engine"
    data = bytearray(engine.read_bytes())
    data[at] ^= 1
    engine.write_bytes(data)

    with pytest.raises(DamagedEngineError, match="not those that were built.*dff-edge deploy"):
        cache.load(a_key())


def test_an_entry_under_the_key_of_another_is_noticed(cache):
    cache.store(b"engine", a_record(b"engine"))
    the_entry(cache).rename(the_entry(cache).parent / a_key(subnet="flow").digest)

    with pytest.raises(DamagedEngineError, match="of another engine"):
        cache.load(a_key(subnet="flow"))


@pytest.mark.parametrize("name", ["engine", "record.json"])
def test_half_an_entry_is_noticed(cache, name):
    cache.store(b"engine", a_record(b"engine"))
    (the_entry(cache) / name).unlink()

    with pytest.raises(DamagedEngineError, match="incomplete"):
        cache.load(a_key())


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"key": 1}'])
def test_a_record_that_does_not_read_is_noticed(cache, text):
    cache.store(b"engine", a_record(b"engine"))
    (the_entry(cache) / "record.json").write_text(text)

    with pytest.raises(DamagedEngineError, match="record does not read"):
        cache.load(a_key())


def test_a_link_is_not_followed(cache, tmp_path):
    cache.store(b"engine", a_record(b"engine"))
    engine = the_entry(cache) / "engine"
    engine.rename(tmp_path / "elsewhere")
    engine.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DamagedEngineError, match="cannot be read.*symbolic link"):
        cache.load(a_key())


def test_a_file_in_the_place_of_an_entry_is_noticed_and_pruned(cache):
    cache.path(a_key()).write_bytes(b"engine")

    with pytest.raises(DamagedEngineError, match="cannot be read"):
        cache.load(a_key())
    assert [entry.path for entry in cache.prune(lambda key: True)] == [cache.path(a_key())]
    assert not cache.path(a_key()).exists()


def test_a_reader_locks_without_writing(cache, monkeypatch):
    cache.store(b"engine", a_record(b"engine"))
    opened = []

    def read_only(path, flags, *mode, **how):
        opened.append(path)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, "Read-only file system")
        return os_open(path, flags, *mode, **how)

    os_open = os.open
    monkeypatch.setattr(engine_cache.os, "open", read_only)

    assert cache.load(a_key()) is not None
    assert cache.folder / "lock" in opened
    with pytest.raises(EngineError, match="cannot be locked: Read-only file system"):
        cache.prune(lambda key: False)


def test_what_is_built_while_pruning_waits_for_the_lock_is_kept(cache, monkeypatch):
    cache.store(b"engine", a_record(b"engine"))
    (the_entry(cache) / "record.json").write_text("")
    flock = engine_cache.fcntl.flock

    def built_again_before(file, kind):
        monkeypatch.setattr(engine_cache.fcntl, "flock", flock)
        cache.store(b"another", a_record(b"another"))
        flock(file, kind)

    monkeypatch.setattr(engine_cache.fcntl, "flock", built_again_before)

    assert cache.prune(lambda key: True) == []
    assert cache.load(a_key()) is not None


def test_storing_again_replaces_a_damaged_entry(cache):
    cache.store(b"engine", a_record(b"engine"))
    (the_entry(cache) / "engine").write_bytes(b"")
    cache.store(b"another", a_record(b"another"))

    found = cache.load(a_key())
    assert found is not None
    assert found.data == b"another"
    assert [path.name for path in (cache.folder / "engines").iterdir()] == [a_key().digest]


def test_an_engine_with_the_record_of_another_is_not_stored(cache):
    with pytest.raises(EngineError, match="sha256 is not that"):
        cache.store(b"engine", a_record(b"another"))
    assert cache.entries() == []


def test_many_that_store_and_load_at_once_see_whole_entries(cache):
    begin = threading.Barrier(8)
    failures: list[BaseException] = []
    cache.store(b"first", a_record(b"first"))

    def use(number: int) -> None:
        data = bytes([number]) * 100_000
        begin.wait()
        try:
            for _ in range(20):
                if number % 2:
                    EngineCache(cache.folder).store(data, a_record(data))
                else:
                    assert EngineCache(cache.folder).load(a_key()) is not None
        except BaseException as error:  # shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    found = cache.load(a_key())
    assert found is not None
    assert len(set(found.data)) == 1
    assert [path.name for path in (cache.folder / "engines").iterdir()] == [a_key().digest]


def test_a_build_that_cannot_be_written_leaves_the_entry_that_was_there(cache, monkeypatch):
    cache.store(b"engine", a_record(b"engine"))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine_cache.os, "fsync", full)
    with pytest.raises(EngineError, match="No space left"):
        cache.store(b"another", a_record(b"another"))
    monkeypatch.undo()

    found = cache.load(a_key())
    assert found is not None
    assert found.data == b"engine"
    assert len(list((cache.folder / "engines").iterdir())) == 1


def test_everything_is_for_this_user_alone(cache):
    old = os.umask(0)
    try:
        cache = EngineCache(cache.folder / "inner")
        cache.store(b"engine", a_record(b"engine"))
        cache.store_timing("TensorRT 10.3.0", "Orin", b"times")
    finally:
        os.umask(old)

    for path in [cache.folder, *cache.folder.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
@pytest.mark.parametrize("inner", ["", "engines", "timing"])
def test_a_folder_that_others_may_write_to_is_refused(cache, mode, inner):
    (cache.folder / inner).chmod(mode)

    with pytest.raises(EngineError, match=rf"mode {mode:o}: others may write.*DFF_EDGE_CACHE"):
        EngineCache(cache.folder)


def test_a_folder_of_another_user_is_refused(cache, monkeypatch):
    monkeypatch.setattr(engine_cache.os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(EngineError, match=r"belongs to user \d+, expected \d+"):
        EngineCache(cache.folder)


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "cache").write_text("")

    with pytest.raises(EngineError, match="cannot be made"):
        EngineCache(tmp_path / "cache")


def test_an_engine_for_something_else_is_named_with_the_difference(cache):
    old = a_record(b"old", a_key())
    cache.store(b"old", old)
    cache.store(b"flow", a_record(b"flow", a_key(subnet="flow")))
    here = a_key(runtime="TensorRT 10.16.0", device="Thor (compute capability 11.0)")

    assert cache.similar(here) == [old]
    assert cache.similar(a_key()) == []
    assert difference(here, old.key) == (
        "built with TensorRT 10.3.0; here is TensorRT 10.16.0, built for Orin (compute capability "
        "8.7); here is Thor (compute capability 11.0)"
    )


def test_the_newest_of_similar_engines_comes_first(cache):
    for day, device in enumerate(("A", "B", "C"), start=1):
        key = a_key(device=device)
        cache.store(b"x", a_record(b"x", key, built=f"2026-01-0{day}T00:00:00Z"))

    assert [record.key.device for record in cache.similar(a_key())] == ["C", "B", "A"]


def test_pruning_removes_what_is_not_kept_and_what_is_damaged(cache):
    for subnet in ("feature", "flow", "task"):
        cache.store(b"x", a_record(b"x", a_key(subnet=subnet)))
    (cache.path(a_key(subnet="task")) / "record.json").write_text("")

    removed = cache.prune(lambda key: key.subnet != "flow")

    assert {e.record.key.subnet if e.record else None for e in removed} == {"flow", None}
    assert [e.record.key.subnet for e in cache.entries() if e.record] == ["feature"]


def test_remains_of_killed_processes_are_removed_and_a_build_that_goes_on_is_left(cache):
    engines = cache.folder / "engines"
    (engines / ".new-old").mkdir()
    with Workplace(engines, ".new-") as young:
        cache.prune(lambda key: True)

        assert list(engines.iterdir()) == [young.path]
        (engines / ".new-other").mkdir()
        cache.store(b"engine", a_record(b"engine"))
        assert list(engines.glob(".*")) == [young.path]


def test_an_entry_whose_replacement_was_cut_off_is_there(cache):
    """Between the two renames the old one lies aside."""
    cache.store(b"old", a_record(b"old"))
    path = the_entry(cache)
    path.rename(path.with_name(f".old-{path.name}"))

    found = cache.load(a_key())
    assert found is not None
    assert found.data == b"old"
    assert cache.prune(lambda key: True) == []
    assert the_entry(cache) == path


@pytest.mark.parametrize("how", ["kill", "fail"])
@pytest.mark.parametrize("scenario", CACHES)
def test_a_store_cut_off_at_any_step_leaves_the_old_engine_or_the_new_one(scenario, how, tmp_path):
    whole, steps = cut_off(scenario, how, tmp_path)

    left = [step["left"] for step in steps]
    assert (whole["old"], whole["new"]) == ("old" if scenario == "another engine" else None, "new")
    assert set(left) == {whole["old"], "new"}
    if how == "kill":  # once it is there, it stays
        assert left == sorted(left, key=[whole["old"], "new"].index)
    for step in steps:
        assert (step["again"], step["names"]) == ("new", whole["names"]), step["event"]
        assert how == "kill" or not [n for n in step["held"] if "/.new-" in n], step["event"]


def test_measured_times_are_kept_for_each_version_and_device(cache):
    assert cache.timing("TensorRT 10.3.0", "Orin") == b""
    cache.store_timing("TensorRT 10.3.0", "Orin", b"old")
    cache.store_timing("TensorRT 10.3.0", "Orin", b"new")

    assert cache.timing("TensorRT 10.3.0", "Orin") == b"new"
    assert cache.timing("TensorRT 10.3.0", "Thor") == b""
    assert cache.timing("TensorRT 10.3.1", "Orin") == b""
