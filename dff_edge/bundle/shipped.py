"""Models that come with dff-edge, by name, and the folders of their bundles.

Bundles are not shipped: one is exported on first use, where torch is installed, and kept
beside the engines of this machine (``DFF_EDGE_CACHE``). The export belongs to ``dff_edge.zoo``,
which the runtime imports by name only then: a device has neither it nor torch.
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
    """Return the names of the models that come with this build."""
    return tuple(sorted(path.parent.name for path in MODELS.glob(f"*/{CARD}")))


def find_bundle(name: str | Path, say: Callable[[str], None] | None = None) -> Path:
    """Find a bundle's folder: a path, or the name of a model that comes with dff-edge.

    A bundle in a folder of that name takes precedence over the model, with a warning. The bundle
    of a model is exported on first use, which needs torch and about a minute, and kept in the
    cache; what is added to it there (`dff-edge calibrate street`) is kept too.

    Args:
        name: as given by the user.
        say: called with a line for each step of an export; None logs them.

    Raises:
        BundleError: there is neither such a folder nor such a model, or the cache cannot be
            written.
        MissingDependencyError: it has to be exported, and a package for that is not installed.
    """
    path = Path(name)
    is_shipped = str(name) in shipped_models()
    if (path / "manifest.json").is_file():
        if is_shipped:
            _LOG.warning(
                "'%s' is used as the bundle in the folder %s, not as the model of that name "
                "that comes with dff-edge. Run this in another folder to use the model.",
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
    return path  # a folder that is no bundle: opening it reports what is missing


def cached_folder(name: str) -> Path:
    """Return the folder of a shipped model's bundle, which is there once it has been exported."""
    # The name depends on the weights, and on the version and the schema of the export.
    digest = hashlib.sha256((MODELS / name / WEIGHTS).read_bytes()).hexdigest()
    made_by = f"{__version__}-{SCHEMA_VERSION}"
    return default_cache_folder() / "bundles" / f"{name}-{made_by}-{digest[:16]}"


def _cached(name: str, say: Callable[[str], None]) -> Path:
    folder = cached_folder(name)
    remove_abandoned(folder.parent, NEW)  # left by a first use that was killed
    if not folder.is_dir():
        importlib.import_module("dff_edge.zoo").export_model(name, folder, say)
    return folder
