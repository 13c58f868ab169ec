"""Add int8 and fp16 graphs to a bundle, from clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dff_edge import __version__
from dff_edge.calibration.byte_maps import find_map_levels
from dff_edge.calibration.clips import Clip
from dff_edge.calibration.fp16 import to_fp16
from dff_edge.calibration.quantize import quantize_graph
from dff_edge.calibration.samples import Arrays, Samples, collect_samples
from dff_edge.calibration.tidy import propagate_with
from dff_edge.runtime.bundle import Bundle
from dff_edge.runtime.bundle_writer import BundleWriter
from dff_edge.runtime.contract import MapLevels, Precision, Subnet
from dff_edge.runtime.engine import OrtEngine
from dff_edge.runtime.errors import CalibrationError
from dff_edge.runtime.manifest import ByteLevels, Calibration, Parity

# A graph with a larger error is broken, not coarse: measured are 0.02 to 0.15 for int8 and
# 1e-3 for fp16.
_TOLERANCES: Mapping[Precision, float] = {"int8": 0.5, "fp16": 0.02}
_COMPARED_SAMPLES = 8
_NETWORKS: tuple[Subnet, ...] = ("feature", "flow", "task")


def calibrate_bundle(
    bundle_path: str | Path,
    clips: Sequence[Clip],
    *,
    source: str,
    interval: int | None = None,
    max_keys: int = 32,
    pairs_per_key: int = 3,
    flavour: Literal["ort"] = "ort",
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
        flavour: whose rules of quantisation; "ort" for ONNX Runtime.
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
    if flavour != "ort" or not precisions or set(precisions) - {"int8", "fp16"}:
        raise CalibrationError(
            f"flavour is {flavour!r} and precisions are {tuple(precisions)}, expected 'ort', and "
            "'int8', 'fp16' or both."
        )
    with BundleWriter.extend(bundle_path) as writer:
        bundle = Bundle.open(bundle_path)
        manifest = bundle.manifest
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
        for precision in precisions:
            levels = find_map_levels(bundle, samples) if precision == "int8" else None
            graphs = _convert(bundle, samples, precision, levels, say)
            say(f"comparing {precision} with fp32")
            for subnet in _NETWORKS:
                parity += _compare(bundle, samples, precision, subnet, graphs[subnet], levels)
            for subnet, data in graphs.items():
                writer.add_graph(precision, subnet, data)
            if levels is not None:
                record = _record(samples, source, flavour, levels)
                writer.update(calibration={precision: record})
        writer.update(parity=parity)
        extended = writer.commit()
    for precision in precisions:
        worst = max(parity, key=lambda r: (r.precision == precision, r.relative_error))
        say(
            f"wrote {precision}, {extended.size_bytes(precision) / 1e6:.1f} MB: largest error "
            f"against fp32 {worst.relative_error:.1%} of the range ({worst.output})"
        )
    return extended


def _convert(
    bundle: Bundle,
    samples: Samples,
    precision: Precision,
    levels: MapLevels | None,
    say: Callable[[str], None],
) -> dict[Subnet, bytes]:
    """Give the graphs of one precision."""
    graphs: dict[Subnet, bytes] = {}
    for subnet in _NETWORKS:
        say(f"converting the {subnet} network to {precision}")
        fp32 = bundle.graph_bytes("fp32", subnet)
        if levels is not None:
            graphs[subnet] = quantize_graph(fp32, _inputs(bundle, samples, subnet), levels)
        else:
            graphs[subnet] = to_fp16(fp32)
    graphs["propagate"] = propagate_with(
        bundle.graph_bytes("fp32", "propagate"), graphs["task"], levels
    )
    return graphs


def _inputs(bundle: Bundle, samples: Samples, subnet: Subnet) -> Iterable[Arrays]:
    if subnet == "feature":
        return samples.feature_inputs()
    if subnet == "flow":
        return samples.flow_inputs()
    return samples.task_inputs(bundle)


def _compare(
    bundle: Bundle,
    samples: Samples,
    precision: Precision,
    subnet: Subnet,
    graph: bytes,
    levels: MapLevels | None,
) -> list[Parity]:
    """Measure how far a graph is from its fp32 form, on some of the samples."""
    by_name = {} if levels is None else {"features": levels.features, "scale": levels.scale}
    tolerance = _TOLERANCES[precision]
    records: list[Parity] = []
    with (
        OrtEngine(bundle.graph_bytes("fp32", subnet), name=f"fp32 {subnet}") as reference,
        OrtEngine(graph, name=f"{precision} {subnet}") as engine,
    ):
        expected = {name: spec.empty() for name, spec in reference.outputs.items()}
        found = {name: spec.empty() for name, spec in engine.outputs.items()}
        errors, sizes = dict.fromkeys(expected, 0.0), dict.fromkeys(expected, 0.0)
        for inputs in islice(_inputs(bundle, samples, subnet), _COMPARED_SAMPLES):
            reference.run(inputs, expected)
            given = {
                name: by_name[name].bytes(array) if name in by_name else array
                for name, array in inputs.items()
            }
            engine.run(given, found)
            for name, array in expected.items():
                values = by_name[name].values(found[name]) if name in by_name else found[name]
                # np.maximum keeps NaN, which max() would lose.
                error = np.max(np.abs(values.astype(np.float64) - array))
                errors[name] = float(np.maximum(errors[name], error))
                sizes[name] = max(sizes[name], float(np.max(np.abs(array))))
    for name, error in errors.items():
        relative = error / sizes[name] if sizes[name] > 0 else error
        if not relative <= tolerance:  # negated: NaN fails
            raise CalibrationError(
                f"The {precision} {subnet} graph is broken: '{name}' differs from fp32 by "
                f"{relative:.3g} of its range, expected at most {tolerance}. The bundle was left "
                "as it was. Are the clips like what the model was trained on?"
            )
        records.append(
            Parity(
                precision=precision,
                subnet=subnet,
                output=name,
                inputs="calibration frames, against fp32",
                tolerance=tolerance,
                max_abs_error=error,
                relative_error=relative,
            )
        )
    return records


def _record(
    samples: Samples, source: str, flavour: Literal["ort"], levels: MapLevels
) -> dict[str, Any]:
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
