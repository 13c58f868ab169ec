"""File names of a bundle: plain ones are taken, others never reach the file system."""

from __future__ import annotations

import pytest

from dff_edge.bundle.paths import path_problem
from dff_edge.errors import BundleError
from tests.bundle.manifests import FILE, FP32, parse

BAD_PATHS = {
    "../feature.onnx": "stays in the bundle",
    "int8/../../x.onnx": "stays in the bundle",
    "/etc/passwd": "not an absolute one",
    "int8\\feature.onnx": "without backslashes",
    "C:/x.onnx": "not one with a drive",
    "c:x.onnx": "not one with a drive",
    "./feature.onnx": "a normalised path",
    "int8//feature.onnx": "a normalised path",
    "int8/": "a normalised path",
    "": "1 to 200 characters",
    "a" * 201: "1 to 200 characters",
    "a/b/c/d/e": "at most 4 parts",
    ".hidden": "no part starting with",
    "feature.onnx\n": "of letters, digits",
    "feat\u0443re.onnx": "of letters, digits",
    "a\x00b": "of letters, digits",
}


@pytest.mark.parametrize(("path", "reason"), BAD_PATHS.items())
def test_a_file_name_that_is_not_plain_is_refused(path, reason):
    with pytest.raises(BundleError, match=rf"(?s)files.*{reason}"):
        parse(files={path: FILE})


@pytest.mark.parametrize(("path", "reason"), BAD_PATHS.items())
def test_a_subnet_path_that_is_not_plain_is_refused(path, reason):
    with pytest.raises(BundleError, match=rf"graphs\.ort\.fp32\.flow.*{reason}"):
        parse(graphs={"ort": {"fp32": {**FP32, "flow": path}}})


@pytest.mark.parametrize("path", ["feature.onnx", "int8/feature.onnx", "a/b/c/d-1.2+3_x"])
def test_plain_file_names_are_taken(path):
    assert path_problem(path) is None
