"""AP of a detector on labelled video by distance, for small objects too, bootstrapped over clips.

vid      mAP@0.5 as `dff-edge evaluate` measures it: small objects need an IoU of less than 0.5
iou50    mAP at an IoU of 0.5 for all objects, as COCO's AP50
small    the same of objects below 32 x 32 px; larger ones are ignored, and what is found elsewhere
         counts only if it is as small (COCO)

Each at every distance from the key frame and as "DFF at l"; of every --every-th frame of a clip,
all pairs (k, i) that end there. The 95% interval is of 1000 draws of clips with replacement. MODEL
is a bundle (--precision), or a checkpoint (--flow dis-medium). --copy-features answers each frame
with what the key frame's features say.

cpu_ms   tenth percentile of the CPU time of a key frame's features, its answer, and another frame
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import parser
from numpy.typing import NDArray

from dff_edge.boxes import Detections, TrueBoxes, areas, iou_matrix
from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.shipped import MODELS
from dff_edge.data.clips import check_class_names, open_clips
from dff_edge.data.datasets.truth import true_boxes
from dff_edge.detection_matching import match_greedily
from dff_edge.evaluation.accuracy import mean_of_classes
from dff_edge.evaluation.box_accuracy import Matches, average_precision, match
from dff_edge.evaluation.bundle_predictor import BundlePredictor

SMALL_PX = 32**2
DRAWS = 1000


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("model", help="a bundle, or a checkpoint's folder or name")
    arguments.add_argument("--source", required=True, help="labelled video")
    arguments.add_argument("--every", type=int, default=1, help="frames from one end to the next")
    arguments.add_argument("--max-interval", type=int, default=10)
    arguments.add_argument("--precision", default="fp32")
    arguments.add_argument("--copy-features", action="store_true")
    arguments.add_argument("--flow", default="network")
    options = arguments.parse_args()
    predictor, classes, task = open_model(options)
    assert task == "detection", f"{options.model} is for {task}"
    clips = open_clips(options.source)
    check_class_names(options.source, "detection", classes, options.model)
    times: dict[str, list[float]] = {"features": [], "answer": [], "other": []}
    found: dict[str, list[list[Matches]]] = {name: [] for name in RULES}  # by clip and distance
    with predictor if hasattr(predictor, "__enter__") else nullcontext():
        for clip in clips:
            answers = answers_of(predictor, clip, len(classes), options, times)
            for name, rule in RULES.items():
                matched = [
                    Matches.join(
                        (rule(answer, truth, len(classes)) for truth, answer in pairs), len(classes)
                    )
                    for pairs in answers
                ]
                found[name].append(matched)
            print(f"{clip.name}: {len(answers[0])} frames", file=sys.stderr)
    figures = {
        name: summary(by_clip, classes, options.max_interval) for name, by_clip in found.items()
    }
    for name, figure in figures.items():
        print(name, "at distance", *(f"{100 * value:.1f}" for value in figure["at_distance"]))
        for interval, (value, low, high) in figure["at_interval"].items():
            print(
                f"{name} at l = {interval}: {100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"
            )
        print(name, "key frames by class", figure["classes"])
    cpu_ms = {name: round(float(np.percentile(taken, 10)), 1) for name, taken in times.items()}
    print("cpu_ms", cpu_ms)
    if options.json:
        content = {"arguments": sys.argv[1:], "cpu_ms": cpu_ms, **figures}
        options.json.write_text(json.dumps(content, indent=1))


def open_model(options: Any) -> tuple[Any, tuple[str, ...], str]:
    """Return the predictor of a bundle or a checkpoint, its classes and its task."""
    if (Path(options.model) / "manifest.json").is_file():
        bundle = Bundle.open(options.model)
        predictor = BundlePredictor(bundle, options.precision, options.threads)
        return predictor, bundle.manifest.class_names, bundle.manifest.task
    import torch

    from dff_edge.trainer.checkpoint import load_checkpoint
    from dff_edge.trainer.predictor import TorchPredictor

    torch.set_num_threads(options.threads)
    is_shipped = (MODELS / options.model).is_dir()
    checkpoint = load_checkpoint(options.model if is_shipped else Path(options.model))
    size = checkpoint.config.frame_size
    predictor = TorchPredictor(checkpoint.model, size, flow=options.flow)
    return predictor, checkpoint.config.task.classes, checkpoint.config.task.name


def answers_of(
    predictor: Any, clip: Any, class_count: int, options: Any, times: dict[str, list[float]]
) -> list[list[tuple[TrueBoxes, Detections]]]:
    """Return true boxes and detections of each frame that counts, by distance."""
    before = options.max_interval - 1
    answers: list[list[tuple[TrueBoxes, Detections]]] = [[] for _ in range(before + 1)]

    @lru_cache(maxsize=before + 1)
    def extract(index: int) -> Any:
        image = clip.image(index)
        return timed(times["features"], lambda: predictor.extract(image))

    for i in range(before, len(clip)):
        if (i - before) % options.every or not clip.is_labelled(i):
            continue
        keys = [extract(i - distance) for distance in reversed(range(before + 1))][::-1]
        image = clip.image(i)
        fitted = true_boxes(clip, i, image.shape[:2], class_count)
        assert fitted is not None
        for distance, key in enumerate(keys):
            moves = distance and not options.copy_features
            predict = partial(predictor.predict, key, image if moves else None)
            answer = timed(times["other" if distance else "answer"], predict)
            answers[distance].append((fitted.boxes, answer))
    return answers


def timed(times: list[float], job: Callable[[], Any]) -> Any:
    """Return the result of a job; its CPU time in ms is appended."""
    start = time.process_time()
    result = job()
    times.append(1e3 * (time.process_time() - start))
    return result


def match_at(
    least_iou: float, most_px: float, found: Detections, truth: TrueBoxes, class_count: int
) -> Matches:
    """Match by COCO's rules: objects beyond a size are ignored, and so is what is found of them."""
    order = np.argsort(-found.scores, kind="stable")
    boxes, labels = found.boxes[order], found.labels[order]
    overlaps = iou_matrix(boxes, truth.boxes)
    may = (labels[:, None] == truth.labels[None]) & (overlaps >= least_iou)
    is_ignored = truth.ignored | (areas(truth.boxes) >= most_px)
    right = match_greedily(overlaps, may & ~is_ignored[None]) >= 0
    is_left_out = ~right & ((may & is_ignored[None]).any(axis=1) | (areas(boxes) >= most_px))
    counts = np.bincount(truth.labels[~is_ignored], minlength=class_count).astype(np.int64)
    kept = ~is_left_out
    return Matches(found.scores[order][kept], labels[kept], right[kept], counts)


RULES: dict[str, Callable[[Detections, TrueBoxes, int], Matches]] = {
    "vid": match,
    "iou50": partial(match_at, 0.5, np.inf),
    "small": partial(match_at, 0.5, SMALL_PX),
}


def precisions(parts: list[Matches], class_count: int) -> NDArray[np.float64]:
    """Return the AP of each class over some frames, NaN where it has no object."""
    joined = Matches.join(parts, class_count)
    order = np.argsort(-joined.scores, kind="stable")
    labels, right = joined.labels[order], joined.right[order]
    return np.array(
        [average_precision(right[labels == k], int(joined.truths[k])) for k in range(class_count)]
    )


def summary(
    by_clip: list[list[Matches]], classes: tuple[str, ...], max_interval: int
) -> dict[str, Any]:
    """Return mAP at each distance, and at intervals with its 95% interval over clips."""
    count = len(classes)
    rng = np.random.default_rng(0)
    draws = rng.integers(len(by_clip), size=(DRAWS, len(by_clip)))

    def mean_ap(distances: range, clips: Any) -> float:
        parts = [by_clip[clip][distance] for distance in distances for clip in clips]
        return mean_of_classes(precisions(parts, count))

    everyone = range(len(by_clip))
    intervals = {}
    for interval in sorted({1, min(5, max_interval), max_interval}):
        drawn = [mean_ap(range(interval), draw) for draw in draws]
        low, high = np.nanpercentile(drawn, (2.5, 97.5))
        intervals[interval] = (mean_ap(range(interval), everyone), float(low), float(high))
    key_frames = precisions([of_clip[0] for of_clip in by_clip], count)
    return {
        "at_distance": [mean_ap(range(d, d + 1), everyone) for d in range(max_interval)],
        "at_interval": intervals,
        "classes": {
            name: round(float(ap), 3) for name, ap in zip(classes, key_frames, strict=True)
        },
    }


if __name__ == "__main__":
    main()
