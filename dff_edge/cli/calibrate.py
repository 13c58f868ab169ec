"""dff-edge calibrate: INT8 and FP16 graphs for a bundle, from real clips."""

from __future__ import annotations

from pathlib import Path

import click

from dff_edge.cli.command import Command, command_line, json_option, table, write_json
from dff_edge.cli.console import say
from dff_edge.cli.options import interval_of, policy_option
from dff_edge.cli.parameters import BundleName, bundle_folder
from dff_edge.errors import require
from dff_edge.names import CALIBRATED, FLAVOURS, WEIGHT_BITS


@click.command(cls=Command)
@click.argument("bundle", type=BundleName())
@click.option(
    "--source",
    required=True,
    metavar="CLIPS",
    help="Video like that of the device: a video file, a folder of videos or of images, a labelled "
    "folder, or synthetic://street?split=val&clips=8. Never the data that accuracy is reported on.",
)
@click.option(
    "--flavour",
    type=click.Choice([*FLAVOURS, "both"]),
    show_default="both; ort where the flow is hand-crafted",
    help="For what the graphs are made: ort for ONNX Runtime and OpenVINO, trt for TensorRT.",
)
@click.option(
    "--precision",
    type=click.Choice([*CALIBRATED, "both"]),
    default="both",
    show_default=True,
    help="Precision to add. Graphs of the other one are not changed.",
)
@click.option(
    "--weight-bits",
    type=click.Choice([str(bits) for bits in WEIGHT_BITS]),
    default="8",
    show_default=True,
    help="Bits of INT8 weights for ONNX Runtime and OpenVINO. 7 for x86 CPUs without VNNI "
    "(`dff-edge doctor`): faster there than 8, at some loss of accuracy.",
)
@policy_option("What the bundle will be run with")
@json_option
def command(
    bundle: str,
    source: str,
    flavour: str | None,
    precision: str,
    weight_bits: str,
    policy: str | None,
    json_path: Path | None,
) -> None:
    """Add INT8 and FP16 graphs to BUNDLE, for ONNX Runtime and for TensorRT.

    All requested graphs are added, or none: a graph that turns out broken is named.

    Ranges come from clips, not single images: the flow network reads pairs at all distances
    up to the key interval of the policy, the task network reads propagated features.

    On the same clips a model is fitted of how stale an answer is, which results tell
    (expected_disagreement) and the policies adaptive and saving need; too few or too short clips
    yield none.
    """
    for module in ("onnx", "onnxruntime"):
        require(module, extra="export", purpose="dff-edge calibrate")
    from dff_edge.calibration import calibrate_bundle, open_calibration_clips
    from dff_edge.calibration.compare import ANSWERS

    flavours = {None: None, "both": FLAVOURS}.get(flavour, (flavour,))
    with command_line():
        clips = open_calibration_clips(source)
    done = calibrate_bundle(
        bundle_folder(bundle, to_change=True),
        clips,
        source=source,
        interval=None if policy is None else interval_of(policy),
        flavours=flavours,  # type: ignore[arg-type]
        precisions=CALIBRATED if precision == "both" else (precision,),  # type: ignore[arg-type]
        weight_bits=int(weight_bits),  # type: ignore[arg-type]
        progress=say,
    )
    manifest = done.manifest
    sizes = {
        own: {precision: done.size_bytes(precision, own) for precision in done.precisions_for(own)}
        for own in FLAVOURS
    }
    answers = {
        (record.flavour, record.precision): 1 - record.relative_error
        for record in manifest.parity
        if record.output == ANSWERS
    }
    numbers = {
        "bundle": str(done.path),
        "digest": done.digest,
        "bytes": sizes,
        "calibration": manifest.model_dump(mode="json", include={"calibration"})["calibration"],
        "staleness": None
        if manifest.staleness is None
        else manifest.staleness.model_dump(mode="json"),
        "answers_as_fp32": {
            own: {p: alike for (f, p), alike in answers.items() if f == own} for own in FLAVOURS
        },
    }
    if write_json(json_path, numbers):
        return
    full = done.size_bytes("fp32")
    table(
        ["precision", "for", "MB", "of fp32", "agrees with fp32"],
        [
            [
                name,
                "TensorRT" if own == "trt" else "ONNX Runtime",
                f"{size / 1e6:.1f}",
                f"{size / full:.0%}",
                f"{answers[own, name]:.1%}" if (own, name) in answers else "-",
            ]
            for own, by_precision in sizes.items()
            for name, size in by_precision.items()
        ],
    )
    if precision != "fp16":  # fp16 has no ranges to record
        record = manifest.calibration["trt" if flavour == "trt" else "ort"]["int8"]
        click.echo(
            f"{record.frames} frames, {record.pairs} pairs of {record.clips} clips of "
            f"{record.source}"
        )
