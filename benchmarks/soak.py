"""Memory, threads and descriptors over ten thousand frames of one pipeline.

rss_growth_mb   growth of resident memory between frame 100 and the last frame, MB
"""

from __future__ import annotations

import gc
import itertools
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from _common import parser, report

from dff_edge.runtime.bundle import Bundle
from dff_edge.runtime.frames import Frame
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.synthetic import StreetScene

SETTLED_FRAME = 100


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--bundle", type=Path, help="default: the shipped model, exported")
    arguments.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "int8"])
    arguments.add_argument("--frames", type=int, default=10_000)
    arguments.add_argument("--interval", type=int, default=10)
    options = arguments.parse_args()
    if options.frames <= SETTLED_FRAME:
        arguments.error(f"--frames is {options.frames}, expected more than {SETTLED_FRAME}.")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Bundle.open(options.bundle) if options.bundle else export(Path(folder) / "bundle")
        policy = f"fixed:{options.interval}"
        threads_before = threading.active_count()
        with Pipeline.open(
            bundle, precision=options.precision, policy=policy, threads=options.threads
        ) as pipeline:
            measured = soak(pipeline, options.frames)
        measured["threads left after close"] = threading.active_count() - threads_before
    growth = measured["rss at the end MB"] - measured["rss at frame 100 MB"]
    report({"rss_growth_mb": growth}, measured, options.json)


def soak(pipeline: Pipeline, count: int) -> dict[str, float]:
    """Run ``count`` frames and read the process's state at frame 100 and at the end."""
    scene = StreetScene(seed=3, split="val", length=50)
    images = [scene.render(index)[0] for index in range(len(scene))]

    def frames() -> Iterator[Frame]:
        for index, image in zip(range(count), itertools.cycle(images), strict=False):
            yield Frame(image, index, index / 30)

    measured: dict[str, float] = {"frames": count}
    results = 0
    for result in pipeline.run(frames()):
        results += 1
        if result.frame.index == SETTLED_FRAME:
            measured |= state(f"at frame {SETTLED_FRAME}")
    measured |= state("at the end")
    measured["results"] = results
    return measured


def state(when: str) -> dict[str, float]:
    """Resident memory, threads and open descriptors of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        f"rss {when} MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        f"threads {when}": threading.active_count(),
        f"descriptors {when}": len(os.listdir("/proc/self/fd")),
    }


def export(folder: Path) -> Bundle:
    """The shipped model as an FP32 bundle."""
    from dff_edge.export import export_bundle
    from dff_edge.trainer.checkpoint import load_checkpoint

    return export_bundle(load_checkpoint("street"), folder)


if __name__ == "__main__":
    main()
