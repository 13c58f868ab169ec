"""Cost of four viewers of the page to a run: three that read all, one that reads nothing.

serve_full_speed_fps_ratio   fps with viewers / without, frames as fast as the pipeline takes them
serve_live_fps_ratio         the same at 30 frames a second
serve_live_age_ratio         median age of a result with viewers / without, at 30 frames a second
serve_cpu_percent            time of the server's thread at 30 frames a second, of one core

The viewers run on the same cores, as a process of their own, and take turns with their absence;
each ratio is the median over the pairs of turns.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from _common import export_shipped, parser, report

from dff_edge.bundle.reader import Bundle
from dff_edge.frames import Frame
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sinks import FanOut
from dff_edge.runtime.sources import Source, open_source
from dff_edge.serve import open_server
from dff_edge.serve.server import Server
from dff_edge.synthetic import StreetScene

READING, STALLED = 3, 1
LIVE = "synthetic://street?seed=3&rate=30&frames={frames}"

# In a process of its own: viewers share the machine with the run, not its interpreter.
VIEWERS = """
import selectors, socket, sys
selector = selectors.DefaultSelector()
kept = []
for number in range(int(sys.argv[2]) + int(sys.argv[3])):
    viewer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    viewer.sendall(b"GET /stream.mjpg HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    kept.append(viewer)
    if number < int(sys.argv[2]):
        selector.register(viewer, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        if not key.fileobj.recv(1 << 16):
            sys.exit()
"""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--bundle", type=Path, help="default: the shipped model, exported")
    arguments.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "int8"])
    arguments.add_argument("--seconds", type=float, default=6, help="of each turn")
    arguments.add_argument("--repetitions", type=int, default=3)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = (
            Bundle.open(options.bundle)
            if options.bundle
            else export_shipped(Path(folder) / "bundle")
        )
        with Pipeline.open(
            bundle, precision=options.precision, threads=options.threads
        ) as pipeline:
            turn = Turn(pipeline, options.seconds)
            pairs = {
                kind: [
                    (turn.run(kind, has_viewers=False), turn.run(kind, has_viewers=True))
                    for _ in range(options.repetitions)
                ]
                for kind in ("full speed", "live")
            }
    live = pairs["live"]
    figures = {
        "serve_full_speed_fps_ratio": median(w.fps / wo.fps for wo, w in pairs["full speed"]),
        "serve_live_fps_ratio": median(w.fps / wo.fps for wo, w in live),
        "serve_live_age_ratio": median(w.age_ms / wo.age_ms for wo, w in live),
        "serve_cpu_percent": median(100 * w.cpu for _, w in live),
    }
    background = {
        f"{kind}, {name} viewers": f"{median(m.fps for m in measured):.1f} fps"
        for kind in pairs
        for name, measured in zip(("without", "with"), zip(*pairs[kind], strict=True), strict=True)
    }
    report(figures, background, options.json)


@dataclass(frozen=True)
class Measured:
    """One turn: frames per second, median age of a result (0 for a file), CPU time of the server.

    The CPU time is the share of a core that the server's thread took.
    """

    fps: float
    age_ms: float
    cpu: float


class Turn:
    """Runs one pipeline for a while, with a server, with or without viewers."""

    def __init__(self, pipeline: Pipeline, seconds: float) -> None:
        self._pipeline = pipeline
        self._seconds = seconds
        scene = StreetScene(seed=3, split="val", length=50)
        self._images = [scene.render(index)[0] for index in range(len(scene))]

    def run(self, kind: str, *, has_viewers: bool) -> Measured:
        frames = round(30 * self._seconds)
        with open_source(LIVE.format(frames=frames)) as source, FanOut(live=True) as sinks:
            assert self._pipeline.bundle is not None
            classes = self._pipeline.bundle.manifest.classes
            with open_server(
                "0",
                sources=[source.uri],
                classes=[info.name for info in classes],
                colours=[info.colour for info in classes],
            ) as server:
                server.channels[0].begin(source, sinks)
                is_live = kind == "live"
                return self._watched(server, source if is_live else self._frames(), has_viewers)

    def _watched(
        self, server: Server, frames: Iterable[Frame] | Source, has_viewers: bool
    ) -> Measured:
        viewers = None
        if has_viewers:
            command = [sys.executable, "-c", VIEWERS, str(server.address.port)]
            viewers = subprocess.Popen([*command, str(READING), str(STALLED)])
            wait_for(lambda: viewer_count(server) == READING + STALLED)
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "dff-serve")
        clock = time.pthread_getcpuclockid(thread.ident or 0)
        start, start_cpu = time.perf_counter(), time.clock_gettime(clock)
        ages, count = [], 0
        for result in self._pipeline.run(frames):
            server.channels[0].show(result)
            count += 1
            ages.append(1e3 * (result.age_s or 0.0))
        seconds = time.perf_counter() - start
        cpu = (time.clock_gettime(clock) - start_cpu) / seconds
        if viewers is not None:
            assert viewers.poll() is None, "the viewers went away"
            viewers.kill()
            viewers.wait()
        return Measured(count / seconds, median(ages), cpu)

    def _frames(self) -> Iterator[Frame]:
        end_s = time.perf_counter() + self._seconds
        for index, image in enumerate(itertools.cycle(self._images)):
            if time.perf_counter() >= end_s:
                return
            yield Frame(image, index, index / 30)


def viewer_count(server: Server) -> int:
    with urllib.request.urlopen(f"{server.url}stats.json") as answer:
        return int(json.load(answer)["viewers"])


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.perf_counter() + 20
    while not condition():
        assert time.perf_counter() < end_s
        time.sleep(0.05)


if __name__ == "__main__":
    main()
