"""The build backend: scikit-build-core, asked only where there is what a build needs.

Pip asks first of all what a build requires, before it downloads or builds anything, so that a
machine without a compiler, or with bundles that are not those of the models' weights, is told so at
once and in a sentence.

One setting is ours: ``-C bundles=all`` refuses to build a wheel without ready bundles, and
``-C bundles=none`` leaves them out. Without it a checkout that has none builds a wheel that has
none, and one that has some needs all of them.
"""

from __future__ import annotations

import os
from typing import Any

import check_bundles
import check_compiler
from scikit_build_core import build
from scikit_build_core.build import *  # noqa: F403  (the hooks that are not below)

Settings = dict[str, Any]

# Who chooses a compiler through CMake is left to it.
_CHOICES = ("CMAKE_CXX_COMPILER", "CMAKE_TOOLCHAIN_FILE")
# Of a model's folder, what a device does not need, and where there are none the bundle.
_NOT_CARRIED, _BUNDLES = "**/models/*/calibration/**", "**/models/*/bundle/**"


def get_requires_for_build_wheel(config_settings: Settings | None = None) -> list[str]:
    """Return what the build of a wheel requires; see PEP 517."""
    theirs = _settings(config_settings)
    _look(config_settings)
    if _has_bundles(config_settings):
        check_bundles.check()
    return build.get_requires_for_build_wheel(theirs)


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: Settings | None = None
) -> str:
    """Write the metadata of a wheel; see PEP 517."""
    return build.prepare_metadata_for_build_wheel(metadata_directory, _settings(config_settings))


def build_wheel(
    wheel_directory: str,
    config_settings: Settings | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build a wheel with the models that it may carry and their bundles; see PEP 517."""
    if _has_bundles(config_settings):
        check_bundles.check()
    return build.build_wheel(wheel_directory, _settings(config_settings), metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Settings | None = None) -> str:
    """Build an sdist, which holds the bundles for the wheels that are built from it."""
    if _has_bundles(config_settings):
        check_bundles.check()
    return build.build_sdist(sdist_directory, _settings(config_settings))


def get_requires_for_build_editable(config_settings: Settings | None = None) -> list[str]:
    """Return what an editable build requires; see PEP 660."""
    _look(config_settings)
    return build.get_requires_for_build_editable(_settings(config_settings))


def prepare_metadata_for_build_editable(
    metadata_directory: str, config_settings: Settings | None = None
) -> str:
    """Write the metadata of an editable wheel; see PEP 660."""
    return build.prepare_metadata_for_build_editable(metadata_directory, _settings(config_settings))


def build_editable(
    wheel_directory: str,
    config_settings: Settings | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build an editable wheel, whose models are those of the checkout; see PEP 660."""
    return build.build_editable(wheel_directory, _settings(config_settings), metadata_directory)


def _has_bundles(config_settings: Settings | None) -> bool:
    """Return whether a build has the ready bundles: as told, or where the checkout has some."""
    told = (config_settings or {}).get("bundles")
    if told not in (None, "all", "none"):
        raise SystemExit(f"-C bundles={told}: expected all or none.")
    return told == "all" or (told is None and check_bundles.are_made())


def _settings(config_settings: Settings | None) -> Settings:
    """Return the settings of scikit-build-core, with the models that a wheel leaves out."""
    left_out = [f"**/models/{name}/**" for name in check_bundles.left_out()] + [_NOT_CARRIED]
    if not _has_bundles(config_settings):
        left_out.append(_BUNDLES)
    settings = {key: value for key, value in (config_settings or {}).items() if key != "bundles"}
    named = settings.get("wheel.exclude")
    return {**settings, "wheel.exclude": ";".join(filter(None, (named, *left_out)))}


def _look(config_settings: Settings | None) -> None:
    said = [str(config_settings), *(f"{key}={value}" for key, value in os.environ.items())]
    if not any(choice in text for choice in _CHOICES for text in said):
        check_compiler.check()
