"""Bundles in turns on the same video: time of key frames and others, one in flight.

The tenth percentile of all turns is reported beside the median: other programs on the machine make
single frames late, and change it little.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _common import parser, report

from dff_edge.frames import Frame
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sources import open_source


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("bundles", nargs="+", type=Path)
    arguments.add_argument("--source", required=True, help="a video or a folder of images")
    arguments.add_argument("--precision", default="int8")
    arguments.add_argument("--interval", type=int, default=5)
    arguments.add_argument("--frames", type=int, default=40)
    arguments.add_argument("--turns", type=int, default=6)
    options = arguments.parse_args()
    with open_source(options.source) as source:
        images = [frame.image for frame, _ in zip(source, range(options.frames), strict=False)]
    frames = [Frame(image, index, index / 30) for index, image in enumerate(images)]
    times: dict[tuple[Path, bool], list[float]] = {}
    for _ in range(options.turns):
        for bundle in options.bundles:
            with Pipeline.open(
                bundle,
                precision=options.precision,
                policy=f"fixed:{options.interval}",
                threads=options.threads,
                depth=1,
            ) as pipeline:
                for result in pipeline.run(frames):
                    kind = (bundle, result.distance == 0)
                    times.setdefault(kind, []).append(1e3 * result.latency_s)
    figures = {}
    for bundle in options.bundles:
        for name, share in (("p10", 0.1), ("p50", 0.5)):
            key, other = (float(np.quantile(times[bundle, is_key], share)) for is_key in (1, 0))
            mean = (key + (options.interval - 1) * other) / options.interval
            figures[f"{bundle.name}, {name} ms"] = (
                f"key frames {key:.2f}, others {other:.2f}, mean at l = {options.interval}: "
                f"{mean:.2f}"
            )
    report({}, figures, options.json)


if __name__ == "__main__":
    main()
