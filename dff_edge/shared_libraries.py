"""Shared libraries that do not load: the missing parts, and the command that adds them.

Imports the standard library only: the doctor must work where nothing else loads. Run as a script,
by `make install`, it checks the libraries for OpenCV's windows, before anything is downloaded.
"""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import dataclass

# Libraries that wheels expect of the system, and the packages of Debian and Ubuntu with them.
_APT = {
    "libgomp.so.1": "libgomp1",
    "libstdc++.so.6": "libstdc++6",
    "libusb-1.0.so.0": "libusb-1.0-0",
}
# Needed by opencv-python for its windows. A bare system lacks all of them, so all are named.
_WINDOW_LIBRARIES = (
    "libGL.so.1",
    "libICE.so.6",
    "libSM.so.6",
    "libX11.so.6",
    "libXext.so.6",
    "libglib-2.0.so.0",
    "libgthread-2.0.so.0",
    "libxcb.so.1",
)
WINDOW_PACKAGES = ("libgl1", "libglib2.0-0", "libsm6", "libxext6")  # these install the others
_DRIVER_LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1")


@dataclass(frozen=True)
class LoadProblem:
    """Reason why the system's loader refused a library.

    Attributes:
        text: the problem, the beginning of a sentence.
        fix: the command that repairs it.
    """

    text: str
    fix: str


def load_problem(error: str, module: str, distribution: str) -> LoadProblem | None:
    """Return why a library did not load.

    Args:
        error: the message of the failed import.
        module: the imported module.
        distribution: the distribution of the module.

    Returns:
        None for another kind of failure.
    """
    if found := re.search(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object", error):
        return LoadProblem(
            f"The system lacks the library {found[1]}", _package_with(found[1], distribution)
        )
    if found := re.search(r"(\S+): version [`'](GLIBC|GLIBCXX|CXXABI)_([\d.]+)' not found", error):
        library, kind, version = found.groups()
        return LoadProblem(
            f"{library} is older than the one that {module} was built with ({kind}_{version})",
            _older_build(module, distribution, kind),
        )
    if found := re.search(r"(\S+\.so[\w.-]*): cannot allocate memory in static TLS", error):
        return LoadProblem(
            f"{found[1]} must be loaded before other libraries", f"export LD_PRELOAD={found[1]}"
        )
    return None


def _package_with(library: str, distribution: str) -> str:
    if library in _DRIVER_LIBRARIES:
        return (
            "sudo apt-get install nvidia-driver"
            "   # the NVIDIA driver; into a container it comes by: docker run --gpus all"
        )
    if library in _WINDOW_LIBRARIES:
        apt = f"sudo apt-get install {' '.join(WINDOW_PACKAGES)}"
        if not distribution.startswith("opencv") or distribution.endswith("headless"):
            return apt
        return (
            f"{apt}   # or do without windows: "
            f"pip uninstall -y {distribution} && pip install {distribution}-headless"
        )
    if library in _APT:
        return f"sudo apt-get install {_APT[library]}"
    return f"sudo apt-get install apt-file && sudo apt-file update && apt-file search {library}"


def _older_build(module: str, distribution: str, kind: str) -> str:
    if module.startswith("dff_edge"):
        return "pip install --force-reinstall --no-deps .   # in dff-edge's folder: built here"
    if kind == "GLIBC":
        return f"pip index versions {distribution}   # an older one, or a newer system"
    return "sudo apt-get install libstdc++6   # conda: conda install libstdcxx-ng; else build it"


def missing_for_windows() -> list[str]:
    """Return the system libraries that OpenCV with windows needs and does not find."""
    missing = []
    for library in _WINDOW_LIBRARIES:
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(library)
    return missing


if __name__ == "__main__":
    if sys.platform == "linux" and (lacking := missing_for_windows()):
        sys.exit(
            f"The system lacks {', '.join(lacking)}, which OpenCV's windows need. Add them with: "
            f"sudo apt-get install {' '.join(WINDOW_PACKAGES)}"
        )
