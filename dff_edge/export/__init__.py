"""Export: a bundle of ONNX graphs from a checkpoint."""

from dff_edge.export.export import export_bundle

__all__ = ["export_bundle"]
