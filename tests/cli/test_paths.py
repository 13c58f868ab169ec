"""Paths that are no UTF-8 through every command: native readers end the process on them."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import dff_edge as package
from dff_edge.synthetic import StreetScene
from tests.data.datasets.layouts import png, write

ODD = os.fsdecode(b"d\xe4ta")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A labelled folder of ten frames, and room beside it."""
    root = tmp_path_factory.mktemp("odd") / ODD
    scene = StreetScene(1, "val", (64, 128), 10)
    for n in range(10):
        image, labels = scene.render(n)
        write(root / "clip" / "images" / f"{n}.png", image)
        (root / "clip" / "labels").mkdir(exist_ok=True)
        (root / "clip" / "labels" / f"{n}.png").write_bytes(png(labels, 8))
    return root


@pytest.fixture(scope="module")
def bundle(folder, street_bundle_path):
    return shutil.copytree(street_bundle_path, folder / "bundle")


def test_labelled_data_is_evaluated(bundle, folder, dff_edge):
    target = folder / "evaluated.json"
    source = ("--source", folder / "clip", "--max-interval", 2)

    done = dff_edge("evaluate", bundle, *source, "--json", target)

    assert done.exit_code == 0, done.output
    numbers = json.loads(target.read_text())
    assert numbers["source"] == str(folder / "clip")
    assert len(numbers["miou_at_distance"]) == 2


def test_frames_are_run_and_results_written(bundle, folder, dff_edge):
    sinks = ("-o", folder / "out.mp4", "-o", folder / "out.jsonl", "-o", f"labels://{folder}/maps")

    first = dff_edge("run", bundle, folder / "clip/images", *sinks)
    second = dff_edge("run", bundle, folder / "out.mp4", "-o", folder / "again.jsonl")

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert len((folder / "again.jsonl").read_text().splitlines()) == 10
    assert len(list((folder / "maps").iterdir())) == 10


NATIVE = re.compile(
    r"cv2\.(imread|imwrite|imreadmulti|imcount|haveImageReader)\b|np\.(load|fromfile)\(|"
    r"onnx\.(load|save)\((?!model, given)|InferenceSession\(str|read_model\(str"
)


def test_no_path_is_handed_to_a_native_reader():
    root = Path(np.asarray(package.__path__)[0])
    # What stays: the quantiser of ONNX Runtime, which takes files, gets some of its own making.
    allowed = {"calibration/ort/int8.py"}

    found = [
        f"{path.relative_to(root)}: {match[0]}"
        for path in root.rglob("*.py")
        if str(path.relative_to(root)) not in allowed
        for match in NATIVE.finditer(path.read_text(encoding="utf-8"))
    ]

    assert found == []
