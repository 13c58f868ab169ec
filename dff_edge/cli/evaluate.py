"""dff-edge evaluate: accuracy of a checkpoint or a bundle on labelled video."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from dff_edge.cli.command import Command, command_line, json_option, write_json
from dff_edge.cli.console import progress, say
from dff_edge.cli.evaluate_report import print_accuracy, print_boxes, print_run
from dff_edge.cli.options import (
    engine_option,
    flow_option,
    keys_option,
    policy_option,
    precision_option,
    threads_option,
    warp_option,
)
from dff_edge.cli.parameters import ModelName
from dff_edge.errors import require
from dff_edge.hiding import hide_credentials
from dff_edge.printable import printable
from dff_edge.runtime.engines.backends import DEFAULT_BACKEND

if TYPE_CHECKING:
    from dff_edge.bundle.tasks import TaskName
    from dff_edge.evaluation.evaluate import Predictor
    from dff_edge.evaluation.score_threshold import BoxReport


class _Model(NamedTuple):
    """A model to measure, with the score from which its boxes are shown, where it states one."""

    predictor: Predictor
    classes: tuple[str, ...]
    task: TaskName
    flow: str
    threshold: float | None


@click.command(cls=Command)
@click.argument("model", type=ModelName())
@click.option(
    "--source",
    required=True,
    metavar="DATA",
    help="Labelled video: a folder with images/ and labels/, a data set such as camvid://ROOT or "
    "cocovid://FILE.json?videos=FOLDER, or synthetic://street?split=test&clips=16&frames=20.",
)
@precision_option
@click.option(
    "--max-interval",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="FRAMES",
    help="Largest key interval l; distances 0..l-1 are measured, with a lag n n..n+l-1.",
)
@policy_option("Answer each clip as a run with this policy would", is_run=True, usual="none: pairs")
@keys_option
@click.option(
    "--lag",
    type=click.IntRange(min=0),
    metavar="FRAMES",
    help="Short for --keys lag:FRAMES: features are used so many frames after their key frame.",
)
@click.option(
    "--copy-features",
    is_flag=True,
    help="Baseline: copy key features (zero flow, scale one). For a checkpoint only.",
)
@click.option(
    "--keep-threshold",
    is_flag=True,
    help="Choose the score from which boxes are shown, by the best F1 on DATA over all distances, "
    "and keep it in MODEL. DATA is then for validation: no accuracy on it is reported.",
)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Draw precision against recall, class by class, with the threshold marked. For models "
    "that detect.",
)
@flow_option
@engine_option
@warp_option
@threads_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    source: str,
    precision: str,
    max_interval: int,
    policy: str | None,
    keys: str,
    lag: int | None,
    copy_features: bool,
    keep_threshold: bool,
    plot_path: Path | None,
    flow: str,
    engine: str,
    warp: str,
    threads: int | None,
    json_path: Path | None,
) -> None:
    """Measure MODEL, a bundle or a checkpoint, by the paper's protocol.

    "DFF at l" is the accuracy over all pairs (k, i), k = i - l + 1 .. i, of each labelled frame i:
    mIoU, or for detection mAP at an IoU of 0.5, as ImageNet VID measures it. Pixels of
    label 255 are not scored; their share is printed.

    With a lag n, features are used n frames after their key frame, as with key frames in the
    background: the pairs are k = i - n - l + 1 .. i - n, which is what a run at a key interval l of
    n or more answers from. How old the features of a live run were its --json says (key_distance).

    With --policy (or --interval), each clip is answered from its first frame on as `dff-edge run`
    would, one frame in flight: accuracy by the distances that occurred, over all answers, and the
    share of key frames.
    """
    from dff_edge.bundle.tasks import FORMATS
    from dff_edge.data.clips import check_for_model, open_clips
    from dff_edge.evaluation.box_accuracy import BoxAccuracy
    from dff_edge.evaluation.evaluate import evaluate, temporal_consistency
    from dff_edge.evaluation.score_threshold import measure_boxes
    from dff_edge.evaluation.tasks import MEASURED_TASKS
    from dff_edge.files.atomic import write_atomically

    if plot_path is not None:
        if plot_path.suffix != ".png":
            raise click.UsageError(f"--plot is '{plot_path}', expected a .png.")
        from dff_edge.report.plot import check_plotting

        check_plotting()
    lag = _lag_of(keys, lag)
    is_bundle = (Path(model) / "manifest.json").is_file()
    if is_bundle and copy_features:
        raise click.UsageError("--copy-features is for checkpoints; a bundle always propagates.")
    if flow != "network" and (is_bundle or copy_features):
        why = (
            "a bundle has its own; see `dff-edge export --flow`"
            if is_bundle
            else "with --copy-features there is none"
        )
        raise click.UsageError(f"--flow {flow} is for checkpoints whose flow is used: {why}.")
    if not is_bundle and precision != "fp32":
        raise click.UsageError(f"--precision {precision} is for bundles; a checkpoint is fp32.")
    if not is_bundle and engine != DEFAULT_BACKEND:
        raise click.UsageError(f"--engine {engine} is for bundles; a checkpoint runs in torch.")
    if policy is not None:
        _check_policy(ctx, is_bundle)
        found = _as_run(model, source, precision, policy, lag, engine, warp, threads)
        if not write_json(json_path, found):
            print_run(found)
        return
    with ExitStack() as stack:
        with command_line():
            clips = open_clips(source)
        if keep_threshold and not is_bundle:
            _check_own(model)
        predictor, classes, task, flow, threshold = (
            _bundle(stack, model, precision, engine, warp, threads)
            if is_bundle
            else _checkpoint(model, copy_features, flow, threads)
        )
        if FORMATS.find(task).truth != "boxes" and (keep_threshold or plot_path is not None):
            option = "--keep-threshold" if keep_threshold else "--plot"
            raise click.UsageError(f"{option} is for models that detect; {model} does {task}.")
        check_for_model(clips, source, task, classes, "the model", pairs=max_interval > 1)
        update = stack.enter_context(progress("clips", len(clips)))
        accuracy = evaluate(predictor, clips, classes, max_interval, update, task, lag)
        consistency = {
            interval: temporal_consistency(predictor, clips, len(classes), interval)
            for interval in sorted({1, min(5, max_interval), max_interval})
            if MEASURED_TASKS.find(task).has_consistency
        }
    boxes = None
    if isinstance(accuracy, BoxAccuracy):
        boxes = measure_boxes(accuracy, threshold)
        if keep_threshold:
            boxes = boxes.with_threshold(_keep(model, is_bundle, boxes, source, max_interval))
    metric = accuracy.metric
    numbers: dict[str, Any] = {
        "model": model,
        "precision": precision,
        "engine": engine if is_bundle else "torch",
        "copy_features": copy_features,
        "flow": flow,
        "source": source,
        "clips": len(clips),
        "lag": lag,
        "not_scored": accuracy.not_scored,
        f"{metric.key}_at_distance": [accuracy.at_distance(lag + d) for d in range(max_interval)],
        f"{metric.key}_at_interval": [accuracy.at_interval(n + 1) for n in range(max_interval)],
        f"class_{metric.of_class.lower()}_frame": accuracy.by_class(1),
        f"class_{metric.of_class.lower()}": accuracy.by_class(max_interval),
        "temporal_consistency": {str(n): value for n, value in consistency.items()},
    }
    if boxes is not None:
        numbers["boxes"] = boxes.as_dict()
    if not write_json(json_path, numbers):
        print_accuracy(accuracy, consistency, MEASURED_TASKS.find(task).not_scored)
        if boxes is not None:
            print_boxes(boxes)
    if plot_path is not None and boxes is not None:
        from dff_edge.report.precision_recall import draw_precision_recall

        write_atomically(plot_path, draw_precision_recall(boxes))


def _lag_of(keys: str, lag: int | None) -> int:
    from dff_edge.runtime.keys import IN_ORDER, parse_keys

    mode = parse_keys(keys)
    if mode.lag is None:
        raise click.UsageError(
            "--keys background is for runs: how old features are depends on the machine. Take the "
            "key_distance of a run's --json, and measure --lag FRAMES here."
        )
    if lag is not None and mode != IN_ORDER:
        raise click.UsageError("--lag and --keys lag:n say the same; give one of them.")
    return mode.lag if lag is None else lag


def _check_policy(ctx: click.Context, is_bundle: bool) -> None:
    if not is_bundle:
        raise click.UsageError("--policy is for bundles, which run; a checkpoint has pairs alone.")
    if ctx.get_parameter_source("max_interval") is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError(
            "--max-interval is for pairs at each distance; with --policy, distances are those that "
            "occur. Leave one of the two out."
        )


def _as_run(
    model: str,
    source: str,
    precision: str,
    policy: str,
    lag: int,
    engine: str,
    warp: str,
    threads: int | None,
) -> dict[str, Any]:
    """Answer each clip as a run would; return the numbers."""
    from dff_edge.bundle.reader import Bundle
    from dff_edge.data.clips import check_for_model, open_clips
    from dff_edge.evaluation.policy_accuracy import evaluate_policy
    from dff_edge.runtime.assembly import policy_of
    from dff_edge.runtime.engines.options import CudaOptions
    from dff_edge.runtime.keys import KeyMode
    from dff_edge.runtime.pipeline import Pipeline

    bundle = Bundle.open(model)
    manifest = bundle.manifest
    with command_line():
        clips = open_clips(source)
        chosen = policy_of(policy, KeyMode(lag), bundle)
    check_for_model(clips, source, manifest.task, manifest.class_names, "the model")
    with (
        Pipeline.open(
            bundle,
            precision=precision,  # type: ignore[arg-type]
            policy=chosen,
            depth=1,
            threads=threads,
            engine=engine,
            keys=KeyMode(lag),
            cuda=CudaOptions(graphs=False, plugin=warp == "plugin"),
        ) as pipeline,
        progress("clips", len(clips)) as update,
    ):
        found = evaluate_policy(pipeline, clips, manifest.class_names, update, manifest.task)
    return {
        "model": model,
        "precision": precision,
        "engine": engine,
        "source": source,
        "clips": len(clips),
        "policy": str(chosen),
        "keys": str(KeyMode(lag)),
        **found.as_dict(),
    }


def _bundle(
    stack: ExitStack, model: str, precision: str, engine: str, warp: str, threads: int | None
) -> _Model:
    from dff_edge.bundle.reader import Bundle
    from dff_edge.evaluation.bundle_predictor import BundlePredictor
    from dff_edge.runtime.engines.options import CudaOptions

    bundle = Bundle.open(model)
    cuda = CudaOptions(graphs=False, plugin=warp == "plugin")
    predictor = BundlePredictor(bundle, precision, threads, engine, cuda)  # type: ignore[arg-type]
    manifest = bundle.manifest
    stack.enter_context(predictor)
    threshold = manifest.score_threshold
    return _Model(
        predictor,
        manifest.class_names,
        manifest.task,
        manifest.flow_function,
        None if threshold is None else threshold.score,
    )


def _checkpoint(model: str, copy_features: bool, flow: str, threads: int | None) -> _Model:
    torch = require("torch", extra="export", purpose="Evaluating a checkpoint")
    from dff_edge.trainer.checkpoint import load_checkpoint
    from dff_edge.trainer.predictor import TorchPredictor

    if threads is not None:
        torch.set_num_threads(threads)
    checkpoint = load_checkpoint(model)
    predictor = TorchPredictor(
        checkpoint.model,
        checkpoint.config.frame_size,
        copies_features=copy_features,
        flow=flow,  # type: ignore[arg-type]
    )
    task, threshold = checkpoint.config.task, checkpoint.score_threshold
    score = None if threshold is None else threshold.score
    return _Model(predictor, task.classes, task.name, flow, score)


def _check_own(model: str) -> None:
    """Raise for the name of a model that comes with dff-edge, whose files are not the user's."""
    if not (Path(model) / "model.json").is_file():
        raise click.UsageError(
            f"--keep-threshold writes into MODEL, and '{model}' comes with dff-edge. Export it, "
            "and name the bundle."
        )


def _keep(model: str, is_bundle: bool, boxes: BoxReport, source: str, interval: int) -> float:
    """Write the best threshold into a bundle or a checkpoint; return it."""
    from dff_edge.bundle.records import ScoreThreshold

    if boxes.best is None:
        raise click.ClickException(
            f"{source} has no true box, so no threshold can be chosen on it. Give data with "
            "objects of the classes."
        )
    chosen = ScoreThreshold(
        score=boxes.best.score,
        f1=boxes.best.f1,
        data=printable(hide_credentials(source))[:4096],
        key_interval=interval,
    )
    if is_bundle:
        from dff_edge.bundle.writer import BundleWriter

        with BundleWriter.extend(model) as writer:
            writer.update(score_threshold=chosen)
            writer.commit()
    else:
        from dff_edge.trainer.checkpoint import keep_threshold

        keep_threshold(Path(model), chosen)
    say(f"{model} shows boxes from a score of {chosen.score:.2f} on.")
    return chosen.score
