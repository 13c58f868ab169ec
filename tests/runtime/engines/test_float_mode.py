"""A program's own small numbers stay what they are when engines are opened and used."""

import subprocess
import sys

from tests.bundle.bundles import make_bundle


def test_subnormal_numbers_are_not_zero_once_a_pipeline_is_open(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", (64, 128))
    code = f"""
import numpy as np
from dff_edge.runtime import Pipeline

tiny = np.array([1e-310])
with Pipeline.open({str(bundle.path)!r}, threads=1) as pipeline:
    print((tiny * 1.0)[0] > 0)
    pipeline.submit(np.zeros((64, 128, 3), np.uint8))
    pipeline.poll(block=True)
print((tiny * 1.0)[0] > 0, float.fromhex("0x1p-1070") * 1.0 > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\nTrue True\n"
