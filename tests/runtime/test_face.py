"""The names that robot code imports, and what importing them costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import dff_edge.runtime as face


def test_every_name_is_where_it_is_made():
    for name in face.__all__:
        value = getattr(face, name)
        assert value.__name__ == name
        assert value.__module__ in face._HOME_OF[name] or value.__module__.startswith(
            face._HOME_OF[name]
        )
    assert {"Pipeline", "open_source", "open_sink", "Frame", "Result", "Detections"} <= {*dir(face)}


def test_types_are_told_of_every_name():
    source = Path(face.__file__).read_text(encoding="utf-8")
    for name in face.__all__:
        assert f" import {name} as {name}\n" in source


def test_importing_the_face_loads_no_array_and_no_engine():
    code = "import sys, dff_edge.runtime; print({'numpy', 'cv2', 'onnxruntime'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_another_name_is_told_as_any_module_does():
    with pytest.raises(AttributeError, match=r"'dff_edge\.runtime' has no attribute 'Pipeline_'"):
        face.Pipeline_  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Pipeline_'"):
        exec("from dff_edge.runtime import Pipeline_")
