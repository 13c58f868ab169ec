"""The native warp against its alternatives, and against the memory that it must move.

warp_speedup     ONNX Runtime GridSample + Mul time / native time; float32, 1024 x 32 x 64
portable_warp_speedup  the same against dff::Warp of the bundle in standard operators, which takes
                 the channels-last maps that the subnets give
warp_over_copy   native time / time of a copy that moves as many bytes as the warp must read and
                 write, over maps that are together larger than any cache, same threads

speedup_limit    what warp_speedup would be if the warp took no longer than that copy

The copy is of half as many bytes as that, since it reads and writes each. GridSample gets its
inputs as it likes them, channels-first; no transpose is timed. OpenVINO runs the same graph where
it is installed. Everything uses --threads threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
from _common import interleaved_ms, openvino_job, parser, report
from onnx import helper

from dff_edge import _native
from dff_edge.bundle.levels import Levels, MapLevels
from dff_edge.export.warp_function import DOMAIN, NAME, warp_function
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.kernels.warp import warp_features

CHANNELS, HEIGHT, WIDTH = 1024, 32, 64
MAPS = 48  # 384 MB each of features, scale field and output
LEVELS = MapLevels(Levels(0.1, 0), Levels(1 / 64, 0))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=15)
    options = arguments.parse_args()
    threads = options.threads
    rng = np.random.default_rng(0)
    shape = (1, HEIGHT, WIDTH, CHANNELS)
    features, scale = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    flow = rng.uniform(-3, 3, (1, HEIGHT, WIDTH, 2)).astype(np.float32)
    out = np.empty_like(features)
    bytes_, scale_bytes = LEVELS.features.quantize(np.abs(features)), LEVELS.scale.quantize(scale)
    bytes_out = np.empty_like(bytes_)

    graph = grid_sample_graph()
    inputs = grid_sample_inputs(features, flow, scale)
    last = {"features": features, "flow": flow, "scale": scale}
    with (
        OrtEngine(graph, name="GridSample", threads=threads) as engine,
        OrtEngine(portable_graph(), name="dff::Warp", threads=threads) as portable,
    ):
        sampled = {name: spec.empty() for name, spec in engine.outputs.items()}
        warped_last = {name: spec.empty() for name, spec in portable.outputs.items()}
        jobs: dict[str, Callable[[], object]] = {
            "ONNX Runtime GridSample + Mul": lambda: engine.run(inputs, sampled),
            "ONNX Runtime dff::Warp": lambda: portable.run(last, warped_last),
            "native float32": lambda: warp_features(
                features, flow, scale, out=out, threads=threads
            ),
            "native bytes": lambda: warp_features(
                bytes_, flow, scale_bytes, levels=LEVELS, out=bytes_out, threads=threads
            ),
        }
        openvino = openvino_job(graph, inputs, threads)
        if openvino is not None:
            jobs["OpenVINO GridSample + Mul"] = openvino
        times = interleaved_ms(jobs, repetitions=options.repetitions, warmup=2)
        warped = warp_features(features, flow, scale).transpose(0, 3, 1, 2)
        error = float(np.abs(sampled["warped"] - warped).max())
    cold = cold_times(features, flow, scale, threads, options.repetitions)
    report(
        {
            "warp_speedup": times["ONNX Runtime GridSample + Mul"] / times["native float32"],
            "portable_warp_speedup": times["ONNX Runtime dff::Warp"] / times["native float32"],
            "warp_over_copy": cold["warp"] / cold["copy"],
            "speedup_limit": times["ONNX Runtime GridSample + Mul"] / (cold["copy"] / MAPS),
            "bytes_over_float": times["native bytes"] / times["native float32"],
        },
        {
            "instruction set": _native.simd(),
            **{f"{name}, ms": round(value, 3) for name, value in times.items()},
            **{f"{name} of {MAPS} maps, ms": round(value, 1) for name, value in cold.items()},
            "largest difference to ONNX Runtime": error,
            "OpenVINO": "as above" if openvino is not None else "not installed",
        },
        options.json,
    )


def cold_times(
    features: np.ndarray, flow: np.ndarray, scale: np.ndarray, threads: int, repetitions: int
) -> dict[str, float]:
    """One warp of many maps, and the copy that moves as many bytes."""
    maps = [np.repeat(array, MAPS, axis=0) for array in (features, flow, scale)]
    out = np.empty_like(maps[0])
    moved = sum(array.nbytes for array in (*maps, out))
    # Read from one map and write to another: no part is in a cache already.
    source, target = maps[2].reshape(-1).view(np.uint8), out.reshape(-1).view(np.uint8)
    copies = -(-moved // 2 // source.nbytes)
    share = moved // 2 // copies // threads

    with ThreadPoolExecutor(threads) as pool:

        def copy_part(part: int) -> None:
            at = slice(part * share, (part + 1) * share)
            np.copyto(target[at], source[at])

        def copy() -> None:
            for _ in range(copies):
                list(pool.map(copy_part, range(threads)))

        jobs = {"warp": lambda: warp_features(*maps, out=out, threads=threads), "copy": copy}
        return interleaved_ms(jobs, repetitions=repetitions)


def grid_sample_graph() -> bytes:
    """features (1, C, h, w), grid (1, h, w, 2), scale (1, C, h, w) to warped (1, C, h, w)."""

    def value(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    maps = (1, CHANNELS, HEIGHT, WIDTH)
    nodes = [
        helper.make_node(
            "GridSample",
            ["features", "grid"],
            ["sampled"],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=0,
        ),
        helper.make_node("Mul", ["sampled", "scale"], ["warped"]),
    ]
    graph = helper.make_graph(
        nodes,
        "warp",
        [value("features", *maps), value("grid", 1, HEIGHT, WIDTH, 2), value("scale", *maps)],
        [value("warped", *maps)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def portable_graph() -> bytes:
    """The bundle's warp in standard operators, alone; channels-last."""
    maps = (1, HEIGHT, WIDTH, CHANNELS)
    shapes = {"features": maps, "flow": (1, HEIGHT, WIDTH, 2), "scale": maps, "warped": maps}
    values = {
        name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    warped = values.pop("warped")
    node = helper.make_node(NAME, list(values), ["warped"], domain=DOMAIN)
    graph = helper.make_graph([node], "warp", list(values.values()), [warped])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    function = warp_function((HEIGHT, WIDTH), 17)
    model = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def grid_sample_inputs(
    features: np.ndarray, flow: np.ndarray, scale: np.ndarray
) -> dict[str, np.ndarray]:
    """The same maps channels-first, and the flow as a grid."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    cells = np.stack([columns, rows], axis=-1)[None] + flow
    grid = (2 * cells + 1) / np.array([WIDTH, HEIGHT], np.float32) - 1
    planes = [np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in (features, scale)]
    return {"features": planes[0], "grid": grid.astype(np.float32), "scale": planes[1]}


if __name__ == "__main__":
    main()
