"""Resizing as the pipeline does it against averaging over areas all the way (cv2.INTER_AREA).

resize_speedup         INTER_AREA time / our time, from 1080p to half of 256 x 512, drawn street
resize_mean_difference, resize_max_difference   between the two, in levels of 255
"""

from __future__ import annotations

import cv2
import numpy as np
from _common import interleaved_ms, parser, report

from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.synthetic import StreetScene

SOURCE_SIZE, FRAME_SIZE = (1080, 1920), (256, 512)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=25)
    options = arguments.parse_args()
    scene = StreetScene(seed=0, split="val", size=SOURCE_SIZE, length=1)
    image = np.ascontiguousarray(scene.render(0)[0])
    resizer = FrameResizer(FRAME_SIZE)
    height, width = resizer.half_size
    half = np.empty((1, height, width, 3), np.uint8)
    area = np.empty((height, width, 3), np.uint8)

    def average() -> None:
        cv2.resize(image, (width, height), dst=area, interpolation=cv2.INTER_AREA)

    jobs = {"ours": lambda: resizer.half(image, half), "INTER_AREA": average}
    times = interleaved_ms(jobs, repetitions=options.repetitions)
    difference = np.abs(half[0].astype(int) - area)
    report(
        {
            "resize_speedup": times["INTER_AREA"] / times["ours"],
            "resize_mean_difference": float(difference.mean()),
            "resize_max_difference": float(difference.max()),
        },
        {
            "threads of OpenCV": cv2.getNumThreads(),
            **{f"{name}, ms": round(value, 2) for name, value in times.items()},
        },
        options.json,
    )


if __name__ == "__main__":
    main()
