"""Costs of graphs against the limits of bundles, and how long a bundle takes to open.

open_ms       Bundle.open of `street` in FP32, INT8 and FP16 for both flavours, median of 20
work_share, largest_share, all_share
              the largest share of a limit that a graph of an untrained ResNet-101 with
              FlowNet-Simple takes, at the paper's size, FP32

Limits are ``cost_limits``: per pixel of the frame, steps of work, bytes of the largest value and of
all values.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from _common import FRAME_SIZE, export_shipped, paper_size_config, parser, report

from dff_edge.bundle.graphs.onnx_check import GraphSummary, check_onnx, cost_limits
from dff_edge.bundle.reader import Bundle
from dff_edge.calibration import calibrate_bundle
from dff_edge.data.clips import open_clips
from dff_edge.export.export import export_graphs
from dff_edge.trainer.checkpoint import Checkpoint
from dff_edge.trainer.models import build_model

CLIPS = "synthetic://street?split=train&clips=4&frames=20"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=20)
    options = arguments.parse_args()
    costs = paper_size_costs()
    pixels = FRAME_SIZE[0] * FRAME_SIZE[1]
    limits = cost_limits(pixels)
    shares = {
        f"{name.removesuffix('_bytes')}_share": max(getattr(own, name) for own in costs.values())
        / most
        for name, most in limits.items()
    }
    background = {
        f"{graph}: {name} a pixel": round(getattr(own, name) / pixels, 1)
        for graph, own in costs.items()
        for name in limits
    }
    report({"open_ms": open_ms(options.repetitions), **shares}, background, options.json)


def paper_size_costs() -> dict[str, GraphSummary]:
    """Costs by graph of the paper's feature network, and the flow network that is not ours."""
    config = paper_size_config()
    simple = config.model_copy(update={"flow": config.flow.model_copy(update={"name": "simple"})})
    checkpoint = Checkpoint("untrained", simple, build_model(simple).eval(), {}, "")
    return {
        name: check_onnx(model.SerializeToString(), name).summary
        for name, model in export_graphs(checkpoint, 17).items()
    }


def open_ms(repetitions: int) -> float:
    """Median time of this process to open the shipped model's bundle."""
    with tempfile.TemporaryDirectory() as folder:
        path = export_shipped(Path(folder) / "bundle").path
        calibrate_bundle(path, open_clips(CLIPS), source=CLIPS)
        times = []
        for _ in range(repetitions):
            start = time.process_time()
            Bundle.open(path)
            times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


if __name__ == "__main__":
    main()
