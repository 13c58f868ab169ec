"""Several cameras in one process: memory of a further one, its ages, and how fair the shares are.

stream_memory_share     memory of the second camera / of the first
separate_memory_share   the same where the second one has a pipeline that shares nothing
stream_memory_mb, first_memory_mb   the memory of each
second_p99_ms, alone_p99_ms     99th percentile of the age of results, from capture: of the second
                        of several cameras, and of one by itself; _p50_ms are medians
second_answered_share, alone_answered_share     part of the camera's frames that was answered
second_p99_over_alone   the two 99th percentiles, of one round
fairness_answered       frames answered: the camera with the fewest / that with the most
fairness_keys           the same of key frames
key_distance_p50, alone_key_distance_p50    of results from their key frames, in frames

Memory is private memory (Private_ of /proc/self/smaps_rollup), each number in a process of its own
after some frames of each camera. Cameras are paced in the process at --rate and not in step; each
has a thread that submits and waits, as `dff-edge run` has it. Figures are medians of the rounds.

With --soak, in place of these, all cameras once, with --frames each (9000: five minutes at 30 Hz):

rss_growth_mb   growth of resident memory from a fifth of the time to the end, MB
age_drift       median age of the last quarter of the results / of the second one

--side-by-side has calls of the flow and task networks overlap, not take turns, to compare.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _common import parser, report, street_images

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.shipped import find_bundle
from dff_edge.frames import Frame
from dff_edge.names import Precision
from dff_edge.runtime.engines import shared
from dff_edge.runtime.engines.base import usable_cores
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.pipelines import Pipelines
from dff_edge.runtime.sources.memory import MemorySource
from dff_edge.runtime.sources.paced import PacedSource

SIZE = (480, 640)  # of the cameras' frames
MEMORY_FRAMES = 15
WARM_UP = 3  # results that are not counted
IMAGES = 30


def main() -> None:
    options = arguments().parse_args()
    if options.measure_memory is not None:
        print(json.dumps(memory_mb(options, options.measure_memory)))
        return
    if options.only == "memory":
        report(memory_figures(options), {"bundle": options.bundle}, options.json)
        return
    if options.side_by_side:
        overlap_calls()
    if options.soak:
        report(*soak(options), options.json)
        return
    with open_pipelines(options, options.streams, options.threads) as pipelines:
        rounds = [measure(pipelines, options) for _ in range(options.runs)]
        schedule = str(pipelines[0].schedule)
    figures = {} if options.only == "ages" else memory_figures(options)
    figures |= {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    background = {
        "bundle": options.bundle,
        "precision": options.precision,
        "keys": options.keys,
        "policy": options.policy or "the default",
        "cameras": f"{options.streams} at {options.rate:g} Hz, {options.frames} frames each",
        "calls of flow and task network": "side by side" if options.side_by_side else "in turn",
        "schedule": schedule,
        "load": os.getloadavg()[0],
    }
    report(figures, background, options.json)


def overlap_calls() -> None:
    """Have only the feature network take turns."""
    take_turns = shared.SharedEngine.run

    def run(self: Any, inputs: Any, outputs: Any) -> None:
        if "feature" in self.name:
            take_turns(self, inputs, outputs)
        else:
            self._shared.engine.run(inputs, outputs)

    shared.SharedEngine.run = run  # type: ignore[method-assign]


def arguments() -> argparse.ArgumentParser:
    arguments = parser(__doc__)
    arguments.set_defaults(threads=None)
    arguments.add_argument("--bundle", default="street", help="or a model, after `make bundles`")
    arguments.add_argument("--precision", default="int8", choices=["fp32", "fp16", "int8"])
    arguments.add_argument("--keys", default="background")
    arguments.add_argument("--policy", help="default: that of the keys")
    arguments.add_argument("--streams", type=int, default=2)
    arguments.add_argument("--rate", type=float, default=30)
    arguments.add_argument("--frames", type=int, default=600, help="of each camera")
    arguments.add_argument(
        "--runs", type=int, default=3, help="rounds, of one camera and of several"
    )
    arguments.add_argument("--side-by-side", action="store_true")
    arguments.add_argument("--soak", action="store_true")
    arguments.add_argument("--only", choices=["memory", "ages"], help="measure these alone")
    arguments.add_argument("--measure-memory", help=argparse.SUPPRESS)
    return arguments


def open_pipelines(options: argparse.Namespace, streams: int, threads: int | None) -> Pipelines:
    """Open pipelines as the options say."""
    precision: Precision = options.precision
    return Pipelines.open(
        Bundle.open(find_bundle(options.bundle, holding=(precision,))),
        streams,
        precision=precision,
        policy=options.policy,
        keys=options.keys,
        depth=1,
        threads=threads,
    )


def memory_figures(options: argparse.Namespace) -> dict[str, float]:
    """Measure memory, each time in a new process; the median of the rounds."""

    def median(how: str) -> float:
        command = [sys.executable, *sys.argv, "--measure-memory", how]
        told = [
            json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            for _ in range(options.runs)
        ]
        return statistics.median(told)

    none, one, two, apart = (median(how) for how in ("0", "1", "2", "apart"))
    return {
        "stream_memory_share": (two - one) / (one - none),
        "separate_memory_share": (apart - one) / (one - none),
        "stream_memory_mb": two - one,
        "first_memory_mb": one - none,
    }


def memory_mb(options: argparse.Namespace, how: str) -> float:
    """Private memory of this process after some frames of each camera."""
    images = street_images(SIZE, IMAGES)
    Bundle.open(find_bundle(options.bundle, holding=(options.precision,)))
    with contextlib.ExitStack() as stack:
        pipelines: list[Pipeline] = []
        for count in [1, 1] if how == "apart" else [int(how)] * (how != "0"):
            threads = options.threads or usable_cores()  # not measured, which needs memory too
            pipelines += stack.enter_context(open_pipelines(options, count, threads))
        for index in range(MEMORY_FRAMES):
            for pipeline in pipelines:
                pipeline.submit(images[index % IMAGES])
                pipeline.poll(block=True)
        told = Path("/proc/self/smaps_rollup").read_text()
    lines = [line.split() for line in told.splitlines() if line.startswith("Private_")]
    return sum(int(size) for _, size, _ in lines) / 1e3


@dataclass
class Played:
    """One camera's frames and their results.

    Attributes:
        ages_ms: from capture to result.
        distances: of results from their key frames, in frames.
        keys: numbers of the key frames that answered.
    """

    ages_ms: list[float] = field(default_factory=list)
    distances: list[int] = field(default_factory=list)
    keys: set[int] = field(default_factory=set)


def measure(pipelines: Sequence[Pipeline], options: argparse.Namespace) -> dict[str, float]:
    """Play the first camera by itself, then all at once."""
    (alone,) = play(pipelines[:1], options)
    together = play(pipelines, options)
    second = together[1]
    answered = [len(each.ages_ms) for each in together]
    keys = [len(each.keys) for each in together]
    p99_ms, alone_p99_ms = (float(np.percentile(each.ages_ms, 99)) for each in (second, alone))
    print(f"answered {answered}, key frames {keys}; alone {len(alone.ages_ms)}, {len(alone.keys)}")
    return {
        "second_p50_ms": float(np.median(second.ages_ms)),
        "alone_p50_ms": float(np.median(alone.ages_ms)),
        "second_p99_ms": p99_ms,
        "alone_p99_ms": alone_p99_ms,
        "second_p99_over_alone": p99_ms / alone_p99_ms,
        "second_answered_share": answered[1] / options.frames,
        "alone_answered_share": len(alone.ages_ms) / options.frames,
        "fairness_answered": min(answered) / max(answered),
        "fairness_keys": min(keys) / max(keys),
        "key_distance_p50": float(np.median(np.concatenate([p.distances for p in together]))),
        "alone_key_distance_p50": float(np.median(alone.distances)),
    }


def soak(options: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Play all cameras once, and look at the process's memory every second meanwhile."""
    over, rss_mb = threading.Event(), []

    def look() -> None:
        while not over.wait(1.0):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            rss_mb.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)

    before = threading.active_count()
    with open_pipelines(options, options.streams, options.threads) as pipelines:
        looking = threading.Thread(target=look)
        looking.start()
        played = play(pipelines, options)
        over.set()
        looking.join()
    ages_ms = [np.array_split(each.ages_ms, 4) for each in played]
    settled_mb = rss_mb[len(rss_mb) // 5]
    figures = {
        "rss_growth_mb": rss_mb[-1] - settled_mb,
        "age_drift": max(float(np.median(ages[3]) / np.median(ages[1])) for ages in ages_ms),
    }
    background = {
        "bundle": options.bundle,
        "cameras": f"{options.streams} at {options.rate:g} Hz, keys {options.keys}",
        "seconds": len(rss_mb),
        "frames answered": [len(each.ages_ms) for each in played],
        "key frames": [len(each.keys) for each in played],
        "age p50 ms": [round(float(np.median(each.ages_ms)), 1) for each in played],
        "rss MB, every fifth": [round(rss_mb[i * (len(rss_mb) - 1) // 5]) for i in range(6)],
        "threads left after close": threading.active_count() - before,
    }
    return figures, background


def play(pipelines: Sequence[Pipeline], options: argparse.Namespace) -> list[Played]:
    """Answer a camera with each pipeline, all at once; the cameras are not in step."""
    images = street_images(SIZE, IMAGES)
    played = [Played() for _ in pipelines]
    for pipeline in pipelines:
        pipeline.reset()
        for index in range(WARM_UP):  # a key frame that is done, and what the first frames allocate
            pipeline.submit(Frame(images[index], index, 0.0))
            pipeline.poll(block=True)
    begin_s = time.monotonic()

    def run(number: int) -> None:
        phase_s = number / len(pipelines) / options.rate
        time.sleep(max(0.0, begin_s + phase_s - time.monotonic()))
        pipeline, own = pipelines[number], played[number]
        with PacedSource(MemorySource(images, options.frames), options.rate) as camera:
            for frame in camera:
                own_index = frame.index + WARM_UP
                pipeline.submit(Frame(frame.image, own_index, frame.stamp_s, live=True))
                result = pipeline.poll(block=True)
                assert result is not None
                assert result.age_s is not None
                own.ages_ms.append(result.age_s * 1e3)
                own.distances.append(result.key_distance)
                own.keys.add(result.key_index)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(pipelines))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return played


if __name__ == "__main__":
    main()
