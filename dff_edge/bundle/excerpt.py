"""A part of a bundle as a bundle of its own: some precisions, for some engines."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from dff_edge.bundle.manifest import Manifest
from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.records import Accuracy, Parity
from dff_edge.bundle.writer import BundleWriter
from dff_edge.names import Flavour, Precision

_OWN = ("schema_version", "graphs", "files", "calibration", "accuracy", "parity")


def write_excerpt(
    bundle: Bundle, output: Path, precisions: Collection[Precision], flavour: Flavour = "ort"
) -> Bundle:
    """Write the graphs of some precisions, with their records, as a bundle.

    Args:
        bundle: the whole one, which is not changed.
        output: folder of the new one; a bundle in it is replaced.
        precisions: precisions that are kept.
        flavour: of the graphs that are kept.

    Returns:
        The new bundle, verified.

    Raises:
        BundleError: the bundle lacks one of the precisions, the new one would hold nothing for ONNX
            Runtime, or the folder cannot be written to.
    """
    manifest = bundle.manifest
    with BundleWriter.create(output, replace=True) as writer:
        for precision in precisions:
            bundle.size_bytes(precision, flavour)  # raises with a list of those that it holds
            for graph in manifest.graph_paths(flavour)[precision]:
                data = bundle.graph_bytes(precision, graph, flavour)
                writer.add_graph(precision, graph, data, flavour)
        fields = {
            name: value
            for name in Manifest.model_fields
            if name not in _OWN and (value := getattr(manifest, name)) is not None
        }
        records = manifest.calibration.get(flavour, {})
        kept = {precision: records[precision] for precision in precisions if precision in records}

        def is_kept(record: Accuracy | Parity) -> bool:
            return record.flavour == flavour and record.precision in precisions

        writer.update(
            **fields,
            calibration={flavour: kept} if kept else {},
            accuracy=[record for record in manifest.accuracy if is_kept(record)],
            parity=[record for record in manifest.parity if is_kept(record)],
        )
        return writer.commit()
