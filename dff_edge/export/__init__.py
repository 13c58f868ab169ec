"""From a checkpoint to a bundle of ONNX graphs."""

from dff_edge.export.export import export_bundle

__all__ = ["export_bundle"]
