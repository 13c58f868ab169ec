"""Models that come with dff-edge, by name, and the folders of their bundles.

A model has up to two bundles. The ready one lies beside its weights (``models/NAME/bundle``): a
wheel carries it, `make bundles` writes it, and nothing changes it where dff-edge is installed. The
other one is this machine's own, in the cache (``DFF_EDGE_CACHE``): it is exported from the weights
where torch is installed, when the ready one lacks what is wanted, and `dff-edge calibrate` adds to
it. The export belongs to ``dff_edge.zoo``, which the runtime imports by name only then: a device
needs neither it nor torch.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
from collections.abc import Callable, Collection
from pathlib import Path

import dff_edge
from dff_edge import __version__
from dff_edge.bundle.folder import BundleFolder
from dff_edge.bundle.manifest import SCHEMA_VERSION, Manifest
from dff_edge.errors import BundleError
from dff_edge.files.cache_folder import default_cache_folder
from dff_edge.files.staging import remove_abandoned
from dff_edge.names import PRECISIONS, Flavour, Precision

MODELS = Path(dff_edge.__file__).parent / "models"
CARD, WEIGHTS, READY = "card.json", "weights.safetensors", "bundle"
NEW = ".new-"  # in front of the name of a folder that a bundle is exported into
_LOG = logging.getLogger("dff_edge.zoo")


def shipped_models() -> tuple[str, ...]:
    """Return the names of the models that come with this build."""
    return tuple(sorted(path.parent.name for path in MODELS.glob(f"*/{CARD}")))


def find_bundle(
    name: str | Path,
    say: Callable[[str], None] | None = None,
    *,
    holding: Collection[Precision] = (),
    flavour: Flavour = "ort",
    to_change: bool = False,
) -> Path:
    """Find a bundle's folder: a path, or the name of a model that comes with dff-edge.

    A bundle in a folder of that name takes precedence over the model, with a warning. Of a model,
    this machine's own bundle comes first, to which the user has added, then the ready one; where
    neither holds what is wanted, its own is exported, which needs torch and about a minute.

    Args:
        name: as given by the user.
        say: called with a line for each step of an export; None logs them.
        holding: precisions that a model's bundle has to hold. One that is exported holds fp32:
            opening it reports what else it lacks.
        flavour: of these precisions.
        to_change: whether something will be written into the bundle, which the ready one is not
            for.

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
        say = _LOG.warning if say is None else say
        return _of_model(str(name), say, frozenset(holding), flavour, to_change)
    if not path.is_dir():
        raise BundleError(
            f"'{name}' is no folder and no model that comes with dff-edge, expected a bundle, "
            f"which `dff-edge export` writes, or one of {', '.join(shipped_models())}."
        )
    return path  # a folder that is no bundle: opening it reports what is missing


def cached_folder(name: str) -> Path:
    """Return the folder of a model's own bundle here, which is there once it has been exported."""
    # The name depends on the weights, and on the version and the schema of the export.
    made_by = f"{__version__}-{SCHEMA_VERSION}"
    return default_cache_folder() / "bundles" / f"{name}-{made_by}-{_digest(name)[:16]}"


def ready_folder(name: str) -> Path | None:
    """Return the folder of a model's ready bundle; None where there is none of its weights."""
    folder = MODELS / name / READY
    if not (folder / "manifest.json").is_file():
        return None
    try:
        made_from = _manifest(folder).provenance.checkpoint_sha256
    except BundleError as error:
        _LOG.warning("%s is not used: %s", folder, error)
        return None
    if made_from != _digest(name):
        _LOG.warning(
            "%s is not used: it was made from other weights than those of '%s' that are there "
            "now. In a checkout, `make bundles` makes it again.",
            folder,
            name,
        )
        return None
    return folder


def ready_precisions(name: str, flavour: Flavour = "ort") -> tuple[Precision, ...]:
    """Return the precisions that a model runs in here without an export, fp32 first."""
    folders = [ready_folder(name), cached_folder(name)]
    held = {p for folder in folders if folder is not None for p in _held(folder, flavour)}
    return tuple(precision for precision in PRECISIONS if precision in held)


def _of_model(
    name: str,
    say: Callable[[str], None],
    holding: frozenset[Precision],
    flavour: Flavour,
    to_change: bool,
) -> Path:
    own = cached_folder(name)
    remove_abandoned(own.parent, NEW)  # left by a first use that was killed
    if not to_change:
        for folder in (own, ready_folder(name)):
            if folder is not None and folder.is_dir() and holding <= _held(folder, flavour):
                return folder
    if not own.is_dir():
        importlib.import_module("dff_edge.zoo.export").export_model(name, own, say)
    return own


def _held(folder: Path, flavour: Flavour) -> frozenset[Precision]:
    """Return the precisions of a bundle; none of one that is not there, or cannot be read."""
    try:
        return frozenset(_manifest(folder).graph_paths(flavour))
    except BundleError:  # opening it says why
        return frozenset()


def _manifest(folder: Path) -> Manifest:
    """Read a manifest, also of a bundle that is being replaced."""
    return Manifest.parse(BundleFolder(folder).manifest_bytes())


def _digest(name: str) -> str:
    return hashlib.sha256((MODELS / name / WEIGHTS).read_bytes()).hexdigest()
