"""Docstrings describe a thing by its noun, not by a question."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = [
    *("dff_edge", "runtime", "calibration", "trainer", "plugins"),
    *("benchmarks", "examples", "tests"),
]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), text


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_docstring_opens_with_what(folder):
    if not (ROOT / folder).is_dir():
        pytest.skip(f"there is no {folder}/ here")  # an installed package
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in docstrings(path)
        if text.split()[0] == "What"
    ]
    assert found == []
