"""The build backend: scikit-build-core, asked only where there is a compiler.

Pip asks first of all what a build requires, before it downloads or builds anything, so that a
machine without a compiler is told so at once and in a sentence.
"""

from __future__ import annotations

import os
from typing import Any

from check_compiler import check
from scikit_build_core import build
from scikit_build_core.build import *  # noqa: F403  (the other hooks)

# Who chooses a compiler through CMake is left to it.
_CHOICES = ("CMAKE_CXX_COMPILER", "CMAKE_TOOLCHAIN_FILE")


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """Return what the build of a wheel requires; see PEP 517."""
    _look(config_settings)
    return build.get_requires_for_build_wheel(config_settings)


def get_requires_for_build_editable(config_settings: dict[str, Any] | None = None) -> list[str]:
    """Return what an editable build requires; see PEP 660."""
    _look(config_settings)
    return build.get_requires_for_build_editable(config_settings)


def _look(config_settings: dict[str, Any] | None) -> None:
    said = [str(config_settings), *(f"{key}={value}" for key, value in os.environ.items())]
    if not any(choice in text for choice in _CHOICES for text in said):
        check()
