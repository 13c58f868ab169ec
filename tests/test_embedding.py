"""Python in docs/embedding.md is true."""

from __future__ import annotations

import ast
import contextlib
import re
import textwrap
from pathlib import Path

import numpy as np

import dff_edge.runtime
from dff_edge.frames import Frame
from tests.bundle.bundles import make_bundle

GUIDE = Path(__file__).parent.parent / "docs" / "embedding.md"
BLOCKS = re.findall(r"^ *```python\n(.*?)```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


def test_what_it_imports_is_there():
    imported = [
        name.name
        for block in BLOCKS
        for node in ast.walk(ast.parse(textwrap.dedent(block)))
        if isinstance(node, ast.ImportFrom) and node.module == "dff_edge.runtime"
        for name in node.names
    ]

    assert {"Pipeline", "Runner", "KeyFramePolicy"} <= {*imported} <= {*dff_edge.runtime.__all__}


def test_policy_of_its_own_takes_key_frames_by_age(tmp_path, monkeypatch):
    (block,) = [block for block in BLOCKS if "class YoungFeatures" in block]
    make_bundle(tmp_path / "street.bundle")
    monkeypatch.chdir(tmp_path)
    image = np.zeros((32, 64, 3), np.uint8)
    names = {"frames": [Frame(image, index, index / 16) for index in range(25)], "keys": []}

    code = block + "        keys.append(result.key_index)\n"  # in its loop
    exec(compile(code, str(GUIDE), "exec"), names)  # noqa: S102

    keys = sorted(set(names["keys"]))
    assert keys[:3] == [0, 5, 10]  # 0.3 s are 4.8 frames
    assert np.diff(keys)[-3:].tolist() == [3, 3, 3]  # 0.15 s are 2.4


def test_cameras_run_side_by_side_in_threads(tmp_path, monkeypatch):
    (block,) = [block for block in BLOCKS if "Pipelines.open" in block]
    make_bundle(tmp_path / "street.bundle")
    monkeypatch.chdir(tmp_path)
    opened, results = [], []

    def open_source(uri):
        opened.append(uri)
        return contextlib.nullcontext(
            [Frame(np.zeros((32, 64, 3), np.uint8), index, index / 30) for index in range(5)]
        )

    monkeypatch.setattr(dff_edge.runtime, "open_source", open_source)
    code = block.replace('precision="int8", ', "threads=1, ")  # the bundle has FP32 alone
    exec(compile(code, str(GUIDE), "exec"), {"act_on": results.append})  # noqa: S102

    assert sorted(opened) == ["0", "1"]
    assert sorted(result.frame.index for result in results) == sorted([*range(5), *range(5)])
