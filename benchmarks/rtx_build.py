"""Graphs of a bundle that parse and build in TensorRT for RTX, without a GPU.

Each graph for TensorRT is built into one engine for Ada and Blackwell (SM 8.9 and 12.0); the node
of the warp's plugin is refused, for this TensorRT has no plugins.

rtx_graphs_built       how many of the others build, of 12
rtx_int8_size_share    int8 engines' bytes / fp32 engines' bytes, feature and flow network
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from _common import export_shipped, parser, report
from _rtx import RtxNetwork, load_rtx

from dff_edge.bundle.reader import Bundle
from dff_edge.cli.command import table
from dff_edge.names import TENSORRT_GRAPHS

CAPABILITIES = ("SM89", "SM120")
CALIBRATION = "synthetic://street?split=val&clips=4&frames=20"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--bundle", type=Path, help="a calibrated bundle [the shipped model's]")
    options = arguments.parse_args()
    try:
        load_rtx()
    except ImportError as error:
        sys.exit(
            f"TensorRT for RTX is missing ({error}). Install it with: pip install tensorrt-rtx"
        )
    with tempfile.TemporaryDirectory() as folder:
        bundle = Bundle.open(options.bundle) if options.bundle else calibrated(Path(folder))
        rows, sizes = build_all(bundle)
    table(["graph", "result", "parse ms", "build ms", "engine MB"], rows)
    networks = ("feature", "flow")
    figures = {"rtx_graphs_built": len(sizes)}
    if all((p, n) in sizes for p in ("fp32", "int8") for n in networks):
        int8, fp32 = (sum(sizes[p, n] for n in networks) for p in ("int8", "fp32"))
        figures["rtx_int8_size_share"] = int8 / fp32
    report(figures, {"compute capabilities": " ".join(CAPABILITIES)}, options.json)


def calibrated(folder: Path) -> Bundle:
    """The shipped model with all precisions for TensorRT."""
    from dff_edge.calibration import calibrate_bundle, open_calibration_clips

    export_shipped(folder / "bundle")
    clips = open_calibration_clips(CALIBRATION)
    return calibrate_bundle(folder / "bundle", clips, source=CALIBRATION, flavours=["trt"])


def build_all(bundle: Bundle) -> tuple[list[list[str]], dict[tuple[str, str], int]]:
    """Rows of the table, and the bytes of each engine that was built."""
    rows: list[list[str]] = []
    sizes: dict[tuple[str, str], int] = {}
    for precision in bundle.precisions_for("trt"):
        for name in TENSORRT_GRAPHS:
            graph = bundle.graph_bytes(precision, name, "trt")
            start = time.perf_counter()
            network = RtxNetwork(graph)
            parsed = time.perf_counter()
            row = [f"{precision} {name}", "", f"{(parsed - start) * 1e3:.0f}", "", ""]
            rows.append(row)
            if network.errors:
                row[1] = "no plugins" if "Plugin not found" in network.errors[0] else "not parsed"
                continue
            try:
                sizes[precision, name] = network.build(CAPABILITIES)
            except RuntimeError:
                row[1] = "not built"
                continue
            row[1] = "built"
            row[3] = f"{(time.perf_counter() - parsed) * 1e3:.0f}"
            row[4] = f"{sizes[precision, name] / 1e6:.2f}"
    return rows, sizes


if __name__ == "__main__":
    main()
