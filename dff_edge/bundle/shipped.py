"""The models that come with dff-edge, by name: where their bundles are.

Bundles are not shipped: one is exported where torch is installed when it is first wanted, and kept
beside the engines of this machine (``DFF_EDGE_CACHE``). The export is ``dff_edge.zoo``'s, which the
runtime asks for by its name at that time only: a device has neither it nor torch.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
from collections.abc import Callable
from pathlib import Path

import dff_edge
from dff_edge import __version__
from dff_edge.bundle.manifest import SCHEMA_VERSION
from dff_edge.errors import BundleError
from dff_edge.files.cache_folder import default_cache_folder
from dff_edge.files.staging import remove_abandoned

MODELS = Path(dff_edge.__file__).parent / "models"
CARD, WEIGHTS = "card.json", "weights.safetensors"
NEW = ".new-"  # in front of the name of a folder that a bundle is exported into
_LOG = logging.getLogger("dff_edge.zoo")


def shipped_models() -> tuple[str, ...]:
    """Name the models that come with this build."""
    return tuple(sorted(path.parent.name for path in MODELS.glob(f"*/{CARD}")))


def find_bundle(name: str | Path, say: Callable[[str], None] | None = None) -> Path:
    """Find a bundle's folder: a path, or the name of a model that comes with dff-edge.

    A bundle in a folder of that name goes before the model, with a warning. The bundle of a model
    is exported when it is first wanted, which takes torch and about a minute, and kept in the
    cache; what is added to it there (`dff-edge calibrate street`) stays.

    Args:
        name: as a user wrote it.
        say: called with a line for each step of an export; None has them logged.

    Raises:
        BundleError: there is neither such a folder nor such a model, or the cache cannot be
            written.
        MissingDependencyError: it has to be exported, and what that takes is not installed.
    """
    path = Path(name)
    is_shipped = str(name) in shipped_models()
    if (path / "manifest.json").is_file():
        if is_shipped:
            _LOG.warning(
                "'%s' is taken for the bundle in the folder %s, not for the model of that name "
                "that comes with dff-edge. Run this in another folder to have the model.",
                name,
                path.absolute(),
            )
        return path
    if is_shipped:
        return _cached(str(name), _LOG.warning if say is None else say)
    if not path.is_dir():
        raise BundleError(
            f"'{name}' is no folder and no model that comes with dff-edge, expected a bundle, "
            f"which `dff-edge export` writes, or one of {', '.join(shipped_models())}."
        )
    return path  # a folder that is no bundle: opening it says what it lacks


def cached_folder(name: str) -> Path:
    """Return where the bundle of a shipped model is, or will be when it has been exported."""
    # By the weights, and by the version and the schema of what exports them.
    digest = hashlib.sha256((MODELS / name / WEIGHTS).read_bytes()).hexdigest()
    made_by = f"{__version__}-{SCHEMA_VERSION}"
    return default_cache_folder() / "bundles" / f"{name}-{made_by}-{digest[:16]}"


def _cached(name: str, say: Callable[[str], None]) -> Path:
    folder = cached_folder(name)
    remove_abandoned(folder.parent, NEW)  # of a first use that was killed
    if not folder.is_dir():
        importlib.import_module("dff_edge.zoo").export_model(name, folder, say)
    return folder
