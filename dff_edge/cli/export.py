"""dff-edge export: a bundle from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from dff_edge.cli.command import Command, json_option, table, write_json
from dff_edge.cli.console import say
from dff_edge.cli.options import fixed_interval_of, flow_option, policy_option
from dff_edge.cli.parameters import FrameSize, ModelName
from dff_edge.errors import require


@click.command(cls=Command)
@click.argument("checkpoint", type=ModelName())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="BUNDLE",
    help="Folder to write; an older bundle in it is replaced.",
)
@policy_option("What the bundle runs with where nothing else is said", default="fixed:10")
@click.option(
    "--opset",
    type=click.IntRange(17, 19),
    default=17,
    show_default=True,
    help="ONNX operator set.",
)
@click.option(
    "--frame-size",
    type=FrameSize(),
    metavar="HEIGHTxWIDTH",
    help="Size of the networks' frames, the height first, multiples of 16, if not the one "
    "that the model was trained at. Larger frames take more time and show smaller things.",
)
@flow_option
@json_option
def command(
    checkpoint: str,
    output: Path,
    policy: str,
    opset: int,
    frame_size: tuple[int, int] | None,
    flow: str,
    json_path: Path | None,
) -> None:
    """Write CHECKPOINT as a bundle of FP32 ONNX graphs, each compared with torch.

    CHECKPOINT is the folder that training left, or the name of a model that comes with dff-edge
    ("street").
    """
    for module in ("torch", "onnx", "onnxscript", "onnxruntime"):
        require(module, extra="export", purpose="dff-edge export")
    from dff_edge.export import export_bundle
    from dff_edge.trainer.checkpoint import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    line = f"dff-edge export {checkpoint} --policy {policy} --opset {opset} --flow {flow}"
    if frame_size is not None:
        loaded = loaded.at_frame_size(frame_size)
        line += f" --frame-size {frame_size[0]}x{frame_size[1]}"
    bundle = export_bundle(
        loaded,
        output,
        interval=fixed_interval_of(policy),
        opset=opset,
        flow=flow,  # type: ignore[arg-type]
        replace=True,
        command=line,
        progress=say,
    )
    manifest = bundle.manifest
    numbers = {
        "bundle": str(bundle.path),
        "digest": bundle.digest,
        "bytes": bundle.size_bytes("fp32"),
        "parity": [record.model_dump(mode="json") for record in manifest.parity],
    }
    if write_json(json_path, numbers):
        return
    rows = [
        [
            f"{record.subnet}: {record.output}",
            record.inputs,
            f"{record.max_abs_error:.1e}",
            f"{record.relative_error:.1e}",
            f"{record.tolerance:.0e}",
        ]
        for record in manifest.parity
    ]
    table(["graph: output", "inputs", "abs error", "relative", "allowed"], rows)
    click.echo(f"{bundle.path}  ({bundle.size_bytes('fp32') / 1e6:.1f} MB)")
