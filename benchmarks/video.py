"""Writing browser-playable video: PyAV's x264, which the sink uses, against OpenCV's VP9.

video_write_speedup   frames per second of PyAV's H.264 sink / those of cv2.VideoWriter with VP9

At 1280x720, on synthetic street frames; OpenCV's bundled encoder has no H.264.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
from _common import interleaved_ms, parser, report

from dff_edge.frames import Frame, Result
from dff_edge.runtime.sinks import open_sink
from dff_edge.synthetic import CLASSES, COLOURS, StreetScene

SIZE = (720, 1280)
FRAMES = 30


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=3)
    options = arguments.parse_args()
    scene = StreetScene(seed=0, split="val", size=SIZE, length=FRAMES)
    rendered = [scene.render(index) for index in range(FRAMES)]
    results = [
        Result(Frame(image, index, index / 30), labels, 0, 0.0, {})
        for index, (image, labels) in enumerate(rendered)
    ]
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            "sink": lambda: write_sink(Path(folder) / "sink.mp4", results),
            "opencv": lambda: write_opencv(Path(folder) / "opencv.mp4", [r[0] for r in rendered]),
        }
        times = interleaved_ms(jobs, repetitions=options.repetitions, warmup=0)
    fps = {name: FRAMES / (value / 1e3) for name, value in times.items()}
    report(
        {"video_write_speedup": fps["sink"] / fps["opencv"]},
        {f"{name} fps": round(value, 1) for name, value in fps.items()},
        options.json,
    )


def write_sink(path: Path, results: list[Result]) -> None:
    """Draw the overlay and write H.264, as `dff-edge run -o out.mp4` does."""
    with open_sink(path, classes=CLASSES, colours=COLOURS, fps=30) as sink:
        for result in results:
            sink.write(result)


def write_opencv(path: Path, images: list[np.ndarray]) -> None:
    """Write VP9 with OpenCV, without any overlay."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"vp09"), 30, SIZE[::-1])
    for image in images:
        writer.write(image)
    writer.release()


if __name__ == "__main__":
    main()
