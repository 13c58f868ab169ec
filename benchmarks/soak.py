"""Memory, threads and descriptors over ten thousand frames of one pipeline.

rss_growth_mb   growth of resident memory between frame 100 and the last frame, MB

With --reconnects N, in place of it, over a camera on the loopback that is lost and comes back N
times, without a pipeline:

rss_growth_mb   growth of resident memory between loss 50 and loss N, MB
threads_before, threads_after, descriptors_before, descriptors_after
                of the process, before the camera is opened and after it is closed
"""

from __future__ import annotations

import gc
import itertools
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from _common import export_shipped, parser, report
from _mjpeg_server import MjpegProcess

from dff_edge.bundle.reader import Bundle
from dff_edge.frames import Frame
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sources import LiveSource, open_source
from dff_edge.runtime.sources.camera import CameraSource, Patience
from dff_edge.runtime.sources.network.connection import connect_stream
from dff_edge.synthetic import StreetScene
from dff_edge.uri import parse_source

SETTLED_FRAME = 100
SETTLED_LOSS = 50


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--bundle", type=Path, help="default: the shipped model, exported")
    arguments.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "int8"])
    arguments.add_argument("--frames", type=int, default=10_000)
    arguments.add_argument("--interval", type=int, default=10)
    arguments.add_argument("--reconnects", type=int, metavar="N", help="lose a camera N times")
    options = arguments.parse_args()
    if options.reconnects is not None:
        if options.reconnects <= SETTLED_LOSS:
            arguments.error(f"--reconnects is {options.reconnects}, expected over {SETTLED_LOSS}.")
        report(*lose(options.reconnects), options.json)
        return
    if options.frames <= SETTLED_FRAME:
        arguments.error(f"--frames is {options.frames}, expected more than {SETTLED_FRAME}.")
    with tempfile.TemporaryDirectory() as folder:
        bundle = (
            Bundle.open(options.bundle)
            if options.bundle
            else export_shipped(Path(folder) / "bundle")
        )
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


def lose(count: int) -> tuple[dict[str, float], dict[str, float]]:
    """Cut a camera's connection ``count`` times, each time when its frames come again."""
    logging.getLogger("dff_edge.runtime").setLevel(logging.ERROR)  # else two lines a loss
    with MjpegProcess(rate=100, size=(480, 640)) as server:
        uri = parse_source(server.address)
        open_source(server.address).close()  # what is loaded once is loaded
        before = state("before")
        measured: dict[str, float] = {}
        start_s = time.monotonic()
        # A camera that is lost again at once is tried with growing pauses, here with short ones.
        patience = Patience(max_retry_s=0.2)
        with CameraSource(lambda: connect_stream(uri), uri.text, patience=patience) as source:
            for loss in range(count):
                come_back(source, loss)
                if loss == SETTLED_LOSS:
                    measured |= state(f"at loss {SETTLED_LOSS}")
                server.drop_clients()
            come_back(source, count)
            measured |= state("at the end")
        after = state("after")
    figures = {
        "rss_growth_mb": measured["rss at the end MB"] - measured[f"rss at loss {SETTLED_LOSS} MB"],
        **{
            f"{what}_{when}": numbers[f"{what} {when}"]
            for what in ("threads", "descriptors")
            for when, numbers in (("before", before), ("after", after))
        },
    }
    measured["seconds a reconnect"] = round((time.monotonic() - start_s) / count, 3)
    measured["reconnects"] = source.counts.reconnects
    return figures, measured


def come_back(source: LiveSource, times: int) -> None:
    """Take frames until the source has come back so often."""
    end_s = time.monotonic() + 30
    while source.read(timeout_s=1) is None or source.counts.reconnects < times:
        if time.monotonic() > end_s:
            raise SystemExit(f"the camera did not come back; it is {source.state}")


def state(when: str) -> dict[str, float]:
    """Resident memory, threads and open descriptors of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        f"rss {when} MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        f"threads {when}": threading.active_count(),
        f"descriptors {when}": len(os.listdir("/proc/self/fd")),
    }


if __name__ == "__main__":
    main()
