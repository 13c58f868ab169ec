"""Fuzzing of bundles: damaged and random ones are opened, and run where they open.

    python -m tests.bundle.hostile_bundles FOLDER --seconds 60 [--seed 0] [--real BUNDLE ...]

damages the small bundles of the tests, and real ones, and makes graphs of allowed operators, all at
random. Prints the number of each outcome, then every crash, hang or unexpected error, whose bundle
stays in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dff_edge.bundle.graphs.check import check_graph, read_graph_bytes
from dff_edge.bundle.manifest import Manifest
from dff_edge.bundle.reader import Bundle, roles_of
from dff_edge.errors import BundleError, DffEdgeError
from dff_edge.runtime.pipeline import Pipeline
from tests.bundle.damaged_bundles import (
    damage_bytes,
    damage_graph,
    damage_manifest,
    replace_file,
)
from tests.bundle.random_graphs import task_by_chance

OPEN_S, RUN_S = 20.0, 120.0  # on a machine that does other things besides; both take much less
MAX_MEMORY_BYTES = 3 << 30


def attempt(folder: Path) -> str:
    """Open a bundle and run two frames; return "refused", "failed" or "ran".

    Raises:
        Exception: any error that is not a ``DffEdgeError``.
    """
    try:
        bundle = Bundle.open(folder)
    except DffEdgeError:
        return "refused"
    images = np.random.default_rng(0).integers(
        0, 256, (2, *bundle.manifest.frame_size, 3), np.uint8
    )
    for precision in bundle.precisions:
        try:
            with Pipeline.open(
                bundle, precision=precision, policy="fixed:2", threads=1
            ) as pipeline:
                for _ in pipeline.run(list(images)):
                    pass
        except DffEdgeError:
            return "failed"
    return "ran"


def worker(inbox: Any, outbox: Any) -> None:
    """Attempt the bundles of a queue, without core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (folder := inbox.get()) is not None:
        try:
            outbox.put(attempt(Path(folder)))
        except BaseException as error:
            outbox.put(f"{type(error).__name__}: {error}")


class Runner:
    """Attempts bundles in a process that may die."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._inbox, self._outbox = context.Queue(), context.Queue()
        self._process = context.Process(
            target=worker, args=(self._inbox, self._outbox), daemon=True
        )
        self._process.start()

    def attempt(self, folder: Path) -> tuple[str, float]:
        """Return a bundle's outcome and its seconds: as ``attempt``, an error, "died" or "hung"."""
        started = time.monotonic()
        self._inbox.put(str(folder))
        while True:
            try:
                found = self._outbox.get(timeout=0.2)
                break
            except Exception:  # empty
                if not self._process.is_alive():
                    found = f"died: {self._process.exitcode}"
                elif time.monotonic() - started > OPEN_S + RUN_S:
                    found = "hung"
                    self._process.kill()
                else:
                    continue
                self._process.join()
                self._start()
                break
        return str(found), time.monotonic() - started

    @property
    def peak_bytes(self) -> int:
        """The largest resident memory of the process."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
        return 0

    def close(self) -> None:
        """End the process."""
        self._inbox.put(None)
        self._process.join()


Change = Callable[[Path, random.Random], None]


def changes(path: Path) -> Iterator[tuple[str, Change]]:
    """Yield changes of a valid bundle, by name."""
    graphs = sorted(json.loads((path / "manifest.json").read_text())["files"])
    is_segmentation = Bundle.open(path).manifest.task == "segmentation"

    def bytes_of_graph(folder: Path, rng: random.Random) -> None:
        name = rng.choice(graphs)
        replace_file(folder, name, damage_bytes((folder / name).read_bytes(), rng))

    def graph(folder: Path, rng: random.Random) -> None:
        name = rng.choice(graphs)
        replace_file(folder, name, damage_graph((folder / name).read_bytes(), rng))

    def bytes_of_manifest(folder: Path, rng: random.Random) -> None:
        data = damage_bytes((folder / "manifest.json").read_bytes(), rng)
        (folder / "manifest.json").write_bytes(data)

    def manifest(folder: Path, rng: random.Random) -> None:
        text = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(damage_manifest(text, rng))

    def by_chance(folder: Path, rng: random.Random) -> None:
        replace_file(folder, "task.onnx", task_by_chance(Bundle.open(folder), rng))

    yield "bytes of a graph", bytes_of_graph
    yield "a graph", graph
    yield "bytes of the manifest", bytes_of_manifest
    yield "the manifest", manifest
    if is_segmentation:
        yield "a graph by chance", by_chance


def is_clean(outcome: str, seconds: float) -> bool:
    """Return whether an outcome is a clean one, in time."""
    return outcome in ("refused", "failed", "ran") and seconds < RUN_S


def fuzz_checks(
    bundles: list[Path], seconds: float, seed: int, rounds: int = 10**9
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Change graphs and manifests at random, in memory, and only check them.

    Returns:
        As ``fuzz``; problems with their seeds and errors.
    """
    counts: Counter[tuple[str, str]] = Counter()
    problems: list[str] = []
    places = [
        (manifest, role, name, (path / name).read_bytes())
        for path in bundles
        for manifest in [Bundle.open(path).manifest]
        for name, roles in roles_of(manifest).items()
        for role in roles
    ]
    texts = [(path / "manifest.json").read_text() for path in bundles]
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until and number < rounds:
        rng = random.Random(f"{seed} {number}")
        kind = rng.choice(["bytes of a graph", "a graph", "a manifest", "bytes of a manifest"])
        started = time.monotonic()
        try:
            if kind.endswith("graph"):
                manifest, (flavour, precision, graph), name, data = rng.choice(places)
                change = damage_graph if kind == "a graph" else damage_bytes
                checked = read_graph_bytes(change(data, rng), name, [(flavour, graph)])
                check_graph(manifest, precision, graph, name, checked, flavour)
            elif kind == "a manifest":
                Manifest.parse(damage_manifest(rng.choice(texts), rng).encode())
            else:
                Manifest.parse(damage_bytes(rng.choice(texts).encode(), rng))
            outcome = "passed"
        except BundleError:
            outcome = "refused"
        except Exception as error:
            outcome = "unclean"
            problems.append(f"{kind}, seed '{seed} {number}': {type(error).__name__}: {error}")
        took_s = time.monotonic() - started
        if took_s > OPEN_S:
            problems.append(f"{kind}, seed '{seed} {number}': {took_s:.1f} s")
        counts[kind, outcome] += 1
        number += 1
    return counts, problems


def fuzz(
    bundles: list[Path], folder: Path, seconds: float, seed: int
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Change bundles at random for a while, open them and run what opens.

    Returns:
        Counts by change and outcome; and a line for each problem, with its folder.
    """
    counts: Counter[tuple[str, str]] = Counter()
    problems: list[str] = []
    runner, until, number = Runner(), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        rng = random.Random(f"{seed} {number}")
        sound = rng.choice(bundles)
        what, change = rng.choice(list(changes(sound)))
        path = Path(shutil.copytree(sound, folder / f"{seed}_{number}"))
        change(path, rng)
        outcome, took_s = runner.attempt(path)
        counts[what, outcome if outcome in ("refused", "failed", "ran") else "unclean"] += 1
        if not is_clean(outcome, took_s) or runner.peak_bytes > MAX_MEMORY_BYTES:
            peak = runner.peak_bytes / 1e6
            problems.append(f"{what}: {outcome} after {took_s:.1f} s, {peak:.0f} MB, {path}")
            runner.close()
            runner = Runner()
        else:
            shutil.rmtree(path)
        number += 1
    runner.close()
    return counts, problems


def main() -> None:
    """Fuzz for a while."""
    parser = argparse.ArgumentParser(description="Damage bundles, open and run them.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="check only, in memory")
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    from tests.bundle.bundles import make_bundle
    from tests.bundle.detection_bundles import make_detection_bundle

    options.folder.mkdir(parents=True)
    small = make_bundle(options.folder / "small", precisions=("fp32", "int8")).path
    detector = make_detection_bundle(options.folder / "detector").path
    bundles = [small, detector, *options.real]
    if options.check:
        counts, problems = fuzz_checks(bundles, options.seconds, options.seed)
    else:
        counts, problems = fuzz(bundles, options.folder, options.seconds, options.seed)
    lines = [f"{what}: {outcome} {count}" for (what, outcome), count in sorted(counts.items())]
    sys.stdout.write("\n".join([*lines, *problems, ""]))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
