"""Weight files and checkpoints that are damaged, forged, or something else: refused by name."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from dff_edge.errors import CheckpointError
from dff_edge.trainer import checkpoint as checkpoint_module
from dff_edge.trainer.checkpoint import (
    CARD,
    WEIGHTS,
    digest,
    find_checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from dff_edge.trainer.tensor_files import read_state_dict, write_tensors
from tests.fuzzing import examples

BIAS = "task.score.bias"  # (8,)
MEAN = "feature.bn1.running_mean"


@pytest.fixture
def folder(tmp_path, model, tiny):
    save_checkpoint(tmp_path / "c", model, tiny.model, name="tiny", training={})
    return tmp_path / "c"


def forge(folder: Path, **tensors: Tensor) -> None:
    """Put tensors into a checkpoint, and their digest into its card."""
    save_file(load_file(folder / WEIGHTS) | tensors, folder / WEIGHTS)
    recard(folder, weights_sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest())


def recard(folder: Path, **changes: Any) -> None:
    (folder / CARD).write_text(json.dumps(json.loads((folder / CARD).read_text()) | changes))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(8, 1), r"task.score.bias \(8, 1\) for \(8,\)"),
        (torch.zeros(()), r"task.score.bias \(\) for \(8,\)"),
        (torch.zeros(0), r"task.score.bias \(0,\) for \(8,\)"),
        (torch.zeros(8, dtype=torch.int64), "1 of another type .*torch.int64 for torch.float32"),
        (torch.zeros(8, dtype=torch.bool), "torch.bool for torch.float32"),
        (torch.zeros(8, dtype=torch.uint8), "torch.uint8 for torch.float32"),
        (torch.zeros(8, dtype=torch.complex64), "torch.complex64 for torch.float32"),
        (torch.zeros(8, dtype=torch.float8_e5m2), "torch.float8_e5m2 for torch.float32"),
        (torch.full((8,), torch.nan), "task.score.bias holds NaN, infinity, or more than torch.fl"),
        (torch.full((8,), -torch.inf), "holds NaN, infinity"),
        (torch.full((8,), 1e300, dtype=torch.float64), "holds NaN, infinity, or more than torch.f"),
    ],
)
def test_forged_weights_are_refused(folder: Path, tensor: Tensor, message: str) -> None:
    forge(folder, **{BIAS: tensor})

    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_another_width_are_taken(folder: Path, dtype: torch.dtype) -> None:
    forge(folder, **{BIAS: torch.arange(8).to(dtype)})

    assert load_checkpoint(folder).model.state_dict()[BIAS].tolist() == list(range(8))


def test_a_card_that_announces_more_than_the_file_holds_builds_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.9 GB of weights, which are compared with the file before they are there."""
    card = json.loads((folder / CARD).read_text())
    card["model"]["feature"] |= {"name": "resnet101", "width": 3.0}
    recard(folder, model=card["model"])
    built = []
    build = checkpoint_module.build_model

    def watched(config: Any) -> Any:
        model = build(config)
        built.append({value.device.type for value in model.state_dict().values()})
        return model

    monkeypatch.setattr(checkpoint_module, "build_model", watched)
    with pytest.raises(CheckpointError, match=r"does not fit the model: \d+ missing"):
        load_checkpoint(folder)

    assert built == [{"meta"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nests too deeply"),
        ('{"format": 1, "format": 1}', "the key 'format' is given twice"),
        ('{"format": ' + "1" * 5000 + "}", "a number has 5,000 digits"),
        ('{"format": 1, "model": {"frame_size": [1e9, 1e9]}}', "frame_size.0 is"),
        ('{"format": 1, "model": null}', "model.json: "),
        ('{"format": 1, "model": {}}', "'frame_size' is missing"),
        (" " * ((1 << 20) + 1), "has 1,048,577 bytes, expected 1,048,576 at most"),
    ],
)
def test_hostile_cards_are_refused(folder: Path, text: str, message: str) -> None:
    (folder / CARD).write_text(text)

    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", [WEIGHTS, "w.pth", "w.pt", "w.bin"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    make = {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda p: p.symlink_to("/dev/zero")}
    make[kind](path)

    with pytest.raises(CheckpointError, match=f"is a {kind}, expected an ordinary file"):
        read_state_dict(path)
    if kind == "pipe":
        with pytest.raises(CheckpointError):
            digest(path)


def test_a_file_of_a_terabyte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    for name in ("w.safetensors", "w.pth"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(1 << 40)  # sparse: takes no room
        with pytest.raises(CheckpointError, match="has 1,099,511,627,776 bytes, expected"):
            read_state_dict(tmp_path / name)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """100 MB of zeros in 100 kB; torch would unpack any number of them."""
    whole, path = io.BytesIO(), tmp_path / "w.pth"
    torch.save({"a": torch.zeros(25_000_000)}, whole)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in zipfile.ZipFile(whole).infolist():
            packed.writestr(entry.filename, zipfile.ZipFile(whole).read(entry))
    assert path.stat().st_size < 200_000

    with pytest.raises(CheckpointError, match="compressed archive, expected one as torch.save"):
        read_state_dict(path)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "\ud800"])
def test_names_that_nothing_can_have_are_no_checkpoints(name: str) -> None:
    with pytest.raises(CheckpointError, match="is no"):
        find_checkpoint(name)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, model: Any, tiny: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="The folder .*/c cannot be made: Not a dir"):
        save_checkpoint(tmp_path / "file" / "c", model, tiny.model, name="tiny", training={})
    (tmp_path / "w.safetensors").mkdir()
    with pytest.raises(CheckpointError, match=r"w\.safetensors' is a folder, expected a file"):
        write_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(1)})


# Made-up files. What is read must be ordinary tensors, no larger than the file.


def read_or_refused(path: Path) -> None:
    try:
        tensors = read_state_dict(path)
    except CheckpointError as error:
        told = str(error)
    else:
        size = sum(value.numel() * value.element_size() for value in tensors.values())
        assert all(isinstance(name, str) for name in tensors)
        assert size <= path.stat().st_size * max(len(tensors), 1)
        return
    assert path.name in told
    assert "Traceback" not in told


_NUMBER = st.integers(-2, 40) | st.sampled_from([2**31, 2**62, 2**63, 2**64, -(2**63), 10**30])
_ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(
            ["F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "F4", "C64", "U64", "X", "", None]
        ),
        "shape": st.lists(_NUMBER, max_size=4) | st.none() | _NUMBER,
        "data_offsets": st.lists(_NUMBER, max_size=3) | st.none(),
        "x": st.none(),
    },
)
_HEADER = st.dictionaries(
    st.sampled_from(["a", "b", "__metadata__", "", "a.weight"]),
    _ENTRY | st.none() | st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2),
    max_size=3,
)


_EMPTY = {"dtype": "F32", "data_offsets": [0, 0]}


@examples(150)
@given(
    header=_HEADER | st.lists(_NUMBER, max_size=2) | _NUMBER,
    body=st.binary(max_size=40),
    length=st.none() | _NUMBER,
)
@example(
    header={"a": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}},
    body=b"",
    length=None,
)
@example(
    header={"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}},
    body=b"",
    length=None,
)
@example(header={}, body=b"", length=None)
def test_any_safetensors_header_is_read_or_refused(
    header: Any, body: bytes, length: int | None, tmp_path: Path
) -> None:
    text = json.dumps(header).encode()
    announced = len(text) if length is None else length % 2**64
    path = tmp_path / "made-up.safetensors"
    path.write_bytes(struct.pack("<Q", announced) + text + body)

    read_or_refused(path)


def _odd_tensor(number: int) -> Any:
    makers: list[Any] = [
        lambda: torch.zeros(2, 3),
        lambda: torch.zeros(1).expand(10**6),
        lambda: torch.zeros(4)[::2],
        lambda: torch.zeros(2, dtype=torch.complex64),
        lambda: torch.eye(2).to_sparse(),
        lambda: torch.eye(2).to_sparse_csr(),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        lambda: torch.nn.Parameter(torch.ones(2)),
        lambda: torch.zeros(0, 5),
        lambda: torch.zeros(()),
        lambda: torch.empty(10**9, device="meta"),
        lambda: torch.zeros(3, dtype=torch.bool),
        lambda: torch.nn.functional.pad(torch.ones(1), (0, 1)).as_strided((2, 2), (0, 1)),
    ]
    return makers[number % len(makers)]()


_OBJECT = st.recursive(
    st.integers(0, 12).map(_odd_tensor) | st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.dictionaries(
            st.sampled_from(["a", "state_dict", "conv1.weight"]) | st.integers(0, 3),
            inner,
            max_size=3,
        )
        | st.lists(inner, max_size=2)
    ),
    max_leaves=6,
)


_DAMAGE = st.lists(st.tuples(_NUMBER, _NUMBER), max_size=3)


@pytest.mark.filterwarnings("ignore")  # of torch, each once a process
@examples(80)
@given(
    content=_OBJECT, is_zip=st.booleans(), damage=st.lists(st.tuples(_NUMBER, _NUMBER), max_size=3)
)
def test_any_torch_file_is_read_or_refused(
    content: Any, is_zip: bool, damage: list[tuple[int, int]], tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
    data = bytearray(buffer.getvalue())
    for place, value in damage:
        if value < 0:
            del data[place % len(data) :]
            break
        data[place % len(data)] = value % 256
    path = tmp_path / "made-up.pth"
    path.write_bytes(bytes(data))

    read_or_refused(path)


@pytest.mark.filterwarnings("ignore")  # of torch, each once a process
@examples(60)
@given(data=st.data())
def test_any_tensor_in_any_place_is_taken_or_refused(data: Any) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    tensors = {name: value.clone() for name, value in module.state_dict().items()}
    name = data.draw(st.sampled_from([*tensors, "other"]))
    tensors[name] = _odd_tensor(data.draw(st.integers(0, 12)))
    if data.draw(st.booleans()):
        del tensors[data.draw(st.sampled_from(list(tensors)))]
    try:
        load_weights(module, tensors, "made up")
    except CheckpointError as error:
        told = str(error)
    else:
        assert all(value.isfinite().all() for value in module.state_dict().values())
        return
    assert told.startswith("made up")
