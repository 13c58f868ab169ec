"""Atomic replacement of a bundle's files: after any failure there is the old one or the new one.

1. The files, the new manifest and a copy of the old one are in a staging folder, on the disk.
2. ``.staging-<random>`` is renamed to ``.commit``. From here on the new bundle is there: its files
   are looked up in ``.commit`` first (``folder``).
3. Each file is moved to its place, the manifest last; files of the old bundle are removed.
4. ``.commit`` is removed.

A process killed (or a power failure) before 2 leaves the old bundle, later the new one. The
next writer finishes 3 and 4.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

from dff_edge.bundle.folder import BundleFolder
from dff_edge.bundle.manifest import Manifest
from dff_edge.bundle.paths import COMMITTED_NAME, MANIFEST_NAME, REPLACED_NAME
from dff_edge.files.atomic import sync_folder
from dff_edge.files.staging import rename_durably, sync_folders, write_durably


def publish(root: Path, staging: Path, manifest: bytes, replaced: bytes | None) -> None:
    """Replace the bundle by a staging folder's files. No other commit may be under way.

    Args:
        root: the bundle's folder.
        staging: in it, with new files in their places, each of them on the disk.
        manifest: the new one.
        replaced: the manifest of the existing bundle.

    Raises:
        OSError: the existing bundle is unchanged.
    """
    write_durably(staging / MANIFEST_NAME, manifest)
    if replaced is not None:
        write_durably(staging / REPLACED_NAME, replaced)
    sync_folders(staging)
    rename_durably(staging, root / COMMITTED_NAME)
    sync_folder(root.parent)  # of a new bundle, its name


def finish(root: Path) -> None:
    """Finish an interrupted commit, if there is one. No other one may be under way.

    Raises:
        OSError: a file cannot be moved or removed. The new bundle is there nevertheless.
        BundleError: the commit is damaged.
    """
    folder = BundleFolder(root)
    committed = folder.committed
    if not committed.is_dir() or committed.is_symlink():
        return
    manifest = Manifest.parse(folder.manifest_bytes())
    stale = folder.replaced_files() - manifest.files.keys()
    for name in manifest.files:
        if (committed / name).is_file():
            target = root / PurePosixPath(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(committed / name, target)
    for parent in {(root / PurePosixPath(name)).parent for name in manifest.files}:
        sync_folder(parent)
    if (committed / MANIFEST_NAME).is_file():
        os.replace(committed / MANIFEST_NAME, root / MANIFEST_NAME)
        sync_folder(root)
    for name in sorted(stale):
        target = root / PurePosixPath(name)
        target.unlink(missing_ok=True)
        for parent in target.parents:
            if parent == root or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()
    sync_folder(root)
    shutil.rmtree(committed)
    sync_folder(root)
