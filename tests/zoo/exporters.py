"""Exporters that take no time, and machines without one."""

from dff_edge.errors import MissingDependencyError
from tests.bundle.bundles import make_bundle

BLOCK_EXPORT = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "onnxscript"):
            raise ImportError(f"{name} is blocked by the test")
sys.meta_path.insert(0, Blocker())
"""


def export_quickly(checkpoint, output, *, command, progress):
    """Make the bundle that export would write by hand, in the model's frame size."""
    assert command == f"dff-edge export {checkpoint.name}"
    progress("exporting")
    make_bundle(output, checkpoint.config.frame_size)


def nothing_is_installed(module, *, extra, purpose):
    raise MissingDependencyError(f"{purpose} needs '{module}'.")
