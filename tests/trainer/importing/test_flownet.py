"""Flow networks from elsewhere compute with us what they compute at home."""

import json

import pytest
import torch
import yaml
from torch.nn import functional as F

from dff_edge.errors import CheckpointError
from dff_edge.trainer.checkpoint import load_weights
from dff_edge.trainer.importing import ImportCard, import_weights
from dff_edge.trainer.models import ModelConfig, build_model
from dff_edge.trainer.tensor_files import read_state_dict
from tests.trainer.importing import flow_files

FRAME = (144, 208)  # halves of 72 x 104: odd at the deep levels, where upsampling is cropped
BGR_MEAN = (114.75, 110.16, 104.805)  # 255 times what theirs take from B, G, R
DFF_MEAN = (103.06, 115.90, 123.15)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(3)


def _ours(folder, halves):
    """Flow of the imported network in a model of the settings that the import wrote."""
    card = ImportCard(**json.loads((folder / "card.json").read_text()))
    model = yaml.safe_load(card.config(folder))["model"]
    model["feature"] = {
        "name": "resnet18",
        "width": 0.125,
        "channels": 4,
        **model.get("feature", {}),
    }
    model["task"] = {"classes": ["any"], "colours": [[0, 0, 0]]}
    config = ModelConfig.model_validate({**model, "frame_size": FRAME})
    model = build_model(config).eval()
    tensors = read_state_dict(folder / "flow.safetensors")
    load_weights(model.flow, tensors, "flow", ignore=("scale.",))
    with torch.no_grad():
        flow, scale = model.estimate_flow(*halves)
    return flow, scale, config


def _theirs(layers, halves, mean, std, model_mean):
    """The original's flow in feature cells, from BGR frames; mean and std in BGR, too."""
    key, current = halves
    mean, std, model_mean = (torch.tensor(t).view(1, 3, 1, 1) for t in (mean, std, model_mean))
    pair = torch.cat([((half - mean) / std).flip(1) for half in (current, key)], dim=1)
    # Our first layer pads with the model's mean colour.
    outside = ((model_mean - mean) / std).flip(1).repeat(1, 2, 1, 1)
    maps = flow_files.their_maps(layers, pair, outside)
    weight, bias = layers["predict2"]
    # 20 pixels of the half frame a unit, two pixels of the frame each, sixteen to a cell.
    return F.conv2d(F.avg_pool2d(maps, 2), weight, bias, padding=1) * 20 * 2 / 16


def _write(kind, path):
    """Write a file of a kind; returns its layers, mean and deviation."""
    layers = flow_files.random_layers(has_decoder_bias=kind == "mxnet")
    if kind == "flownets":
        flow_files.flownet_pytorch_file(layers, path)
    elif kind == "flownets_bn":
        layers = flow_files.random_batch_norm(layers)
        flow_files.flownet_pytorch_file(layers, path)
    elif kind == "mmtracking":
        torch.save(flow_files.mmtracking_tensors(layers, ""), path)
    else:
        scale = (torch.randn(4, 26, 1, 1), torch.randn(4))
        flow_files.write_mxnet(flow_files.mxnet_arrays(layers, scale), path)
        return layers, DFF_MEAN, scale
    return layers, BGR_MEAN, None


@pytest.mark.parametrize(
    ("kind", "mean"),
    [
        ("flownets", None),  # rewritten for torchvision's mean
        ("flownets", BGR_MEAN),  # the original's own
        ("flownets_bn", None),
        ("mmtracking", BGR_MEAN),
        ("mxnet", None),
        ("mxnet", DFF_MEAN),
    ],
)
def test_same_flow_as_the_original(kind, mean, tmp_path):
    layers, own_mean, scale = _write(kind, tmp_path / "weights")
    halves = [torch.randint(0, 256, (1, 3, FRAME[0] // 2, FRAME[1] // 2)).float() for _ in "ki"]

    import_weights(tmp_path / "weights", tmp_path / "out", mean=mean)

    flow, own_scale, config = _ours(tmp_path / "out", halves)
    expected = _theirs(layers, halves, own_mean, (255.0,) * 3, config.mean)
    assert expected.std() > 0.1  # not a network that says nothing
    torch.testing.assert_close(flow, expected, rtol=1e-3, atol=1e-3)
    if scale is not None:
        assert own_scale.shape[1] == 4


def test_weights_from_caffe_see_bgr(tmp_path):
    layers, _, _ = _write("flownets", tmp_path / "weights")
    halves = [torch.randint(0, 256, (1, 3, FRAME[0] // 2, FRAME[1] // 2)).float() for _ in "ki"]

    import_weights(tmp_path / "weights", tmp_path / "out", is_caffe=True)

    flow, _, config = _ours(tmp_path / "out", halves)
    reversed_halves = [half.flip(1) for half in halves]
    expected = _theirs(
        layers, reversed_halves, BGR_MEAN, (255.0,) * 3, tuple(reversed(config.mean))
    )
    torch.testing.assert_close(flow, expected, rtol=1e-3, atol=1e-3)


def test_layer_that_is_missing_is_named(tmp_path):
    layers = flow_files.random_layers(has_decoder_bias=False)
    tensors = flow_files.mmtracking_tensors(layers, "")
    del tensors["conv4.1.conv.bias"]  # the encoder's biases are no zeros
    torch.save(tensors, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"1 missing \(conv4_1\.0\.bias\)"):
        import_weights(tmp_path / "weights.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layer_that_is_left_over_is_named(tmp_path):
    tensors = flow_files.mmtracking_tensors(flow_files.random_layers(False), "")
    torch.save({**tensors, "conv7.weight": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"1 unknown \(conv7\.weight\)"):
        import_weights(tmp_path / "weights.pth", tmp_path / "out")


def test_batch_norm_of_another_shape(tmp_path):
    layers = flow_files.random_batch_norm(flow_files.random_layers(False))
    flow_files.flownet_pytorch_file(layers, tmp_path / "weights")
    content = torch.load(tmp_path / "weights", weights_only=True)
    content["state_dict"]["conv3.1.weight"] = torch.ones(5)
    torch.save(content, tmp_path / "weights")
    with pytest.raises(CheckpointError, match=r"conv3 has a BatchNorm of another shape: \(5,\)"):
        import_weights(tmp_path / "weights", tmp_path / "out")
