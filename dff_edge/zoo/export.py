"""The export of a shipped model's bundle, where the ready one lacks what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dff_edge.bundle import shipped
from dff_edge.bundle.shipped import NEW
from dff_edge.errors import BundleError, MissingDependencyError, require
from dff_edge.files.cache_folder import CACHE_VARIABLE
from dff_edge.files.staging import Workplace, rename_durably


def export_model(name: str, folder: Path, say: Callable[[str], None]) -> None:
    """Export a shipped model's bundle; of two exports at once, the later uses the first's.

    Args:
        name: the model's.
        folder: where the bundle will be.
        say: called with a line for each step.

    Raises:
        BundleError: the folder cannot be written.
        MissingDependencyError: a package for the export is not installed.
    """
    try:
        for module in ("torch", "onnx", "onnxscript", "onnxruntime"):
            require(module, extra="export", purpose=f"The export of the model '{name}'")
    except MissingDependencyError as error:
        ready = shipped.ready_precisions(name)
        here = f" Without it, run '{name}' with --precision {' or '.join(ready)}." if ready else ""
        raise MissingDependencyError(
            f"{error}{here} Or export it on another machine, `dff-edge export {name} -o "
            f"{name}-bundle`, copy that folder here and name it."
        ) from error
    from dff_edge.export import export_bundle
    from dff_edge.trainer.checkpoint import load_checkpoint

    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        workplace = Workplace(folder.parent, NEW, 0o700)
    except OSError as error:
        raise BundleError(
            f"the model '{name}' is exported to {folder.parent} when its bundle is not ready, and "
            f"that cannot be written: {error.strerror}. Name another folder in {CACHE_VARIABLE}, "
            f"or export it where there is room, `dff-edge export {name} -o {name}-bundle`, and "
            "name that folder."
        ) from error
    with workplace as staged:
        say(f"exporting the model {name} to {folder}, once")
        export_bundle(
            load_checkpoint(shipped.MODELS / name),
            staged.path / name,
            command=f"dff-edge export {name}",
            progress=say,
        )
        try:
            rename_durably(staged.path / name, folder)
        except OSError:  # another export was first
            if not folder.is_dir():
                raise
