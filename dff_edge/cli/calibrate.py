"""dff-edge calibrate: INT8 and FP16 graphs for a bundle, from real clips."""

from __future__ import annotations

from pathlib import Path

import click

from dff_edge.cli.options import Command, interval_option, json_option, table, write_json
from dff_edge.runtime.errors import require


@click.command(cls=Command)
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--source",
    required=True,
    metavar="CLIPS",
    help="Video like that of the device: a video file, a folder of images, a labelled folder, or "
    "synthetic://street?split=val&clips=8. Never the data that accuracy is reported on.",
)
@interval_option
@json_option
def command(bundle: Path, source: str, interval: int | None, json_path: Path | None) -> None:
    """Add INT8 and FP16 graphs to BUNDLE.

    Ranges come from clips, not single images: the flow network sees pairs at all distances
    up to the key interval, the task network sees propagated features.
    """
    for module in ("onnx", "onnxruntime"):
        require(module, extra="export", purpose="dff-edge calibrate")
    from dff_edge.calibration import calibrate_bundle, open_calibration_clips

    done = calibrate_bundle(
        bundle,
        open_calibration_clips(source),
        source=source,
        interval=interval,
        progress=lambda text: click.echo(text, err=True),
    )
    manifest = done.manifest
    numbers = {
        "bundle": str(done.path),
        "digest": done.digest,
        "bytes": {precision: done.size_bytes(precision) for precision in done.precisions},
        "calibration": {
            name: record.model_dump(mode="json") for name, record in manifest.calibration.items()
        },
    }
    if write_json(json_path, numbers):
        return
    full = done.size_bytes("fp32")
    table(
        ["precision", "MB", "of fp32"],
        [
            [
                precision,
                f"{done.size_bytes(precision) / 1e6:.1f}",
                f"{done.size_bytes(precision) / full:.0%}",
            ]
            for precision in done.precisions
        ],
    )
    record = manifest.calibration["int8"]
    click.echo(f"{record.frames} frames, {record.pairs} pairs of {record.clips} clips of {source}")
