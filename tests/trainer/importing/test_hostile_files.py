"""Published weight files that are damaged or forged: imported, or refused by name."""

from __future__ import annotations

import os
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from dff_edge.errors import CheckpointError
from dff_edge.trainer.importing import import_weights
from dff_edge.trainer.importing.mxnet_params import read_mxnet_params
from dff_edge.trainer.models import ResNet
from dff_edge.trainer.tensor_files import read_state_dict
from tests.fuzzing import examples
from tests.trainer.importing import flow_files
from tests.trainer.importing.mxnet_files import params_bytes

CHANNELS, ANCHORS, BINS, CLASSES = 8, 9, 3, 2


@cache
def resnet() -> dict[str, Tensor]:
    own = ResNet("resnet18", width=0.125, channels=CHANNELS).state_dict()
    return {name: own[name] for name in own if not name.startswith("feat_conv")}


@cache
def flownet(has_batch_norm: bool) -> dict[str, Tensor]:
    layers = flow_files.random_layers(has_decoder_bias=False)
    if has_batch_norm:
        layers = flow_files.random_batch_norm(layers)
    return dict(flow_files.flownet_pytorch_tensors(layers))


@cache
def rfcn() -> dict[str, Any]:
    rows = {
        "rpn_cls_score": 2 * ANCHORS,
        "rpn_bbox_pred": 4 * ANCHORS,
        "rfcn_cls": BINS**2 * (CLASSES + 1),
        "rfcn_bbox": BINS**2 * 8,
    }
    arrays: dict[str, Any] = {}
    for name, count in rows.items():
        arrays[f"arg:{name}_weight"] = np.zeros((count, CHANNELS // 2, 1, 1), np.float32)
        arrays[f"arg:{name}_bias"] = np.zeros(count, np.float32)
    return arrays


def write(tensors: dict[str, Any], path: Path) -> Path:
    if any(isinstance(value, np.ndarray) for value in tensors.values()):
        path.write_bytes(params_bytes(tensors))
    else:
        torch.save(tensors, path)
    return path


FILES = {
    "ResNet": resnet,
    "FlowNet": lambda: flownet(False),
    "FlowNet with BatchNorm": lambda: flownet(True),
    "R-FCN": rfcn,
}


@pytest.mark.parametrize("kind", FILES)
def test_files_are_imported_as_they_are(kind: str, tmp_path: Path) -> None:
    assert import_weights(write(FILES[kind](), tmp_path / "w"), tmp_path / "out").networks


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("ResNet", "conv1.weight"),
        ("ResNet", "layer4.1.conv2.weight"),
        ("ResNet", "bn1.running_mean"),
        ("FlowNet", "conv1.0.weight"),
        ("FlowNet", "predict_flow6.weight"),
        ("FlowNet with BatchNorm", "conv3_1.0.weight"),
        ("FlowNet with BatchNorm", "conv1.1.running_var"),
        ("R-FCN", "arg:rpn_cls_score_bias"),
        ("R-FCN", "arg:rfcn_bbox_weight"),
    ],
)
@pytest.mark.parametrize("shape", [(), (3,), (3, 3), (3, 3, 1, 1, 1), (0,), (0, 3, 1, 1)])
def test_tensors_of_another_rank_are_refused(
    kind: str, name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    tensors = dict(FILES[kind]())
    assert name in tensors
    odd: Any = torch.ones(shape)
    if kind == "R-FCN":
        odd = odd.numpy()
    tensors[name] = odd

    with pytest.raises(CheckpointError) as told:
        import_weights(write(tensors, tmp_path / "w"), tmp_path / "out")

    assert not (tmp_path / "out").exists()
    assert len(str(told.value)) < 1000


def test_names_that_share_one_tensor_are_imported(tmp_path: Path) -> None:
    """As layers that were tied while they were trained; safetensors refuses to write such."""
    tensors = dict(resnet())
    tensors["layer2.0.downsample.1.weight"] = tensors["layer2.0.bn2.weight"]

    import_weights(write(tensors, tmp_path / "w"), tmp_path / "out")

    written = read_state_dict(tmp_path / "out" / "feature.safetensors")
    for name in ("layer2.0.downsample.1.weight", "layer2.0.bn2.weight"):
        assert torch.equal(written[name], tensors["layer2.0.bn2.weight"])


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("kind", ["ResNet", "FlowNet"])
def test_weights_that_are_no_floats_are_refused(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    tensors = dict(FILES[kind]())
    name = next(name for name in tensors if name.endswith("conv2.weight") or "conv2.0" in name)
    tensors[name] = tensors[name].to(dtype)

    with pytest.raises(CheckpointError, match=f"holds {dtype}, expected floating-point weights"):
        import_weights(write(tensors, tmp_path / "w"), tmp_path / "out")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.params"
    make = {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda p: p.symlink_to("/dev/zero")}
    make[kind](path)

    with pytest.raises(CheckpointError, match=f"is a {kind}, expected an ordinary file"):
        import_weights(path, tmp_path / "out")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"The folder .*file/out cannot be made"):
        import_weights(write(resnet(), tmp_path / "w"), tmp_path / "file" / "out")


_ODD = [
    torch.ones(()),
    torch.ones(1),
    torch.ones(3, 3),
    torch.ones(8, 3, 7, 7),
    torch.ones(8, 4, 7, 7),
    torch.ones(64, 6, 7, 7),
    torch.ones(0, 3, 7, 7),
    torch.ones(1, 1, 1, 1, 1),
    torch.full((8,), torch.nan),
    torch.full((8,), -1.0),
    torch.ones(8, dtype=torch.int32),
    torch.ones(1).expand(8),
    torch.ones(5000),
]


@pytest.mark.parametrize("kind", FILES)
@examples(12)
@given(data=st.data())
def test_any_damage_to_a_file_is_imported_or_refused(kind: str, data: Any, tmp_path: Path) -> None:
    tensors = dict(FILES[kind]())
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from(list(tensors)))
        action = data.draw(st.sampled_from(["replace", "remove", "rename", "copy"]))
        if action == "replace":
            odd: Any = data.draw(st.sampled_from(_ODD)).contiguous()
            tensors[name] = odd.numpy() if kind == "R-FCN" else odd
        elif action == "copy":
            tensors[name] = tensors[data.draw(st.sampled_from(list(tensors)))]
        else:
            value = tensors.pop(name)
            if action == "rename":
                others = ["x", "motion.x", f"{name}x", "fc.weight"]
                tensors[data.draw(st.sampled_from(others))] = value
    try:
        card = import_weights(write(tensors, tmp_path / "w"), tmp_path / "out")
    except CheckpointError as error:
        told = str(error)
    else:
        assert card.networks
        return
    assert len(told) < 2000


_NUMBER = st.integers(-2, 20) | st.sampled_from([2**31, 2**62, 2**63, 0xF993FAC9, 2**64 - 1])
ARRAYS = {"arg:a": np.float32([[1, 2]]), "aux:b": np.float16([1]), "arg:c": np.int64([3])}


@examples(200)
@given(
    version=st.integers(0, 3),
    damage=st.lists(st.tuples(st.integers(0, 40), _NUMBER, st.sampled_from("bIQ")), max_size=3),
    cut=st.none() | st.integers(0, 200),
    more=st.binary(max_size=9),
)
@example(version=2, damage=[], cut=None, more=b"")
def test_any_mxnet_file_is_read_or_refused(
    version: int, damage: list[tuple[int, int, str]], cut: int | None, more: bytes
) -> None:
    content = bytearray(params_bytes(ARRAYS, version))
    for place, value, form in damage:  # lengths, sides and types lie at multiples of four bytes
        size = struct.calcsize(form)
        at = min(4 * place, len(content) - size)
        kind = form.upper() if form != "b" else "B"
        content[at : at + size] = struct.pack(f"<{kind}", value % 256**size)
    data = bytes(content[:cut]) + more
    try:
        tensors = read_mxnet_params(data, "made up")
    except CheckpointError as error:
        told = str(error)
    else:
        assert sum(value.numel() for value in tensors.values()) <= len(data)
        return
    assert told.startswith("made up is damaged or no MXNet .params file")
