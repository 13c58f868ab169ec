"""The planner's forecasts against runs: how far off they are, for one camera at 30 Hz.

The shipped model `street` in INT8, and the bundles that are given: --bundle, several times; that of
the paper's size is made by `realtime.py --bundle FOLDER`. In each round a bundle is planned anew,
with drawn frames, and its choice is run on a paced source. An error is |predicted - measured| /
measured; a figure is the largest over the bundles of the medians of their rounds. Planning and run
have the same priority, and follow each other at once: on a busy machine they have about the same
company, and what differs between the two is in the error.

plan_error_fps   of answers per second
plan_error_p50   of the median age of answers, from capture; where half of the answers are key
                 frames and the 48th and 52nd percentile lie far apart, the least with these in its
                 place
plan_error_p99   of its 99th percentile
rerun_fps, rerun_p50, rerun_p99  the same of a second run in place of the forecast: how far two runs
                 differ here, which no forecast can be nearer to
plan_seconds     that planning took, median
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from _common import bits_of, export_shipped, parser, report, weight_bits

from dff_edge.bundle.reader import Bundle
from dff_edge.calibration import calibrate_bundle, open_calibration_clips
from dff_edge.plan.footage import open_footage
from dff_edge.plan.judge import Wishes
from dff_edge.plan.planner import Plan, plan_bundle
from dff_edge.plan.verify import Speed, off, verify

COMPARED = ("plan_error", "rerun")
CALIBRATION = "synthetic://street?split=val&clips=4&frames=12"
FIELDS = {"fps": "fps", "p50": "age_p50_s", "p99": "age_p99_s"}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--bundle", type=Path, action="append", default=[], help="plan this one too"
    )
    arguments.add_argument("--without-street", action="store_true", help="only those of --bundle")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--frames", type=int, default=300, help="of each run")
    arguments.add_argument("--rate", type=float, default=30.0, help="of the camera, a second")
    arguments.add_argument("--engine", default="onnxruntime", choices=["onnxruntime", "openvino"])
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="dff-edge-") as folder:
        bundles = {str(path): Bundle.open(path) for path in options.bundle}
        if not options.without_street:
            bundles["street"] = make_street(Path(folder) / "bundle")
        errors: dict[str, dict[str, list[float]]] = {}
        seconds: list[float] = []
        loads = [os.getloadavg()[0]]
        for name, bundle in bundles.items():
            errors[name] = {f"{of}_{field}": [] for of in COMPARED for field in FIELDS}
            for _ in range(options.rounds):
                plan, forecast, measured, again = one_round(bundle, options)
                seconds.append(plan.seconds)
                loads.append(os.getloadavg()[0])
                for of, other in zip(COMPARED, (forecast, again), strict=True):
                    for short, field in FIELDS.items():
                        errors[name][f"{of}_{short}"].append(abs(off(other, measured)[field]))
                tell(name, plan, forecast, measured)
    medians = {
        name: {figure: statistics.median(values) for figure, values in own.items()}
        for name, own in errors.items()
    }
    figures = {
        figure: max(own[figure] for own in medians.values())
        for figure in next(iter(medians.values()))
    }
    figures["plan_seconds"] = statistics.median(seconds)
    background = {
        "engine": options.engine,
        "int8 weight bits": {name: bits_of(bundle) for name, bundle in bundles.items()},
        "medians": {
            name: {figure: round(value, 3) for figure, value in own.items()}
            for name, own in medians.items()
        },
        "load before and after each round": [round(load, 1) for load in loads],
    }
    report(figures, background, options.json)


def make_street(folder: Path) -> Bundle:
    """The shipped model with INT8 graphs."""
    export_shipped(folder)
    return calibrate_bundle(
        folder,
        open_calibration_clips(CALIBRATION),
        source=CALIBRATION,
        precisions=("int8",),
        weight_bits=weight_bits(),
        flavours=("ort",),
    )


def one_round(bundle: Bundle, options: Any) -> tuple[Plan, Speed, Speed, Speed]:
    """A plan, the forecast of its choice, and two runs of it."""
    with open_footage(bundle, None) as footage:
        plan = plan_bundle(
            bundle,
            footage,
            Wishes(rate=options.rate),
            precisions=["int8"],
            engines=[options.engine],
        )
        candidate, images = plan.best.candidate, footage.images
        measured, again = (
            verify(bundle, candidate, images, rate=options.rate, frames=options.frames)
            for _ in range(2)
        )
    return plan, Speed.of(plan.best.forecast), measured, again


def tell(name: str, plan: Plan, forecast: Speed, measured: Speed) -> None:
    """Print the outcome of a round."""
    candidate = plan.best.candidate
    print(
        f"{name}: {candidate.setup}, {candidate.policy}: predicted and measured fps "
        f"{forecast.fps:.1f} {measured.fps:.1f}, age p50 {1e3 * forecast.age_p50_s:.1f} "
        f"{1e3 * measured.age_p50_s:.1f} ms, p99 {1e3 * forecast.age_p99_s:.1f} "
        f"{1e3 * measured.age_p99_s:.1f} ms, distance p50 {forecast.distance_p50:.0f} "
        f"{measured.distance_p50:.0f}; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
