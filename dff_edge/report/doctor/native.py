"""The native parts for NVIDIA GPUs: whether they were built, beside the native module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dff_edge.report.doctor.finding import Finding

_PARTS = (  # name, file, variable for another one, CMake's options
    ("CUDA kernels", "libdff_cuda.so", "DFF_CUDA_LIBRARY", "-C cmake.define.DFF_CUDA=ON"),
    (
        "TensorRT plugin",
        "libdff_tensorrt*.so",
        "DFF_TENSORRT_PLUGIN",
        "-C cmake.define.DFF_TENSORRT=ON -C cmake.define.TENSORRT_INCLUDE_DIR=FOLDER",
    ),
)


def gpu_libraries(folder: Path) -> Iterator[Finding]:
    """Yield each library that was built, or how to build it.

    Args:
        folder: of the package ``dff_edge``.
    """
    for name, pattern, variable, options in _PARTS:
        named = os.environ.get(variable)
        built = sorted(file.name for file in folder.glob(pattern))
        if named and Path(named).is_file():
            yield Finding(name, "ok", f"{named} ({variable})")
        elif named:
            yield Finding(name, "missing", f"{variable} names {named}, which is no file")
        elif built:
            yield Finding(name, "ok", ", ".join(built))
        else:
            yield Finding(name, "info", "not built", f"pip install . {options}")
