"""Add int8 and fp16 graphs to a bundle, from clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dff_edge import __version__
from dff_edge.calibration.byte_maps import byte_levels, find_map_ranges
from dff_edge.calibration.clips import Clip
from dff_edge.calibration.compare import DETECTIONS, SURE_SCORE, compare, inputs_of
from dff_edge.calibration.detection import whole_task
from dff_edge.calibration.fp16 import to_fp16
from dff_edge.calibration.half import to_half
from dff_edge.calibration.propagate import plugin_propagate, portable_propagate, propagate_with
from dff_edge.calibration.quantize import quantize_graph
from dff_edge.calibration.samples import Samples, collect_samples
from dff_edge.calibration.symmetric import quantize_symmetric, symmetric_levels
from dff_edge.runtime.bundle import Bundle
from dff_edge.runtime.bundle_writer import BundleWriter
from dff_edge.runtime.contract import (
    FLAVOURS,
    Flavour,
    GraphName,
    MapLevels,
    Precision,
    Subnet,
)
from dff_edge.runtime.errors import CalibrationError
from dff_edge.runtime.manifest_records import ByteLevels, Calibration, Parity


def calibrate_bundle(
    bundle_path: str | Path,
    clips: Sequence[Clip],
    *,
    source: str,
    interval: int | None = None,
    max_keys: int = 32,
    pairs_per_key: int = 3,
    flavours: Sequence[Flavour] | None = None,
    precisions: Sequence[Precision] = ("int8", "fp16"),
    progress: Callable[[str], None] | None = None,
) -> Bundle:
    """Add int8 and fp16 to a bundle, in place.

    The clips must not be those that accuracy is reported on.

    Args:
        bundle_path: folder of a bundle.
        clips: consecutive frames; see ``open_calibration_clips``.
        source: what the clips are called, for the manifest.
        interval: largest key interval l that the bundle will be used with; pairs at all
            distances 1..l-1 are seen. None takes the bundle's default.
        max_keys: key frames that are used at most.
        pairs_per_key: pairs for each of them.
        flavours: "ort" for ONNX Runtime and OpenVINO, "trt" for TensorRT, or both; None for all
            that the bundle can have: with hand-made flow it is "ort" alone.
        precisions: "int8", "fp16" or both.
        progress: called with a line for each step.

    Returns:
        The bundle with the new precisions, verified.

    Raises:
        CalibrationError: too little data, or a graph that comes out broken; the bundle stays
            as it was.
        BundleError: the folder is not a bundle.
    """
    say = progress or (lambda line: None)
    with BundleWriter.extend(bundle_path) as writer:
        bundle = Bundle.open(bundle_path)
        manifest = bundle.manifest
        if flavours is None:
            flavours = FLAVOURS if manifest.flow_function == "network" else ("ort",)
        _check_wanted(flavours, precisions)
        if "trt" in flavours and manifest.flow_function != "network":
            raise CalibrationError(
                f"The flow of {bundle.path} is computed by '{manifest.flow_function}' on the CPU, "
                "so it has no graphs for TensorRT. Calibrate it with --flavour ort."
            )
        if "trt" in flavours and "fp32" not in manifest.tensorrt:
            raise CalibrationError(
                f"{bundle.path} holds no graphs for TensorRT: an older dff-edge exported it. Run "
                "`dff-edge export` again, or calibrate with --flavour ort."
            )
        samples = collect_samples(
            clips,
            manifest.frame_size,
            manifest.default_key_interval if interval is None else interval,
            max_keys=max_keys,
            pairs_per_key=pairs_per_key,
        )
        pairs = samples.pairs_by_distance
        say(
            f"read {len(samples.keys)} key frames and {sum(pairs.values())} pairs at distances "
            f"1 to {max(pairs)} from {samples.clip_count} clips"
        )
        parity: list[Parity] = []
        wanted = [(flavour, precision) for precision in precisions for flavour in flavours]
        ranges = find_map_ranges(bundle, samples) if "int8" in precisions else None
        for flavour, precision in wanted:
            levels = None
            if precision == "int8" and ranges is not None:
                levels = byte_levels(ranges) if flavour == "ort" else symmetric_levels(ranges)
            graphs = _convert(bundle, samples, flavour, precision, levels, say)
            say(f"comparing {_label(flavour, precision)} with fp32")
            for name, data in graphs.items():
                # For TensorRT, ONNX Runtime can run the portable form of propagate alone.
                if (flavour, name) != ("trt", "propagate"):
                    parity += compare(bundle, samples, flavour, precision, name, data, levels)
            for name, data in graphs.items():
                writer.add_graph(precision, name, data, flavour)
            if levels is not None:
                record = _record(samples, source, flavour, levels)
                if flavour == "ort":
                    writer.update(calibration={precision: record})
                else:
                    writer.update(tensorrt_calibration=record)
        writer.update(parity=parity)
        extended = writer.commit()
    for flavour, precision in wanted:
        own = [r for r in parity if (r.flavour, r.precision) == (flavour, precision)]
        maps = [record for record in own if record.output != DETECTIONS]
        worst = max(maps, key=lambda record: record.relative_error)
        size = extended.size_bytes(precision, flavour)
        say(
            f"wrote {_label(flavour, precision)}, {size / 1e6:.1f} MB: largest error against fp32 "
            f"{worst.relative_error:.1%} of the range ({worst.output})"
        )
        compared = [record for record in own if record.output == DETECTIONS]
        for lost in compared:
            say(f"{lost.subnet} loses {lost.relative_error:.1%} of {lost.inputs}")
        if manifest.rfcn is not None and flavour == "ort" and not compared:
            say(
                f"Warning: what {_label(flavour, precision)} detects was not compared with fp32, "
                f"which is sure of nothing on these clips: no object scores {SURE_SCORE} or more. "
                "Calibrate on clips with objects, or train the model longer."
            )
    return extended


def _check_wanted(flavours: Sequence[Flavour], precisions: Sequence[Precision]) -> None:
    known = bool(flavours) and set(flavours) <= set(FLAVOURS)
    if not known or not precisions or set(precisions) - {"int8", "fp16"}:
        raise CalibrationError(
            f"flavours are {tuple(flavours)} and precisions are {tuple(precisions)}, expected "
            "'ort', 'trt' or both, and 'int8', 'fp16' or both."
        )


def _networks(bundle: Bundle) -> tuple[Subnet, ...]:
    """The graphs that are converted; the others are made of them."""
    task: Subnet = "task" if bundle.manifest.rfcn is None else "task_maps"
    has_flow = bundle.manifest.flow_function == "network"
    return ("feature", "flow", task) if has_flow else ("feature", task)


def _label(flavour: Flavour, precision: Precision) -> str:
    return f"{precision} for TensorRT" if flavour == "trt" else precision


def _convert(
    bundle: Bundle,
    samples: Samples,
    flavour: Flavour,
    precision: Precision,
    levels: MapLevels | None,
    say: Callable[[str], None],
) -> dict[GraphName, bytes]:
    """Give the graphs of one precision in one flavour."""
    quantize = quantize_graph if flavour == "ort" else quantize_symmetric
    halve = to_fp16 if flavour == "ort" else to_half
    graphs: dict[GraphName, bytes] = {}
    for subnet in _networks(bundle):
        say(f"converting the {subnet} network to {_label(flavour, precision)}")
        fp32 = bundle.graph_bytes("fp32", subnet)
        if levels is not None:
            graphs[subnet] = quantize(fp32, inputs_of(subnet, bundle, samples), levels)
        else:
            graphs[subnet] = halve(fp32)
    warp, rfcn = bundle.graph_bytes("fp32", "propagate"), bundle.manifest.rfcn
    if flavour == "ort":
        if rfcn is not None:
            graphs["task"] = whole_task(graphs["task_maps"], rfcn, bundle.manifest.stride)
        graphs["propagate"] = propagate_with(warp, graphs["task"], levels)
    else:
        if rfcn is not None:
            graphs["task"] = graphs.pop("task_maps")
        graphs["propagate"] = plugin_propagate(warp, graphs["task"], levels)
        graphs["propagate_portable"] = portable_propagate(warp, graphs["task"], levels)
    return graphs


def _record(samples: Samples, source: str, flavour: Flavour, levels: MapLevels) -> dict[str, Any]:
    return Calibration(
        source=source,
        sha256=samples.digest,
        clips=samples.clip_count,
        pairs=sum(samples.pairs_by_distance.values()),
        frames=len(samples.half),
        flavour=flavour,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions={
            "dff_edge": __version__,
            **{name: version(name) for name in ("onnx", "onnxruntime")},
        },
        features=ByteLevels(step=levels.features.step, zero=levels.features.zero),
        scale=ByteLevels(step=levels.scale.step, zero=levels.scale.zero),
    ).model_dump(mode="json")
