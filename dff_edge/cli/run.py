"""dff-edge run: a bundle on live or recorded video."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from dff_edge.cli.options import (
    Command,
    interval_option,
    json_option,
    precision_option,
    progress,
    table,
    threads_option,
    write_json,
)


@click.command(cls=Command)
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("source")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="SINK",
    help="out.mp4, out.jsonl, labels://FOLDER, display://; may be given several times.",
)
@precision_option
@interval_option
@click.option("--frames", type=click.IntRange(min=1), help="Stop after so many frames.")
@click.option(
    "--depth",
    type=click.IntRange(1, 16),
    default=2,
    show_default=True,
    help="Frames in flight; 1 computes each frame by itself.",
)
@threads_option
@json_option
def command(
    bundle: Path,
    source: str,
    outputs: tuple[str, ...],
    precision: str,
    interval: int | None,
    frames: int | None,
    depth: int,
    threads: int | None,
    json_path: Path | None,
) -> None:
    """Run BUNDLE on SOURCE.

    SOURCE is a camera (0, v4l2:///dev/video0), a video file, a folder or glob of images, or
    synthetic://street?seed=5.
    """
    from dff_edge.report.running import RunStatistics
    from dff_edge.runtime.pipeline import Pipeline
    from dff_edge.runtime.sinks import open_sink
    from dff_edge.runtime.sources import open_source

    with ExitStack() as stack:
        opened = stack.enter_context(open_source(source))
        policy = None if interval is None else f"fixed:{interval}"
        pipeline = stack.enter_context(
            Pipeline.open(
                bundle,
                precision=precision,  # type: ignore[arg-type]
                policy=policy,
                depth=depth,
                threads=threads,
            )
        )
        assert pipeline.bundle is not None
        classes = pipeline.bundle.manifest.classes
        sinks = [
            stack.enter_context(
                open_sink(
                    uri,
                    classes=[info.name for info in classes],
                    colours=[info.colour for info in classes],
                    fps=opened.fps,
                    source=source,
                )
            )
            for uri in outputs
        ]
        statistics = RunStatistics()
        update = stack.enter_context(progress("frames", frames or opened.length))
        results = pipeline.run(opened)
        try:
            for result in results:
                for sink in sinks:
                    sink.write(result)
                statistics.add(result)
                update(statistics.frames, None)
                if statistics.frames == frames or any(sink.stop_requested for sink in sinks):
                    break
        except KeyboardInterrupt:
            click.echo("Stopped by the keyboard; what was written stays.", err=True)
        statistics.finish(opened.counts)
        results.close()
    if not write_json(json_path, statistics.as_dict()):
        _print(statistics.as_dict())
    if not statistics.frames:
        raise click.ClickException(f"{source} gave no frame that could be used.")


def _print(numbers: dict) -> None:  # type: ignore[type-arg]
    click.echo(
        f"{numbers['frames']} frames in {numbers['seconds']:.2f} s: {numbers['fps']:.1f} fps, "
        f"{numbers['key_frames']} key frames; dropped {numbers['dropped']}, "
        f"failed {numbers['failed']}"
    )
    rows = [
        [
            name,
            str(stage["count"]),
            f"{stage['p50_ms']:.2f}",
            f"{stage['p99_ms']:.2f}",
            f"{stage['share']:.1%}",
        ]
        for name, stage in numbers["stages"].items()
    ]
    table(["stage", "runs", "p50 ms", "p99 ms", "share"], rows)
