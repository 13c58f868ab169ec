"""Bundles written piece by piece, for the tests of their writer."""

from __future__ import annotations

from pathlib import Path

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.writer import BundleWriter
from dff_edge.names import Precision
from tests.bundle.bundles import (
    make_graphs,
    make_tensorrt_graphs,
    manifest_fields,
)


def add_precision(writer: BundleWriter, precision: Precision, seed: int, subnets: int = 3) -> None:
    for subnet, data in list(make_graphs(seed=seed, as_=precision).items())[:subnets]:
        writer.add_graph(precision, subnet, data)


def with_tensorrt(path: Path, seed: int = 0) -> Bundle:
    """An fp32 bundle with graphs for TensorRT, of weights of their own where the seed differs."""
    with BundleWriter.create(path) as writer:
        add_precision(writer, "fp32", seed=0, subnets=4)
        for graph, data in make_tensorrt_graphs(seed=seed).items():
            writer.add_graph("fp32", graph, data, "trt")
        writer.update(**manifest_fields())
        return writer.commit()


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
