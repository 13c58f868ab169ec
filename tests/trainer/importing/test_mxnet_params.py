"""MXNet's files are read as written, and never further than their bytes."""

import random
import struct

import numpy as np
import pytest
import torch

from dff_edge.errors import CheckpointError
from dff_edge.trainer.importing import read_mxnet_params
from tests.trainer.importing.mxnet_files import params_bytes

ARRAYS = {
    "arg:weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1),
    "aux:mean": np.float16([0.5, -2]),
    "arg:double": np.float64([[1e-3]]),
    "arg:whole": np.int64([3, 2**40]),
}


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_arrays_of_all_versions(version):
    read = read_mxnet_params(params_bytes(ARRAYS, version), "file")
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        kind = torch.float32 if array.dtype.kind == "f" else torch.int64
        assert read[name].dtype == kind
        np.testing.assert_allclose(read[name].numpy(), array, rtol=1e-7)


def test_every_truncation_is_refused():
    content = params_bytes(ARRAYS)
    for length in range(len(content)):
        with pytest.raises(CheckpointError):
            read_mxnet_params(content[:length], "file")


def test_changed_bytes_are_read_or_refused():
    content, draw = params_bytes(ARRAYS, 1), random.Random(5)
    refused = 0
    for _ in range(2000):
        changed = bytearray(content)
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(len(changed))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
        try:
            read_mxnet_params(bytes(changed), "file")
        except CheckpointError:
            refused += 1
    assert refused > 1000  # most of such a small file is lengths


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:16] + struct.pack("<Q", 2**62) + c[24:], "announces 4611686018427387904"),
        (lambda c: c[:28] + struct.pack("<i", 1) + c[32:], "storage type 1, expected 0"),
        (lambda c: c[:32] + struct.pack("<I", 9) + c[36:], "9 axes, expected 1 to 8"),
        (lambda c: c[:36] + struct.pack("<q", -2) + c[44:], "expected positive sides"),
        (lambda c: c[:36] + struct.pack("<q", 2**61) + c[44:], "bytes are wanted"),
        (lambda c: c[:76] + struct.pack("<i", 7) + c[80:], "type 7, expected 0 to 6"),
        (lambda c: c + b"x", "1 bytes follow"),
        (lambda c: c.replace(b"aux:mean", b"aux:mea\xff"), "not UTF-8"),
        (lambda c: b"x" + c[1:], "does not start with"),
    ],
)
def test_damage_is_named(change, message):
    with pytest.raises(CheckpointError, match=message):
        read_mxnet_params(change(params_bytes(ARRAYS)), "file")


def test_name_that_comes_twice():
    content = params_bytes({"arg:a": np.zeros(1), "arg:b": np.zeros(1)})
    with pytest.raises(CheckpointError, match="a name twice"):
        read_mxnet_params(content.replace(b"arg:b", b"arg:a"), "file")
