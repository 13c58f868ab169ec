"""Add int8 and fp16 graphs to a bundle, from clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dff_edge import __version__
from dff_edge.bundle.levels import MapLevels
from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.records import ByteLevels, Calibration, Parity, date_of_record
from dff_edge.bundle.writer import BundleWriter
from dff_edge.calibration.agreement import Agreement, Reference, describe
from dff_edge.calibration.compare import ANSWERS, Compared, compare, inputs_of
from dff_edge.calibration.ort.byte_maps import byte_levels, find_map_ranges
from dff_edge.calibration.ort.fp16 import to_fp16
from dff_edge.calibration.ort.int8 import quantize_graph
from dff_edge.calibration.sampling.clips import Clip
from dff_edge.calibration.sampling.samples import Samples, collect_samples
from dff_edge.calibration.staleness import fit_staleness
from dff_edge.calibration.trt.fp16 import to_half
from dff_edge.calibration.trt.int8 import quantize_symmetric, symmetric_levels
from dff_edge.data.datasets.continuity import measure_continuity
from dff_edge.errors import CalibrationError
from dff_edge.files.disk import check_room, check_temporary_room
from dff_edge.hiding import hide_credentials
from dff_edge.names import CALIBRATED, FLAVOURS, Flavour, GraphName, Precision, Subnet, WeightBits
from dff_edge.onnx_graphs.detection import whole_task
from dff_edge.onnx_graphs.propagate import plugin_propagate, portable_propagate, propagate_with
from dff_edge.printable import printable

# Of the compared pairs of neighbouring frames.
_SOME_UNRELATED, _MOSTLY_UNRELATED = 0.1, 0.5

# Of the graphs' bytes; the warp's constants are the same in all.
_SHARE_OF_FP32: Mapping[Precision, float] = {"int8": 0.3, "fp16": 0.55}
_TEMPORARY_COPIES = 6  # of a network, as ONNX Runtime's quantiser reads and writes it


def calibrate_bundle(
    bundle_path: str | Path,
    clips: Sequence[Clip],
    *,
    source: str,
    interval: int | None = None,
    max_keys: int = 32,
    pairs_per_key: int = 3,
    flavours: Sequence[Flavour] | None = None,
    precisions: Sequence[Precision] = CALIBRATED,
    weight_bits: WeightBits = 8,
    progress: Callable[[str], None] | None = None,
) -> Bundle:
    """Add int8 and fp16 to a bundle, and a model of how stale answers become, in place.

    The clips must not be those that accuracy is reported on.

    Args:
        bundle_path: folder of a bundle.
        clips: consecutive frames; see ``open_calibration_clips``.
        source: name of the clips, for the manifest.
        interval: largest key interval l that the bundle will be used with; pairs at all
            distances 1..l-1 are used. None means the bundle's default.
        max_keys: maximum number of key frames.
        pairs_per_key: pairs for each of them.
        flavours: "ort" for ONNX Runtime and OpenVINO, "trt" for TensorRT, or both; None for all
            that the bundle supports: with hand-crafted flow it is "ort" alone.
        precisions: "int8", "fp16" or both.
        weight_bits: of int8 weights for ONNX Runtime and OpenVINO: 8, or 7 for x86 without VNNI,
            where 8 are slower, and less exact in OpenVINO. TensorRT's have 8.
        progress: called with a line for each step.

    Returns:
        The bundle with the new precisions, verified.

    Raises:
        CalibrationError: too little data, or a graph that turns out broken; the bundle is
            unchanged.
        BundleError: the folder is not a bundle.
        DiskError: there is no room for the graphs, or it cannot be written to; checked first.
    """
    say = progress or (lambda line: None)
    costs: list[tuple[Flavour, Precision, Agreement, list[Compared]]] = []
    bundle = Bundle.open(bundle_path)
    with BundleWriter.extend(bundle) as writer:
        manifest = bundle.manifest
        if flavours is None:
            flavours = FLAVOURS if manifest.flow_function == "network" else ("ort",)
        _check_wanted(flavours, precisions, weight_bits)
        if "trt" in flavours and manifest.flow_function != "network":
            raise CalibrationError(
                f"The flow of {bundle.path} is computed by '{manifest.flow_function}' on the CPU, "
                "so it has no graphs for TensorRT. Calibrate it with --flavour ort."
            )
        if "trt" in flavours and "fp32" not in manifest.graph_paths("trt"):
            raise CalibrationError(
                f"{bundle.path} holds no fp32 graphs for TensorRT. Run `dff-edge export` again, or "
                "calibrate with --flavour ort."
            )
        _check_room(bundle, flavours, precisions)
        _check_continuity(clips, source, say)
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
        trained = manifest.provenance.max_distance
        if trained is not None and max(pairs) > trained:
            say(
                f"Warning: the model was trained for distances up to {trained} frames. Measure the "
                f"accuracy beyond, with `dff-edge evaluate --max-interval {max(pairs) + 1}`."
            )
        parity: list[Parity] = []
        reference = Reference(bundle, samples)
        wanted = [(flavour, precision) for precision in precisions for flavour in flavours]
        ranges = find_map_ranges(bundle, samples) if "int8" in precisions else None
        for flavour, precision in wanted:
            levels = None
            if precision == "int8" and ranges is not None:
                levels = byte_levels(ranges) if flavour == "ort" else symmetric_levels(ranges)
            bits: WeightBits = weight_bits if (flavour, precision) == ("ort", "int8") else 8
            graphs = _convert(bundle, samples, flavour, precision, levels, bits, say)
            say(f"comparing {_label(flavour, precision)} with fp32")
            compared: list[Compared] = []
            for name, data in graphs.items():
                # For TensorRT, ONNX Runtime can run the portable form of propagate alone.
                if (flavour, name) != ("trt", "propagate"):
                    compared += compare(bundle, samples, flavour, precision, name, data, levels)
            agreement = reference.agreement(graphs, flavour, levels)
            parity += [one.record for one in compared]
            parity += _answers(agreement, flavour, precision)
            costs.append((flavour, precision, agreement, compared))
            for name, data in graphs.items():
                writer.add_graph(precision, name, data, flavour)
            if levels is not None:
                record = _record(samples, source, levels, bits)
                writer.update(calibration={flavour: {precision: record}})
        writer.update(parity=parity)
        staleness = fit_staleness(bundle, clips, source=source, say=say)
        if staleness is not None:
            writer.update(staleness=staleness)
        extended = writer.commit()
    for flavour, precision, agreement, compared in costs:
        size = extended.size_bytes(precision, flavour)
        for line in describe(_label(flavour, precision), precision, size, agreement, compared):
            say(line)
    return extended


def _check_continuity(clips: Sequence[Clip], source: str, say: Callable[[str], None]) -> None:
    """Raise for stills, and warn of cuts: the flow network is calibrated on pairs of one video."""
    found = measure_continuity(clips)
    if found.share <= _SOME_UNRELATED:
        return
    text = (
        f"{len(found.unrelated)} of {found.pairs} pairs of neighbouring frames of '{source}' show "
        f"unrelated pictures (the first: {found.unrelated[0]}): optical flow does not lead from "
        "one to the other and back"
    )
    if found.share > _MOSTLY_UNRELATED:
        raise CalibrationError(
            f"{text}. The flow network is calibrated on frames that follow each other, so give a "
            "video, or its frames in order; from single pictures, or frames seconds apart, its "
            "ranges would be those of motion that no device sees."
        )
    say(f"Warning: {text}. Are there cuts? Better give each part as a clip of its own.")


def _answers(agreement: Agreement, flavour: Flavour, precision: Precision) -> list[Parity]:
    """Return the record of the agreement; none where there was nothing to compare."""
    if agreement.overall is None:
        return []
    lost = 1 - agreement.overall
    return [
        Parity(
            precision=precision,
            flavour=flavour,
            subnet="propagate",
            output=ANSWERS,
            inputs=f"{agreement.keys} key frames and {agreement.pairs} propagated frames, from end "
            f"to end; the share of {agreement.rule.unit} with another result than fp32",
            tolerance=1.0,
            max_abs_error=lost,
            relative_error=lost,
        )
    ]


def _check_wanted(
    flavours: Sequence[Flavour], precisions: Sequence[Precision], weight_bits: WeightBits
) -> None:
    known = bool(flavours) and set(flavours) <= set(FLAVOURS)
    if not known or not precisions or not set(precisions) <= set(CALIBRATED):
        raise CalibrationError(
            f"flavours are {tuple(flavours)} and precisions are {tuple(precisions)}, expected "
            "'ort', 'trt' or both, and 'int8', 'fp16' or both."
        )
    if weight_bits == 7 and not ("ort" in flavours and "int8" in precisions):
        raise CalibrationError(
            f"7 bits are those of int8 weights of the flavour ort, and {tuple(precisions)} of "
            f"{tuple(flavours)} are wanted. Leave the bits out, or calibrate int8 for ort."
        )


def _check_room(
    bundle: Bundle, flavours: Sequence[Flavour], precisions: Sequence[Precision]
) -> None:
    full = bundle.size_bytes("fp32")
    graphs = len(flavours) * sum(full * _SHARE_OF_FP32[precision] for precision in precisions)
    check_room(bundle.path, int(graphs), f"the graphs of {' and '.join(precisions)}")
    check_temporary_room(_TEMPORARY_COPIES * full, "the files that quantising takes meanwhile")


def _networks(bundle: Bundle) -> tuple[Subnet, ...]:
    """Return the graphs that are converted; the others are composed of them."""
    task: Subnet = bundle.manifest.task_format.runtime_graph
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
    weight_bits: WeightBits,
    say: Callable[[str], None],
) -> dict[GraphName, bytes]:
    """Return the graphs of one precision in one flavour."""
    quantize = (
        partial(quantize_graph, weight_bits=weight_bits) if flavour == "ort" else quantize_symmetric
    )
    halve = to_fp16 if flavour == "ort" else to_half
    graphs: dict[GraphName, bytes] = {}
    for subnet in _networks(bundle):
        bits = " with weights of 7 bits" if weight_bits == 7 else ""
        say(f"converting the {subnet} network to {_label(flavour, precision)}{bits}")
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


def _record(
    samples: Samples, source: str, levels: MapLevels, weight_bits: WeightBits
) -> dict[str, Any]:
    return Calibration(
        source=printable(hide_credentials(source))[:4096],
        sha256=samples.digest,
        clips=samples.clip_count,
        pairs=sum(samples.pairs_by_distance.values()),
        frames=len(samples.half),
        max_distance=max(samples.pairs_by_distance),
        date=date_of_record(),
        versions={
            "dff_edge": __version__,
            **{name: version(name) for name in ("onnx", "onnxruntime")},
        },
        weight_bits=weight_bits,
        features=ByteLevels(step=levels.features.step, zero=levels.features.zero),
        scale=ByteLevels(step=levels.scale.step, zero=levels.scale.zero),
    ).model_dump(mode="json")
