"""dff-edge benchmark: precisions and key intervals of a bundle against each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dff_edge.cli.command import Command, check_output, command_line, json_option, table, write_json
from dff_edge.cli.console import progress, say
from dff_edge.cli.options import (
    SWITCH,
    cuda_of,
    cuda_options,
    engine_option,
    keys_option,
    overlap_option,
    threads_option,
)
from dff_edge.cli.parameters import BundleName, Numbers, Precisions, bundle_folder

if TYPE_CHECKING:
    from dff_edge.bundle.reader import Bundle
    from dff_edge.data.datasets import LabelledClip
    from dff_edge.names import Precision
    from dff_edge.report.repeated import Repeated
    from dff_edge.report.results import Benchmark, Latency
    from dff_edge.runtime.engines.options import CudaOptions
    from dff_edge.runtime.keys import KeyMode
_TRACED_FRAMES = 60


@click.command(cls=Command)
@click.argument("bundle", type=BundleName())
@click.option(
    "--source",
    default="synthetic://street?split=test&clips=4&frames=20",
    show_default=True,
    metavar="DATA",
    help="Labelled video: a folder with images/ and labels/, or synthetic://street. Not what the "
    "model was trained or calibrated on.",
)
@click.option(
    "--precisions",
    type=Precisions(),
    help="Precisions of the bundle.  [default: all that it holds]",
)
@click.option(
    "--intervals",
    type=Numbers(),
    default="1,5,10",
    show_default=True,
    help="Key intervals l, in frames.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="Frames of a repetition, made a multiple of each key interval.",
)
@click.option(
    "--repetitions",
    type=click.IntRange(min=1),
    default=9,
    show_default=True,
    help="Repetitions of each configuration; they take turns, and medians count: of times, and of "
    "the speed-ups within each repetition.",
)
@click.option(
    "--consistency", is_flag=True, help="Measure temporal consistency too, where flow is known."
)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    callback=check_output,
    help="Draw accuracy against speed.",
)
@click.option("--record", is_flag=True, help="Write the accuracy into the bundle's manifest.")
@click.option(
    "--timeline",
    "timeline_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    callback=check_output,
    help="Draw the timeline of all streams, at the last precision and the largest interval, and "
    "write the same as FILE.json for ui.perfetto.dev.",
)
@engine_option
@overlap_option
@keys_option
@cuda_options
@threads_option
@json_option
def command(
    bundle: str,
    source: str,
    precisions: tuple[str, ...] | None,
    intervals: tuple[int, ...],
    frames: int,
    repetitions: int,
    consistency: bool,
    plot_path: Path | None,
    record: bool,
    timeline_path: Path | None,
    engine: str,
    overlap: str,
    keys: str,
    driver: str | None,
    graphs: str,
    warp: str,
    threads: int | None,
    json_path: Path | None,
) -> None:
    """Compare the precisions of BUNDLE at several key intervals, in one run on this machine.

    Accuracy is the paper's "DFF at l". Speed is that of the whole pipeline, from frames in memory
    to label maps or boxes; the speed-up is over FP32 with every frame a key frame.
    """
    if plot_path is not None:
        if plot_path.suffix != ".png":
            raise click.UsageError(f"--plot is '{plot_path}', expected a .png.")
        from dff_edge.report.plot import check_plotting

        check_plotting()
    if timeline_path is not None:
        if timeline_path.suffix != ".png":
            raise click.UsageError(f"--timeline is '{timeline_path}', expected a .png.")
        from dff_edge.report.plot import check_plotting

        check_plotting()
    from dff_edge.bundle.reader import Bundle
    from dff_edge.data.clips import check_for_model, open_clips
    from dff_edge.files.atomic import write_atomically
    from dff_edge.report.benchmark import benchmark_bundle, record_accuracy
    from dff_edge.runtime.engines.backends import backend_of
    from dff_edge.runtime.keys import parse_keys

    holding = ("fp32", *(precisions or ()))  # the baseline, too
    flavour = backend_of(engine).flavour
    folder = bundle_folder(bundle, holding, flavour=flavour, to_change=record)
    opened = Bundle.open(folder)
    cuda = cuda_of(driver, graphs, warp)
    if record and engine == "openvino":
        _check_exact(opened, precisions)  # type: ignore[arg-type]
    with command_line():
        clips = open_clips(source)
    manifest = opened.manifest
    check_for_model(clips, source, manifest.task, manifest.class_names, "the bundle")
    with progress("benchmark") as update:
        benchmark = benchmark_bundle(
            opened,
            clips,
            source=source,
            precisions=precisions,  # type: ignore[arg-type]
            intervals=intervals,
            frames=frames,
            repetitions=repetitions,
            threads=threads,
            engine=engine,  # type: ignore[arg-type]
            overlap=SWITCH[overlap],
            keys=parse_keys(keys),
            cuda=cuda,
            consistency=consistency,
            progress=update,
        )
    if not write_json(json_path, benchmark.model_dump(mode="json")):
        _print(benchmark)
    if plot_path is not None:
        from dff_edge.report.plot import draw_speed

        write_atomically(plot_path, draw_speed(benchmark))
    if timeline_path is not None:
        _write_timeline(
            opened, clips, benchmark, SWITCH[overlap], parse_keys(keys), cuda, timeline_path
        )
    if record:
        record_accuracy(opened, benchmark)
        say(f"Recorded the accuracy in {opened.path / 'manifest.json'}.")


def _write_timeline(
    bundle: Bundle,
    clips: Sequence[LabelledClip],
    benchmark: Benchmark,
    overlap: bool | None,
    keys: KeyMode,
    cuda: CudaOptions,
    path: Path,
) -> None:
    """Trace the last precision at the largest interval once more, apart from the measurement."""
    from dff_edge.report.speed import Config, load_images, trace_run
    from dff_edge.report.timeline import NETWORK_STREAMS, overlapped_share, write_timeline

    shown, settings = benchmark.headline, benchmark.settings
    trace = trace_run(
        bundle,
        Config(shown.precision, shown.interval),
        load_images(clips, _TRACED_FRAMES),
        frames=_TRACED_FRAMES,
        threads=settings.threads,
        engine=settings.engine,  # type: ignore[arg-type]
        overlap=overlap,
        keys=keys,
        cuda=cuda,
    )
    for file in (path, path.with_suffix(".json")):
        write_timeline(trace, file)
    networks = [span for span in trace.spans if span.stream in NETWORK_STREAMS]
    say(
        f"{path}: two streams or more at work in {overlapped_share(trace.spans):.1%} of the busy "
        f"time, of the networks' streams in {overlapped_share(networks):.1%}"
    )


def _check_exact(bundle: Bundle, precisions: Sequence[Precision] | None) -> None:
    """Raise where the accuracy would be that of this CPU alone, and the record's of all."""
    from dff_edge.runtime.engines.openvino import overflows

    for precision in precisions or bundle.precisions:
        if overflows(bundle, precision):
            raise click.UsageError(
                "--record keeps an accuracy for all CPUs, and on this one, which has no VNNI, "
                f"sums of {precision} overflow in OpenVINO. Record it with --engine onnxruntime."
            )


def _print(benchmark: Benchmark) -> None:
    settings = benchmark.settings
    click.echo(f"{benchmark.machine}; {settings.engine}, {settings.threads} threads")
    for precision, schedule in settings.schedules.items():
        click.echo(f"{precision}: {schedule}")
    click.echo(
        f"{settings.source}: {settings.clips} clips; "
        f"median of {settings.repetitions} repetitions, {settings.depth} frames in flight\n"
    )
    has_note = benchmark.is_fp16_emulated
    steady = any(row.consistency is not None for row in benchmark.rows)
    foretold = any(row.expected_disagreement is not None for row in benchmark.rows)
    headers = [
        "",
        "l",
        "keys %",
        f"{settings.metric} %",
        "fps",
        "speed-up",
        "from .. to",
        "key p50 ms",
        "p99",
        "other p50 ms",
        "p99",
        "MB",
    ]
    rows = []
    for row in benchmark.rows:
        star = "*" if has_note and row.precision == "fp16" else ""
        cells = [
            f"{row.precision}{star}",
            str(row.interval),
            _percent(row.key_share),
            _percent(row.accuracy),
            f"{row.fps:.1f}",
            f"{row.speedup.median:.2f}x" if row.speedup.is_steady else "too noisy",
            f"{row.speedup.low:.2f}..{row.speedup.high:.2f}",
            *_latency(row.key),
            *_latency(row.other),
            f"{row.size_mb:.2f}",
        ]
        cells += [_percent(row.expected_disagreement)] * foretold
        rows.append(cells + [_percent(row.consistency)] * steady)
    table(headers + ["stale %"] * foretold + ["steady %"] * steady, rows)
    click.echo(
        "\nspeed-up: over fp32 with every frame a key frame (fp32, l = 1), median of the ratios in "
        "each repetition; from .. to: where it lies, with 90% probability or more"
    )
    click.echo("MB: feature, flow and task graph, in millions of bytes")
    click.echo("keys: share of key frames")
    if foretold:
        click.echo("stale: mean expected disagreement with the full network on every frame")
    if steady:
        click.echo("steady: mIoU of each result with the one before, moved by the true flow")
    for number, note in enumerate(benchmark.notes):
        click.echo(f"{'*' if has_note and number == 0 else 'Note:'} {note}")

    shown = benchmark.headline
    click.echo(f"\nWhere the time goes, {shown.precision} at l = {shown.interval}:")
    table(
        ["stage", "runs", "p50 ms", "ms per frame", "share"],
        [
            [s.name, str(s.runs), f"{s.p50_ms:.2f}", f"{s.ms_per_frame:.2f}", f"{s.share:.1%}"]
            for s in benchmark.stages.stages
        ],
    )
    if shown.cost_ratio is not None:
        own = "" if shown.own_speedup is None else f", measured {_measured(shown.own_speedup)}"
        click.echo(
            f"\nr = {shown.cost_ratio:.3f} (other frame / key frame): Eq. 7 predicts "
            f"s = {shown.predicted_speedup:.2f} over per-frame {shown.precision}{own}"
        )


def _latency(latency: Latency | None) -> list[str]:
    return ["-", "-"] if latency is None else [f"{latency.p50_ms:.2f}", f"{latency.p99_ms:.2f}"]


def _measured(speedup: Repeated) -> str:
    return f"{speedup.median:.2f}" if speedup.is_steady else f"{speedup} (too noisy to say)"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
