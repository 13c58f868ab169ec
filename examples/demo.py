"""From a checkpoint to a device in a few minutes: the script behind `make demo`.

Runs the commands that a user would type on the model that comes with dff-edge, prints them,
and leaves in the output folder:

    bundle/         the model, exported and calibrated, ready to be copied to a device
    report.html     the results, with plots and pictures
    report.json     the same numbers
    annotated.mp4   INT8 results drawn over a video, yours if --source names one

    python examples/demo.py [--source my.mp4] [--output demo]
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

from dff_edge.bundle.reader import Bundle
from dff_edge.data.clips import open_clips
from dff_edge.errors import DffEdgeError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.frames import Image
from dff_edge.report.page import Run, Strip, render_page
from dff_edge.report.pictures import draw_pictures
from dff_edge.report.results import Benchmark
from dff_edge.runtime.drawing.style import Style
from dff_edge.runtime.sources import open_source

# Nothing is calibrated on the split that results are reported on.
CALIBRATION = "synthetic://street?split=val&clips=8&frames=20"
TEST = "synthetic://street?split=test&clips=4&frames=20"
# A street of that split that shows all classes.
HELD_OUT = "synthetic://street?split=test&seed=108&frames=150"
PICTURES = "synthetic://street?split=test&seed=108&clips=1&frames=40"

INTERVALS = (1, 5, 10)
RUN_INTERVAL = 10
MAX_FRAMES = 600  # of a user's video
PICTURE_START = 30
DISTANCES = (0, 1, 4, 9)
MAX_EMBEDDED_BYTES = 8_000_000

LIMITS = (
    "The shipped model was trained on synthetic street scenes, and the accuracy is that on unseen "
    "scenes of the same kind. It shows the cost of key intervals and INT8, not the accuracy on "
    "streets of the real world: train on your own data for that.",
    "Everything ran on a CPU. The larger the feature network is beside the flow network, the more "
    "a key interval saves; this feature network is small.",
)

NOT_TRAINED_FOR = (
    "The shipped model knows synthetic streets only; its results on other pictures show that the "
    "pipeline runs and how results follow the motion, not the quality of a model trained for them."
)


def main() -> None:
    """Run all steps, and print where the results are."""
    options = parse_options()
    output: Path = options.output
    start = time.monotonic()
    dff_edge = find_command()
    bundle = output / "bundle"
    numbers, run_numbers = output / "benchmark.json", output / "run.json"
    video = output / "annotated.mp4"
    prepare(output)

    source = options.source or HELD_OUT
    frames = [] if options.source is None else ["--frames", str(MAX_FRAMES)]
    intervals = ",".join(str(interval) for interval in INTERVALS)
    steps = {
        "Export the checkpoint as a bundle of ONNX graphs": [
            *("export", options.model, "-o", str(bundle), "--interval", str(RUN_INTERVAL)),
        ],
        "Calibrate: add INT8 and FP16": ["calibrate", str(bundle), "--source", CALIBRATION],
        "Compare precisions and key intervals": [
            *("benchmark", str(bundle), "--source", TEST, "--intervals", intervals),
            *("--json", str(numbers), "--record"),
        ],
        "Run INT8 on " + ("your video" if options.source else "a video that it has not seen"): [
            *("run", str(bundle), source, "-o", str(video), "--precision", "int8"),
            *("--interval", str(RUN_INTERVAL), *frames, "--json", str(run_numbers)),
        ],
    }
    commands = []
    for number, (title, arguments) in enumerate(steps.items(), start=1):
        commands.append(shlex.join(["dff-edge", *arguments]))
        print(f"\n[{number}/{len(steps) + 1}] {title}\n$ {commands[-1]}", flush=True)
        run_step([dff_edge, *arguments])

    print(f"\n[{len(steps) + 1}/{len(steps) + 1}] Write the report", flush=True)
    write_report(output, options.source, commands)
    print(f"\n{headline(numbers)}")
    numbers.unlink()
    run_numbers.unlink()
    print(f"Done in {time.monotonic() - start:.0f} s:")
    for name, what in (
        ("report.html", "open it in a browser"),
        ("report.json", "the same numbers"),
        ("annotated.mp4", f"INT8, a key frame every {RUN_INTERVAL} frames"),
        ("bundle", "the folder for a device: dff-edge run BUNDLE SOURCE"),
    ):
        print(f"  {output / name}  ({what})")


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--source", help="a video of your own: a file, a folder of images, a camera"
    )
    parser.add_argument("--output", type=Path, default=Path("demo"), help="default: demo")
    parser.add_argument("--model", default="street", help="a checkpoint; default: street, shipped")
    return parser.parse_args()


def find_command() -> str:
    """Return the dff-edge of the Python that runs this."""
    command = Path(sys.executable).with_name("dff-edge")
    if not command.exists():
        sys.exit(f"There is no {command}: install dff-edge for {sys.executable}, or run make demo.")
    return str(command)


def prepare(output: Path) -> None:
    """Create the folder; remove an earlier demo's files, but for the bundle: export replaces it."""
    output.mkdir(parents=True, exist_ok=True)
    for name in ("report.html", "report.json", "annotated.mp4", "benchmark.json", "run.json"):
        (output / name).unlink(missing_ok=True)


def run_step(command: list[str]) -> None:
    """Run one command; end the demo where it fails, after the command's own message."""
    start = time.monotonic()
    code = subprocess.run(command).returncode
    if code:
        sys.exit(code if code > 0 else 1)
    print(f"({time.monotonic() - start:.0f} s)", flush=True)


def write_report(output: Path, source: str | None, commands: list[str]) -> None:
    """Write report.html and report.json from the files of the commands."""
    benchmark = Benchmark.from_json((output / "benchmark.json").read_text(encoding="utf-8"))
    statistics: dict[str, Any] = json.loads((output / "run.json").read_text(encoding="utf-8"))
    video = output / "annotated.mp4"
    is_small = video.stat().st_size <= MAX_EMBEDDED_BYTES
    page = render_page(
        benchmark,
        title="Video segmentation with dff-edge",
        strips=draw_strips(Bundle.open(output / "bundle"), source),
        run=Run(
            source=source or HELD_OUT,
            configuration=f"INT8 with a key frame every {RUN_INTERVAL} frames",
            statistics=statistics,
            output=video.name,
            video=video.read_bytes() if is_small else None,
        ),
        commands=commands,
        limits=LIMITS,
    )
    (output / "report.html").write_text(page, encoding="utf-8")
    report = {
        "commands": commands,
        "benchmark": benchmark.model_dump(mode="json"),
        "run": {"source": source or HELD_OUT, **statistics},
    }
    text = json.dumps(report, indent=2, allow_nan=False)
    (output / "report.json").write_text(text + "\n", encoding="utf-8")


def headline(numbers: Path) -> str:
    """Return the benchmark's headline in a sentence."""
    benchmark = Benchmark.from_json(numbers.read_text(encoding="utf-8"))
    shown = benchmark.headline
    what = f"{shown.precision.upper()} with a key frame every {shown.interval} frames"
    if benchmark.doubt is not None:
        return f"{what} against FP32 on every frame: {benchmark.doubt}."
    return f"{what}: {shown.speedup.median:.1f} times as fast as FP32 on every frame."


def draw_strips(bundle: Bundle, source: str | None) -> list[Strip]:
    """Draw a key frame and frames predicted from it: of a synthetic street, and of a video."""
    classes, task = bundle.manifest.classes, bundle.manifest.task
    names, colours = [info.name for info in classes], [info.colour for info in classes]
    min_score = Style().of_bundle(bundle.manifest).min_score
    strips = []
    with BundlePredictor(bundle, "int8") as predictor:
        if source is not None:
            images = read_images(source, max(DISTANCES) + 1)
            no_truth = [None] * len(images)
            pictures = draw_pictures(
                predictor,
                images,
                no_truth,
                colours,
                DISTANCES,
                task=task,
                names=names,
                min_score=min_score,
            )
            strips.append(Strip(f"INT8 on {source}", pictures, NOT_TRAINED_FOR))
        clip = open_clips(PICTURES)[0]
        shown = range(PICTURE_START, PICTURE_START + max(DISTANCES) + 1)
        pictures = draw_pictures(
            predictor,
            [clip.image(index) for index in shown],
            [clip.labels(index) for index in shown],
            colours,
            DISTANCES,
            task=task,
            names=names,
            min_score=min_score,
        )
        strips.append(Strip("INT8 on a synthetic street that the model has not seen", pictures))
    return strips


def read_images(source: str, count: int) -> list[Image]:
    """Return the first images of a video, up to one of another size."""
    with open_source(source) as opened:
        images = [frame.image for frame in islice(opened, count)]
    return [image for image in images if image.shape == images[0].shape]


if __name__ == "__main__":
    try:
        main()
    except DffEdgeError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
