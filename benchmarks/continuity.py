"""Detection of unrelated pictures among frames of one video (data/datasets/continuity.py).

Measured is the share of a frame that optical flow carries to another one and back. Drawn streets,
noise, and streets that are dark and full of noise need no data; `--source` adds clips: a video, a
folder of frames, labelled data.

related_least    the least share of pairs that must count as related, 1 or 3 frames of a street
unrelated_most   the largest of pairs that must not: other streets, noise
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from _common import parser, report

from dff_edge.calibration import Clip, open_calibration_clips
from dff_edge.data.datasets.continuity import MIN_CARRIED, carried_share
from dff_edge.frames import Image
from dff_edge.synthetic import StreetScene

SIZE, PAIRS = (256, 512), 12
DISTANCES = (1, 2, 5, 10, 30)

Pair = tuple[Image, Image]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--source", action="append", default=[], help="clips; may be repeated")
    options = arguments.parse_args()
    streets = [StreetScene(seed, "val", SIZE, 40) for seed in range(2 * PAIRS)]
    first = [scene.render(0)[0] for scene in streets]
    grain = [noise(seed) for seed in range(2 * PAIRS)]
    related = {
        f"a street, {step} frames apart": shares(
            (scene.render(0)[0], scene.render(step)[0]) for scene in streets[:PAIRS]
        )
        for step in (1, 3)
    }
    related["a street in the dark"] = shares(
        (dark(scene.render(0)[0], 1), dark(scene.render(1)[0], 2)) for scene in streets[:PAIRS]
    )
    unrelated = {
        "two streets": shares(zip(first[::2], first[1::2], strict=True)),
        "noise": shares(zip(grain[::2], grain[1::2], strict=True)),
        "a street and noise": shares(zip(first, grain, strict=True)),
    }
    others = {
        f"{source}, {name}": shares(pairs)
        for source in options.source
        for name, pairs in pairs_of(open_calibration_clips(source))
    }
    report(
        {
            "related_least": min(min(found) for found in related.values()),
            "unrelated_most": max(max(found) for found in unrelated.values()),
        },
        {
            "related from": MIN_CARRIED,
            **{
                f"{name} (least, median, largest)": np.percentile(found, (0, 50, 100))
                .round(2)
                .tolist()
                for name, found in {**related, **unrelated, **others}.items()
            },
        },
        options.json,
    )


def shares(pairs: Iterable[Pair]) -> list[float]:
    return [carried_share(first, second) for first, second in pairs]


def pairs_of(clips: Sequence[Clip]) -> Iterator[tuple[str, Iterable[Pair]]]:
    """Pairs of a source at each distance that it has, and of frames that have nothing in common."""
    for distance in DISTANCES:
        places = [(clip, n) for clip in clips for n in range(len(clip) - distance)]
        if places:
            yield (
                f"{distance} frames apart",
                [(clip.image(n), clip.image(n + distance)) for clip, n in spread(places)],
            )
    if len(clips) > 1:
        middles = [clip.image(len(clip) // 2) for clip in spread(clips)]
        yield "other clips", zip(middles, middles[1:] + middles[:1], strict=True)


def spread(items: Sequence[object]) -> list:
    """Some of them, evenly spread."""
    numbers = np.linspace(0, len(items) - 1, min(PAIRS, len(items))).round().astype(int)
    return [items[number] for number in numbers]


def noise(seed: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def dark(image: Image, seed: int) -> Image:
    """Sixteen levels of a frame, and noise of four."""
    grain = np.random.default_rng(seed).normal(0, 4, image.shape)
    return np.clip(image * 0.06 + grain, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
