"""Files of tensors: exact round trips, and every damage refused by name."""

import pickle

import pytest
import torch

from dff_edge.errors import CheckpointError
from dff_edge.trainer.tensor_files import read_state_dict, write_tensors


class _Malicious:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return (type(self._path).mkdir, (self._path,))


# ---- round trips


def test_state_dict_round_trip(tmp_path, model):
    write_tensors(tmp_path / "w.safetensors", model.state_dict())

    tensors = read_state_dict(tmp_path / "w.safetensors")

    assert all(torch.equal(tensors[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "in state_dict"])
def test_pytorch_files_are_read(tmp_path, wrap):
    tensors = {"a": torch.arange(3.0)}
    torch.save({"state_dict": tensors} if wrap else tensors, tmp_path / "w.pth")

    assert torch.equal(read_state_dict(tmp_path / "w.pth")["a"], tensors["a"])


def test_malicious_pickle_is_not_executed(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps(_Malicious(tmp_path / "made")))
    torch.save({"a": _Malicious(tmp_path / "made")}, tmp_path / "zip.pth")

    for name in ("w.pth", "zip.pth"):
        with pytest.raises(CheckpointError, match="cannot be read as a PyTorch state dict"):
            read_state_dict(tmp_path / name)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_damaged_and_missing_state_dicts_are_refused(tmp_path, name):
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_state_dict(tmp_path / name)
    (tmp_path / name).write_bytes(b"rubbish" * 9)
    with pytest.raises(CheckpointError, match=f"{name} (is not a safetensors|cannot be read)"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "holds list, expected a dict of tensors"), ({"a": 3}, "holds int as 'a', expected")],
)
def test_files_of_something_else_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")

    with pytest.raises(CheckpointError, match=message):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(1).half().expand(1 << 20, 1 << 16),  # 400 bytes, 128 GB as float16
        torch.zeros(2, 3).to_sparse(),
        torch.zeros(2, 3, device="meta"),
        torch.zeros(2, dtype=torch.complex64),
    ],
    ids=["expanded", "sparse", "meta", "complex"],
)
def test_tensors_that_are_no_plain_arrays_are_refused(tmp_path, value):
    torch.save({"bias": torch.zeros(2), "weight": value}, tmp_path / "net.pth")

    with pytest.raises(CheckpointError, match=r"net.pth: weight .*expected an ordinary array"):
        read_state_dict(tmp_path / "net.pth")


def test_numbers_that_torch_does_not_have_are_refused(tmp_path):
    header = b'{"weight": {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}}'
    content = len(header).to_bytes(8, "little") + header + bytes(4)
    (tmp_path / "net.safetensors").write_bytes(content)

    with pytest.raises(CheckpointError, match="net.safetensors"):
        read_state_dict(tmp_path / "net.safetensors")
