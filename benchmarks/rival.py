"""A segmentation network of your own on every frame beside our bundles in INT8, in one run.

rival_fp32_miou, rival_fp32_ms   RIVAL, an ONNX graph, as it is
rival_int8_miou, rival_int8_ms   quantised on --calibration by ONNX Runtime's quantize_static
NAME_l1_miou, NAME_l1_ms         a bundle, every frame a key frame
NAME_l5_miou, NAME_l5_ms         a bundle, a key frame every --interval frames

mIoU in % is that of `dff-edge evaluate`, all of them on the same labelled frames: those with enough
frames before them for --interval. ms is the mean time of a frame from image to label map, one frame
in flight, all in ONNX Runtime on --threads threads of the CPU; the median of turns.

--mean and --std are in levels 0..255, in the order of the network's channels (--order):
(image - mean) / std is what it reads. --channels names the output of each class of the data, where
the outputs are not these classes. --operators are those that become INT8: try some, what is best
depends on the network.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from _common import interleaved_ms, parser, report
from _rival import Preparation, Rival, quantise, with_labels

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.shipped import find_bundle
from dff_edge.calibration import open_calibration_clips
from dff_edge.data.clips import check_for_model, open_clips
from dff_edge.data.datasets import LabelledClip
from dff_edge.data.hold_out import ClipPart
from dff_edge.errors import DffEdgeError
from dff_edge.evaluation.accuracy import Accuracy
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.evaluation.evaluate import Predictor, evaluate
from dff_edge.files.regular import read_regular
from dff_edge.frames import Frame, Image
from dff_edge.report.speed import load_images, whole_intervals
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import FixedInterval

MAX_BYTES = 2**31  # of an ONNX file without files beside it
CALIBRATION_FRAMES = 32  # as many as `dff-edge calibrate` takes key frames


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("rival", type=Path, help="ONNX graph of one picture to its scores")
    arguments.add_argument("models", nargs="+", help="bundles with INT8, or names of ours")
    arguments.add_argument("--source", required=True, help="labelled video to measure on")
    arguments.add_argument("--calibration", required=True, help="frames to quantise RIVAL on")
    arguments.add_argument("--mean", nargs=3, type=float, required=True)
    arguments.add_argument("--std", nargs=3, type=float, required=True)
    arguments.add_argument("--order", choices=("bgr", "rgb"), required=True)
    arguments.add_argument("--channels", type=numbers, default=(), help="such as 0,1,2")
    arguments.add_argument("--operators", type=names, help="such as Conv,Add; all without it")
    arguments.add_argument("--interval", type=int, default=5)
    arguments.add_argument("--frames", type=int, default=20, help="about so many in a turn")
    arguments.add_argument("--repetitions", type=int, default=7)
    options = arguments.parse_args()

    given = read_regular(options.rival, max_bytes=MAX_BYTES, what="an ONNX graph")
    clips = open_clips(options.source)
    bundles = {
        Path(name).stem: Bundle.open(find_bundle(name, holding=("int8",)))
        for name in options.models
    }
    for name, bundle in bundles.items():
        manifest = bundle.manifest
        check_for_model(clips, options.source, manifest.task, manifest.class_names, name)
    classes = next(iter(bundles.values())).manifest.class_names
    images = load_images(clips, whole_intervals(options.frames, options.interval))
    preparation = Preparation(options.mean, options.std, options.order)
    samples = calibration_images(options.calibration)
    size = images[0].shape[:2]
    labels = partial(with_labels, size=size, classes=classes, channels=options.channels)
    graphs = {
        "rival_fp32": labels(given),
        "rival_int8": labels(quantise(given, samples, preparation, options.operators)),
    }

    score = partial(accuracy, clips=clips, classes=classes, before=options.interval - 1)
    miou: dict[str, float] = {}
    jobs: dict[str, Callable[[], None]] = {}
    with ExitStack() as opened:
        for name, graph in graphs.items():
            rival = opened.enter_context(Rival(graph, preparation, options.threads))
            miou[name] = score(rival, interval=1).at_interval(1)
            jobs[name] = partial(answer_each, rival, images)
        for name, bundle in bundles.items():
            with BundlePredictor(bundle, "int8", options.threads) as predictor:
                measured = score(predictor, interval=options.interval)
            pipeline = opened.enter_context(
                Pipeline.open(bundle, precision="int8", threads=options.threads, depth=1)
            )
            for interval in (1, options.interval):
                miou[f"{name}_l{interval}"] = measured.at_interval(interval)
                jobs[f"{name}_l{interval}"] = partial(run, pipeline, images, interval)
        ms = interleaved_ms(jobs, repetitions=options.repetitions)
    figures = {}
    for name, value in miou.items():
        figures |= {f"{name}_miou": 100 * value, f"{name}_ms": ms[name] / len(images)}
    report(figures, {"source": options.source, "threads": options.threads}, options.json)


def names(text: str) -> tuple[str, ...]:
    """Return the names of a list such as ``Conv,Add``."""
    return tuple(text.split(","))


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as ``0,1,2``."""
    return tuple(map(int, text.split(",")))


def calibration_images(source: str) -> list[Image]:
    """Return frames of clips, evenly spread."""
    places = [(clip, i) for clip in open_calibration_clips(source) for i in range(len(clip))]
    step = max(len(places) // CALIBRATION_FRAMES, 1)
    return [clip.image(index) for clip, index in places[::step][:CALIBRATION_FRAMES]]


def accuracy(
    predictor: Predictor,
    clips: Sequence[LabelledClip],
    classes: Sequence[str],
    before: int,
    interval: int,
) -> Accuracy:
    """Return the accuracy up to a key interval on the frames that have ``before`` before them."""
    start = before - (interval - 1)
    parts = [ClipPart(clip, start, len(clip)) for clip in clips if len(clip) > before]
    return evaluate(predictor, parts, classes, interval)


def answer_each(rival: Rival, images: Sequence[Image]) -> None:
    for image in images:
        rival.extract(image)


def run(pipeline: Pipeline, images: Sequence[Image], interval: int) -> None:
    pipeline.policy = FixedInterval(interval)
    for _ in pipeline.run(Frame(image, i, i / 30) for i, image in enumerate(images)):
        pass


if __name__ == "__main__":
    try:
        main()
    except DffEdgeError as error:
        sys.exit(f"Error: {error}")
