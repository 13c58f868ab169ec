"""Fine-tuning as a newcomer does it: 60 labelled frames of things that the model does not know.

Cones and barrels are drawn into streets with exchanged colours: six clips of ten frames, written as
files, divided by `dff-edge data split`, and given to `dff-edge train configs/finetune.yaml`. Beside
it, on the same frames for as many steps, the head alone is trained, and the same networks with all
but the flow network from random weights. Measured on four other clips that nothing has seen.

finetune_seconds, head_only_seconds, scratch_seconds   time of `dff-edge train`, with its start
finetune_cpu_s, head_only_cpu_s, scratch_cpu_s         computing time of it, of all cores together
finetune_mb, head_only_mb, scratch_mb                  peak memory of it
finetune_frame, head_only_frame, scratch_frame         accuracy of key frames, 0..1
finetune_l5, head_only_l5, scratch_l5                  accuracy of "DFF at l", l = 5

--task detection starts from `street-detection` (mAP at an IoU of 0.5), segmentation from `street`
(mIoU with the background). --runs scratch is that run alone. --folder keeps the data and the runs,
with their curves and pictures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from _common import parser, report

from dff_edge.data.clips import open_clips
from dff_edge.evaluation.evaluate import evaluate
from dff_edge.opencv import cv2
from dff_edge.synthetic import StreetScene
from dff_edge.trainer.checkpoint import load_checkpoint
from dff_edge.trainer.models import build_model
from dff_edge.trainer.predictor import TorchPredictor

ROOT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).parent / "dff-edge"
NAMES = ("cone", "barrel")
SIZE = (256, 512)
CLIPS, TEST_CLIPS, FRAMES, STEP = 6, 4, 10, 3
RUNS = ("finetune", "head_only", "scratch")
MODELS = {"detection": "street-detection", "segmentation": "street"}


@dataclass(frozen=True)
class Thing:
    """A cone or a barrel that stands on the ground: place at frame 0 and speed, in pixels."""

    label: int
    x: float
    foot: float
    height: float
    speed: float

    def draw(self, image: np.ndarray, labels: np.ndarray, frame: int) -> None:
        x, half = self.x + self.speed * frame, 0.32 * self.height
        top, waist = self.foot - self.height, self.foot - 0.45 * self.height
        if self.label == 0:
            outline = [(x - half, self.foot), (x + half, self.foot), (x, top)]
            stripe = [(x - half * 0.55, waist), (x + half * 0.55, waist), (x, top)]
            colours = (30, 110, 250), (235, 235, 235)
        else:
            outline = [
                (x - half, self.foot),
                (x + half, self.foot),
                (x + half, top),
                (x - half, top),
            ]
            stripe = [(x - half, waist), (x + half, waist), (x + half, top), (x - half, top)]
            colours = (150, 70, 20), (190, 120, 60)
        for corners, colour in zip((outline, stripe), colours, strict=True):
            cv2.fillPoly(image, [np.int32(corners)], colour, cv2.LINE_AA)
        cv2.fillPoly(labels, [np.int32(outline)], self.label + 1)


def draw_clip(seed: int, split: str) -> list[tuple[np.ndarray, np.ndarray, list[tuple[int, list]]]]:
    """Frames, label maps, and boxes (class, [x, y, width, height]) of one clip."""
    rng = np.random.default_rng([seed, len(split)])
    scene = StreetScene(seed, split, SIZE, FRAMES * STEP)
    things = []
    for _ in range(int(rng.integers(2, 6))):
        foot = rng.uniform(0.66, 0.98) * SIZE[0]
        height = (foot / SIZE[0] - 0.45) * rng.uniform(110, 190)
        place = rng.uniform(20, SIZE[1] - 20), foot, height, rng.uniform(-3, 3)
        things.append(Thing(int(rng.integers(2)), *place))
    things.sort(key=lambda thing: thing.foot)
    frames = []
    for index in range(0, FRAMES * STEP, STEP):
        image = np.ascontiguousarray(scene.render(index)[0][..., [1, 2, 0]])
        labels, boxes = np.zeros(SIZE, np.uint8), []
        for thing in things:
            thing.draw(image, labels, index)
        for thing in things:
            own = np.zeros(SIZE, np.uint8)
            thing.draw(image.copy(), own, index)
            x, y, width, height = cv2.boundingRect(own)
            if width * height > 60:
                boxes.append((thing.label, [x, y, width, height]))
        frames.append((image, labels, boxes))
    return frames


def write_data(folder: Path, split: str, clips: int, task: str) -> str:
    """Write labelled video, and return its name."""
    images, annotations = [], []
    for clip in range(clips):
        for kind in ("images", "labels"):
            (folder / kind / f"clip{clip}").mkdir(parents=True)
        for index, (image, labels, boxes) in enumerate(draw_clip(clip, split)):
            name = f"clip{clip}/{index:03d}"
            cv2.imwrite(str(folder / "images" / f"{name}.jpg"), image)
            cv2.imwrite(str(folder / "labels" / f"{name}.png"), labels)
            number = len(images)
            entry = {"id": number, "file_name": f"{name}.jpg", "video_id": clip, "frame_id": index}
            images.append(entry)
            for label, box in boxes:
                own = {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": label,
                    "bbox": box,
                }
                annotations.append(own)
    content = {
        "videos": [{"id": clip, "name": f"clip{clip}"} for clip in range(clips)],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES)],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    if task == "segmentation":
        return str(folder)
    return f"cocovid://{folder / 'boxes.json'}?images=images"


def dff_edge(*arguments: object, threads: int) -> tuple[str, float, float, float]:
    """Output of a command, its time and computing time in s, and its peak memory in MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    words = [str(COMMAND), *map(str, arguments)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed")
    seconds, computing = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    return output, seconds, computing, usage.ru_maxrss / 1e3


def accuracy(checkpoint: Path, source: str) -> tuple[float, float]:
    """Accuracy of key frames, and of "DFF at l" with l = 5."""
    loaded = load_checkpoint(checkpoint)
    task = loaded.config.task
    predictor = TorchPredictor(loaded.model, loaded.config.frame_size)
    found = evaluate(predictor, open_clips(source), task.classes, 5, task=task.name)
    return found.at_distance(0), found.at_interval(5)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--task", choices=list(MODELS), default="detection")
    arguments.add_argument("--folder", type=Path, help="new folder for data and runs; kept")
    arguments.add_argument("--size", default="256x512", help="HxW of the networks' frame")
    arguments.add_argument("--steps", type=float, default=1.0, help="factor on all steps")
    arguments.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS, help="some of the runs")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        source = write_data(folder / "mine", "train", CLIPS, options.task)
        test = write_data(folder / "test", "test", TEST_CLIPS, options.task)
        figures = compare(folder, source, test, options)
    background = {name: getattr(options, name) for name in ("task", "size", "steps", "threads")}
    report(figures, background, options.json)


def compare(folder: Path, source: str, test: str, options) -> dict[str, float]:
    text, *_ = dff_edge(
        "data", "split", source, "-o", folder / "parts", "--json", "-", threads=options.threads
    )
    parts = json.loads(text)
    print(f"{parts['train']['labelled']} frames to train on, {parts['val']['labelled']} held out")
    config = yaml.safe_load((ROOT / "configs" / "finetune.yaml").read_text())
    for stage in config["stages"]:
        stage["steps"] = max(1, round(stage["steps"] * options.steps))
    config["init"] = {"model": MODELS[options.task]}
    config["data"] |= {"train": parts["train"]["source"], "validate_on": parts["val"]["source"]}
    size = [int(side) for side in options.size.split("x")]
    config["model"] = {"frame_size": size}
    if options.task == "segmentation":
        config["model"]["task"] = {"classes": ["background", *NAMES]}
    origin = load_checkpoint(MODELS[options.task]).config
    network = build_model(origin).feature
    runs = {"finetune": config}
    layers = [f"feature.{name}" for name, _ in network.named_children()]
    head = {**config["stages"][0], "fixed_layers": layers}
    steps = sum(stage["steps"] for stage in config["stages"])
    runs["head_only"] = config | {"stages": [{**head, "steps": steps}]}
    model = origin.model_dump(mode="json")
    task = dict(model.pop("task"))
    task |= {"classes": (["background"] if options.task == "segmentation" else []) + list(NAMES)}
    del task["colours"]
    free = {"batch_norm": "train", "body_rate": 1.0, "patience": None}
    runs["scratch"] = config | {
        "init": {"flow": MODELS[options.task]},
        "model": model | {"task": task, "frame_size": size},
        "stages": [stage | free for stage in config["stages"]],
    }
    figures = {}
    for name in options.runs:
        settings = runs[name]
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        _, seconds, computing, megabytes = dff_edge(
            "train", path, "-o", folder / name, threads=options.threads
        )
        print(
            f"{name}: {seconds:.0f} s, {computing:.0f} s of computing, {megabytes:.0f} MB",
            flush=True,
        )
        frame, at_5 = accuracy(folder / name / "checkpoint", test)
        print(f"{name}: {frame:.3f} on key frames, {at_5:.3f} at l = 5", flush=True)
        figures |= {
            f"{name}_seconds": seconds,
            f"{name}_cpu_s": computing,
            f"{name}_mb": megabytes,
            f"{name}_frame": frame,
            f"{name}_l5": at_5,
        }
    return figures


if __name__ == "__main__":
    main()
