"""The scripts in benchmarks/ find what they import; what they measure is run by hand."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
# Run where there is a GPU, or an engine that is not installed everywhere.
ELSEWHERE = {"tensorrt", "tensorrt_rtx", "pycuda", "cuda", "openvino"}


def imported(script):
    """Yield the names (module, name or None) that a script imports, wherever in it."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_a_script_finds_what_it_imports(script, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    for module, name in imported(script):
        top = module.partition(".")[0]
        if top in ELSEWHERE or not (top == "dff_edge" or (FOLDER / f"{top}.py").exists()):
            continue
        found = importlib.import_module(module)
        if name is not None and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")  # raises, unless it is a module
    for local in {path.stem for path in FOLDER.glob("*.py")} & set(sys.modules):
        monkeypatch.delitem(sys.modules, local)
