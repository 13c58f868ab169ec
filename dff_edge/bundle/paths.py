"""Paths of files in a bundle, and the rules for their names."""

from __future__ import annotations

import re

from dff_edge.names import Flavour, GraphName, Precision

MANIFEST_NAME = "manifest.json"

# Where BundleWriter prepares files. Such a folder may be there while a bundle is being
# extended, or after a crash; nothing in it is ever read.
STAGING_PREFIX = ".staging-"

# The folder of prepared files is renamed to this when all of them are there. From then on it is
# the bundle: its manifest and files count, until each has been moved to its place.
COMMITTED_NAME = ".commit"
# In it, the manifest of the replaced bundle, which lists the files to be removed.
REPLACED_NAME = "replaced.json"


def graph_path(precision: Precision, graph: GraphName, flavour: Flavour = "ort") -> str:
    """Return the path of a graph in a bundle: fp32 at the top, others in their folder.

    Graphs for TensorRT lie below ``trt/``, those of fp32 in a folder of their own too.
    """
    if flavour == "trt":
        return f"trt/{precision}/{graph}.onnx"
    return f"{graph}.onnx" if precision == "fp32" else f"{precision}/{graph}.onnx"


def path_problem(path: str) -> str | None:
    """Return what is wrong with the name of a file in a bundle; None if nothing is."""
    if not path or len(path) > 200:
        return "a path of 1 to 200 characters"
    if "\\" in path:
        return "a path without backslashes"
    if path.startswith("/"):
        return "a relative path, not an absolute one"
    if re.match(r"[A-Za-z]:", path):
        return "a relative path, not one with a drive"
    parts = path.split("/")
    if ".." in parts:
        return "a path that stays in the bundle, without '..'"
    if "" in parts or "." in parts:
        return "a normalised path, without '.' and empty parts"
    if len(parts) > 4:
        return "a path of at most 4 parts"
    if not all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", part) for part in parts):
        return "a path of letters, digits, '_', '-', '+' and '.', no part starting with '.'"
    return None
