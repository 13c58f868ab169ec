"""Writers of bundles that are killed, or fail, each time one step later, in their own processes.

    python -m tests.bundle.killed_writers SCENARIO kill|fail FOLDER

A step is a call that changes the folder or makes a change durable: a file or folder made, renamed
or removed, an fsync. The process ends right before it, as by SIGKILL, and nothing is cleaned up; or
the call fails as on a full disk. Prints a JSON object for each step: what was there afterwards, and
what the same work left, done again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.writer import BundleWriter
from dff_edge.errors import BundleError, EngineError
from dff_edge.runtime.engines.cache import EngineCache
from tests.bundle.bundles import calibration_fields, make_bundle, make_graphs, manifest_fields
from tests.runtime.engines.records import engine_record

ENDED = 9
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")


graphs = cache(make_graphs)  # by the parent process, for all that it starts


def export(path: Path, seed: int = 0) -> Bundle:
    """Write a new bundle, or replace what is there."""
    with BundleWriter.create(path, replace=True) as writer:
        for subnet, data in graphs(seed=seed).items():
            writer.add_graph("fp32", subnet, data)
        writer.update(**manifest_fields())
        return writer.commit()


def calibrate(path: Path, seed: int = 5) -> Bundle:
    """Add int8 graphs, or replace them."""
    with BundleWriter.extend(path) as writer:
        for subnet, data in graphs(seed=seed, as_="int8").items():
            writer.add_graph("int8", subnet, data)
        writer.update(calibration={"ort": {"int8": calibration_fields()}})
        return writer.commit()


def record(path: Path) -> Bundle:
    """Change the manifest alone, as `benchmark --record` does."""
    with BundleWriter.extend(path) as writer:
        writer.update(default_key_interval=7)
        return writer.commit()


def nothing(path: Path) -> None:
    """Have no folder."""


# What was there before, and what is killed.
BUNDLES: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Bundle]]] = {
    "first export": (nothing, export),
    "first calibrate": (make_bundle, calibrate),
    "calibrate again": (lambda path: calibrate(make_bundle(path).path, 3), calibrate),
    "export over int8": (lambda path: calibrate(make_bundle(path).path), lambda p: export(p, 8)),
    "record": (make_bundle, record),
}


def store(path: Path, data: bytes = b"new") -> None:
    """Keep an engine."""
    EngineCache(path).store(data, engine_record(data))


# The same of engine caches.
CACHES: dict[str, tuple[Callable[[Path], Any], Callable[[Path], None]]] = {
    "first engine": (lambda path: EngineCache(path), store),
    "another engine": (lambda path: store(path, b"old"), store),
}
SCENARIOS = {**BUNDLES, **CACHES}


class Steps:
    """Counts the steps of this process, and does something in the place of the n-th.

    Args:
        number: of the step, from 0.
        then: what is done, with the name of the step.
    """

    def __init__(self, number: int, then: Callable[[str], None]) -> None:
        self._left = number
        self._then = then
        sys.addaudithook(self._hook)
        os.fsync = lambda descriptor: self._count("fsync")  # which has no event

    def stop(self) -> None:
        """Count no more."""
        self._left = -1

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        creates = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if event in _CHANGES or creates:
            self._count(event)

    def _count(self, event: str) -> None:
        self._left -= 1
        if self._left == -1:
            self._then(event)


def end(event: str) -> None:
    """Leave at once."""
    os.write(1, event.encode())
    os._exit(ENDED)


def fail(event: str) -> None:
    """Fail, once."""
    os.write(1, event.encode())
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(
    work: Callable[[Path], Any], path: Path, step: int, how: Callable[[str], None]
) -> str:
    """Do some work in a process of its own up to a step; name that, "" where there were fewer."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        steps = Steps(step, how)
        try:
            work(path)
        except (BundleError, EngineError):
            os._exit(0)
        steps.stop()
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        event = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, ENDED)
    return event


def state(path: Path) -> str | None:
    """The digest of the bundle in a folder, each of whose graphs is read; None for no bundle.

    Of an engine cache it is what its engine holds.
    """
    if (path / "engines").is_dir():
        found = EngineCache(path).load(engine_record(b"").key)
        return None if found is None else found.data.decode()
    if not any((path / name).exists() for name in ("manifest.json", ".commit/manifest.json")):
        return None
    try:
        bundle = Bundle.open(path)
        for precision in bundle.precisions:
            for graph in bundle.manifest.graph_paths()[precision]:
                bundle.graph_bytes(precision, graph)
    except BundleError as error:
        return f"refused: {error}"
    return bundle.digest


def names(path: Path) -> list[str]:
    """All files and folders, hidden ones too."""
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*"))


def cut_off(scenario: str, how: str, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run this file; give what it says of the whole, and of each step."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bundle.killed_writers", scenario, how, str(folder)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    whole, *steps = map(json.loads, done.stdout.splitlines())
    return whole, steps


def say(found: dict[str, Any]) -> None:
    """Print a line."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print what every step leaves."""
    os.fsync = lambda descriptor: None  # killed processes lose nothing of what was written
    before, work = SCENARIOS[sys.argv[1]]
    how = {"kill": end, "fail": fail}[sys.argv[2]]
    root = Path(sys.argv[3])
    template, whole = root / "template", root / "whole"
    before(template)
    for path in (whole, *(root / f"step{step}" for step in range(1000))):
        if template.is_dir():
            shutil.copytree(template, path)
        if path == whole:
            work(path)
            say({"old": state(template), "new": state(path), "names": names(whole)})
            continue
        event = interrupted(work, path, int(path.name.removeprefix("step")), how)
        if not event:
            return
        left, held = state(path), names(path) if path.is_dir() else []
        work(path)
        again = state(path)
        say({"event": event, "left": left, "held": held, "again": again, "names": names(path)})
        shutil.rmtree(path)


if __name__ == "__main__":
    main()
