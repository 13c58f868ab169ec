"""Whether this machine can build the native code: asked before CMake, which answers with a page.

Run by the build backend and by `make install`; imports the standard library only.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

_COMPILERS = ("c++", "g++", "clang++")  # as CMake looks for them
_PROGRAM = """
#include <charconv>
#include <optional>
#include <thread>
int main() { return std::optional<int>(0).value(); }
"""


def problem() -> str | None:
    """Say what is missing, and how to add it; None where nothing is."""
    named = shlex.split(os.environ.get("CXX", ""))
    if named and shutil.which(named[0]) is None:
        return f"CXX names {named[0]}, which is no program here. Leave CXX out, or name another."
    compiler = named or [name for name in _COMPILERS if shutil.which(name)][:1]
    if not compiler:
        return (
            f"there is no C++ compiler ({', '.join(_COMPILERS)}). Install one: "
            "sudo apt-get install g++   # or name it: CXX=/path/to/it"
        )
    tried = subprocess.run(
        [*compiler, "-std=c++17", "-fsyntax-only", "-x", "c++", "-"],
        input=_PROGRAM,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if tried.returncode:
        said = next((line for line in tried.stderr.splitlines() if "error" in line), tried.stderr)
        return (
            f"{shlex.join(compiler)} does not compile C++17 ({said.strip()}). Install one that "
            "does: sudo apt-get install g++"
        )
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return (
            f"{headers} holds no Python.h. Install the headers of this Python: "
            f"sudo apt-get install python{version}-dev"
        )
    return None


def check() -> None:
    """End the process with a sentence where something is missing."""
    found = problem()
    if found is not None:
        sys.exit(f"dff-edge has native code to build, and {found}")


if __name__ == "__main__":
    check()
