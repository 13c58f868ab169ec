"""Models of the official code: names, layouts, and what they lack."""

import numpy as np
import pytest
import torch

from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.errors import CheckpointError
from dff_edge.trainer.importing import import_weights
from dff_edge.trainer.models import ResNet
from dff_edge.trainer.models.rfcn import RfcnHead
from dff_edge.trainer.tensor_files import read_state_dict
from tests.trainer.importing.mxnet_files import params_bytes

CLASSES, BINS, ANCHORS, CHANNELS = 2, 3, 9, 8


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(4)


def _feature_arrays(network):
    """The arrays of ResNet-101 by Caffe's names, each beside our own name."""
    ours = network.state_dict()
    arrays, own_names = {}, {}

    def add(theirs, own, is_batch_norm):
        parts = {"arg:{}_weight": "weight"}
        if is_batch_norm:
            parts = {"arg:{}_gamma": "weight", "arg:{}_beta": "bias",
                     "aux:{}_moving_mean": "running_mean",
                     "aux:{}_moving_var": "running_var"}  # fmt: skip
        for name, part in parts.items():
            arrays[name.format(theirs)] = torch.rand_like(ours[f"{own}.{part}"]).numpy()
            own_names[name.format(theirs)] = f"{own}.{part}"

    add("conv1", "conv1", False)
    add("bn_conv1", "bn1", True)
    places = {
        2: ["a", "b", "c"],
        3: ["a", "b1", "b2", "b3"],
        4: ["a", *(f"b{number}" for number in range(1, 23))],
        5: ["a", "b", "c"],
    }
    for stage, letters in places.items():
        for index, place in enumerate(letters):
            block = f"layer{stage - 1}.{index}"
            branches = {
                "2a": (".conv1", ".bn1"),
                "2b": (".conv2", ".bn2"),
                "2c": (".conv3", ".bn3"),
            }
            if index == 0:
                branches["1"] = (".downsample.0", ".downsample.1")
            for branch, (conv, norm) in branches.items():
                add(f"res{stage}{place}_branch{branch}", block + conv, False)
                add(f"bn{stage}{place}_branch{branch}", block + norm, True)
    for part in ("weight", "bias"):
        name = f"arg:feat_conv_3x3_{part}"
        arrays[name] = torch.rand_like(ours[f"feat_conv.{part}"]).numpy()
        own_names[name] = f"feat_conv.{part}"
    return arrays, own_names


def _task_arrays():
    rows = {"rpn_cls_score": 2 * ANCHORS, "rpn_bbox_pred": 4 * ANCHORS,
            "rfcn_cls": BINS**2 * (CLASSES + 1), "rfcn_bbox": BINS**2 * 8}  # fmt: skip
    arrays = {}
    for name, count in rows.items():
        arrays[f"arg:{name}_weight"] = torch.randn(count, CHANNELS // 2, 1, 1).numpy()
        arrays[f"arg:{name}_bias"] = torch.randn(count).numpy()
    return arrays


def _import(arrays, tmp_path, **options):
    path = tmp_path / "model-0000.params"
    path.write_bytes(params_bytes(arrays))
    return import_weights(path, tmp_path / "out", **options), tmp_path / "out"


def test_feature_network_by_caffes_names(tmp_path):
    network = ResNet("resnet101", width=0.125, channels=CHANNELS, stride_in_1x1=True)
    arrays, own_names = _feature_arrays(network)
    card, folder = _import({**arrays, "arg:fc1_weight": np.zeros((2, 2))}, tmp_path)
    tensors = read_state_dict(folder / "feature.safetensors")
    assert set(tensors) == set(own_names.values())
    for name, own in own_names.items():
        np.testing.assert_array_equal(tensors[own].numpy(), arrays[name], err_msg=name)
    assert card.model == {
        "feature": {"name": "resnet101", "stride_in_1x1": True, "width": 0.125, "channels": 8},
        "mean": [103.06, 115.9, 123.15],
        "std": [1.0, 1.0, 1.0],
    }
    assert card.left_out == ("arg:fc1_weight",)


def test_two_names_of_one_block_are_refused(tmp_path):
    arrays, _ = _feature_arrays(ResNet("resnet101", width=0.125, channels=CHANNELS))
    twice = {**arrays, "arg:res4b_branch2a_weight": arrays["arg:res4b1_branch2a_weight"]}
    with pytest.raises(CheckpointError, match="res4b_branch2a_weight are the same layer"):
        _import(twice, tmp_path)


def test_rfcn_says_the_same_of_every_bin(tmp_path):
    arrays = _task_arrays()
    card, folder = _import(arrays, tmp_path)
    head = RfcnHead(CHANNELS, CLASSES, RfcnSettings(bins=BINS))
    head.load_state_dict(read_state_dict(folder / "task.safetensors"))
    features = torch.randn(1, CHANNELS, 1, 1)
    proposing, scoring = features[0, : CHANNELS // 2, 0, 0], features[0, CHANNELS // 2 :, 0, 0]
    with torch.no_grad():
        ours = [maps.flatten().numpy() for maps in head.maps(features)]

    def theirs(layer, half):
        return (
            arrays[f"arg:{layer}_weight"][:, :, 0, 0] @ half.numpy() + arrays[f"arg:{layer}_bias"]
        )

    scores = theirs("rpn_cls_score", proposing)
    classes, boxes = theirs("rfcn_cls", scoring), theirs("rfcn_bbox", scoring)
    objectness = 1 / (1 + np.exp(-ours[0]))
    for anchor in range(ANCHORS):  # softmax of background and foreground
        both = np.exp([scores[anchor], scores[ANCHORS + anchor]])
        assert objectness[anchor] == pytest.approx(both[1] / both.sum(), rel=1e-4)
    np.testing.assert_allclose(ours[1], theirs("rpn_bbox_pred", proposing), rtol=1e-4, atol=1e-5)
    for row in range(BINS):
        for column in range(BINS):
            cell = row * BINS + column
            for label in range(CLASSES + 1):
                # PSROIPooling reads channel (label * k + row) * k + column.
                assert ours[2][cell * (CLASSES + 1) + label] == pytest.approx(
                    classes[(label * BINS + row) * BINS + column], rel=1e-4, abs=1e-5
                )
            for part in range(4):  # the second of two boxes, that of objects
                assert ours[3][cell * 4 + part] == pytest.approx(
                    boxes[((4 + part) * BINS + row) * BINS + column], rel=1e-4, abs=1e-5
                )
    assert card.model["task"]["rfcn"] == {"bins": BINS}
    assert len(card.model["task"]["classes"]) == CLASSES


def test_rfcn_that_lacks_a_layer(tmp_path):
    arrays = _task_arrays()
    del arrays["arg:rfcn_bbox_weight"]
    with pytest.raises(CheckpointError, match="lacks rfcn_bbox_weight"):
        _import(arrays, tmp_path)


def test_rfcn_whose_layers_disagree(tmp_path):
    arrays = _task_arrays() | {"arg:rfcn_cls_weight": np.zeros((26, CHANNELS // 2, 1, 1))}
    with pytest.raises(CheckpointError, match=r"rfcn_cls has shapes \(26, .* and \("):
        _import(arrays, tmp_path)
    with pytest.raises(CheckpointError, match="expected 2 A, 4 A"):
        _import(arrays | {"arg:rfcn_cls_bias": np.zeros(26)}, tmp_path)


def test_networks_of_different_features(tmp_path):
    arrays, _ = _feature_arrays(ResNet("resnet101", width=0.125, channels=6))
    with pytest.raises(CheckpointError, match=r"'feature': 6, 'task': 8"):
        _import(arrays | _task_arrays(), tmp_path)
