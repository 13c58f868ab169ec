"""Detection of file kinds, conversion of a ResNet, and refusals."""

import json
import math
import random
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional as F

from dff_edge.errors import CheckpointError, ConfigError
from dff_edge.trainer.checkpoint import load_weights
from dff_edge.trainer.config import TrainConfig
from dff_edge.trainer.importing import import_weights
from dff_edge.trainer.models import EfficientNetLite, MobileNetV2, ResNet
from dff_edge.trainer.tensor_files import read_state_dict
from tests.trainer.importing import flow_files

STYLES = {"torchvision": False, "caffe": True}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(6)


def _resnet(**options):
    network = ResNet("resnet50", width=0.125, channels=8, **options).eval()
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.uniform_(-0.2, 0.2)
    own = network.state_dict()
    return network, {name: own[name] for name in own if not name.startswith("feat_conv")}


def _save(tensors, tmp_path, prefix=""):
    path = tmp_path / "weights.pth"
    torch.save({f"{prefix}{name}": value for name, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module."])
def test_torchvision_without_classifier(tmp_path, prefix):
    _, tensors = _resnet()
    path = _save(
        {**tensors, "fc.weight": torch.ones(3, 3), "fc.bias": torch.ones(3)}, tmp_path, prefix
    )
    card = import_weights(path, tmp_path / "out")
    written = read_state_dict(tmp_path / "out" / "feature.safetensors")
    wanted = {name: value for name, value in tensors.items() if "num_batches" not in name}
    assert written.keys() == wanted.keys()
    assert all(torch.equal(written[name], wanted[name]) for name in wanted)
    assert card.model == {"feature": {"name": "resnet50", "width": 0.125}}
    assert (card.feature_order, card.left_out) == ("rgb", ("fc.bias", "fc.weight"))


@pytest.mark.parametrize("mean", [None, (90.0, 100.0, 110.0)])
@pytest.mark.parametrize("style", STYLES)
def test_features_of_the_original(tmp_path, style, mean):
    """An original that sees its own colours, and pads with the colour that ours pads with."""
    is_caffe = STYLES[style]
    network, tensors = _resnet(stride_in_1x1=is_caffe)
    frame = torch.randint(0, 256, (1, 3, 32, 48)).float()
    import_weights(_save(tensors, tmp_path), tmp_path / "out", is_caffe=is_caffe, mean=mean)
    card = json.loads((tmp_path / "out" / "card.json").read_text())["model"]
    ours = ResNet(**card["feature"], channels=8).eval()
    written = read_state_dict(tmp_path / "out" / "feature.safetensors")
    written["conv1.weight"] = written["conv1.weight"].flip(1)  # as init.feature_order: rgb does
    ours.load_state_dict(network.state_dict() | written)

    own_mean = torch.tensor([103.53, 116.28, 123.675]).view(1, 3, 1, 1)
    own_std = torch.tensor([1.0, 1, 1] if is_caffe else [57.375, 57.12, 58.395]).view(1, 3, 1, 1)
    our_mean = torch.tensor(card.get("mean", [103.53, 116.28, 123.675])).view(1, 3, 1, 1)
    our_std = torch.tensor(card.get("std", [57.375, 57.12, 58.395])).view(1, 3, 1, 1)
    padded = F.pad(frame - our_mean, (3, 3, 3, 3)) + our_mean
    theirs = (padded - own_mean) / own_std
    network.conv1.padding = (0, 0)
    with torch.no_grad():
        expected = network(theirs if is_caffe else theirs.flip(1))
        got = ours((frame - our_mean) / our_std)
    assert expected.std() > 0.01
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * expected.max().item())


def test_mmtracking_gives_backbone_and_flow_and_names_the_rest(tmp_path):
    _, tensors = _resnet()
    rest = {"detector.neck.convs.0.conv.weight": torch.ones(2),
            "detector.rpn_head.rpn_cls.bias": torch.ones(2)}  # fmt: skip
    backbone = {f"detector.backbone.{name}": value for name, value in tensors.items()}
    flow = flow_files.mmtracking_tensors(flow_files.random_layers(False), "motion.")
    path = tmp_path / "dff.pth"
    torch.save({"meta": {"epoch": 7}, "state_dict": {**backbone, **flow, **rest}}, path)
    card = import_weights(path, tmp_path / "out")
    assert set(card.networks) == {"feature", "flow"}
    assert card.left_out == tuple(sorted(rest))
    written = read_state_dict(tmp_path / "out" / "feature.safetensors")
    assert torch.equal(written["layer2.0.conv2.weight"], tensors["layer2.0.conv2.weight"])


def test_the_printed_settings_make_a_configuration(tmp_path):
    _, tensors = _resnet()
    card = import_weights(_save(tensors, tmp_path), tmp_path / "out")
    parts = yaml.safe_load(card.config(tmp_path / "out"))
    parts["model"] |= {
        "task": {"classes": ["road"], "colours": [[1, 2, 3]]}, "frame_size": [64, 64],
    }  # fmt: skip
    config = TrainConfig.model_validate(
        {"name": "x", **parts, "stages": [{"kind": "pairs", "steps": 1, "lr": 1.0}]}
    )
    assert Path(config.init.feature) == tmp_path / "out" / "feature.safetensors"
    model = ResNet(config.model.feature.name, width=config.model.feature.width)
    counters = [name for name in model.state_dict() if name.endswith("num_batches_tracked")]
    load_weights(
        model, read_state_dict(config.init.feature), "file", ignore=("feat_conv.", *counters)
    )


def test_older_import_is_replaced_and_no_other_folder(tmp_path):
    flow_files.flownet_pytorch_file(flow_files.random_layers(False), tmp_path / "flow")
    import_weights(tmp_path / "flow", tmp_path / "out")
    import_weights(_save(_resnet()[1], tmp_path), tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "card.json", "feature.safetensors",
    ]  # fmt: skip
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="holds other things than an import"):
        import_weights(tmp_path / "weights.pth", tmp_path / "mine")


def _nan(tensors):
    tensors["layer1.0.bn2.bias"][0] = float("nan")


def _transposed(tensors):
    tensors["layer1.0.conv2.weight"] = tensors["layer1.0.conv2.weight"][:4]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("layer4.2.bn3.running_var"), r"1 missing \(layer4\.2\.bn3\.running_var\)"),
        (lambda t: t.pop("conv1.weight"), r"missing \(conv1\.weight"),
        (lambda t: t.update({"layer1.0.conv4.bias": torch.ones(1)}), r"unknown \(layer1\.0\.conv4"),
        (lambda t: t.update({"layer4.3.conv1.bias": torch.ones(1)}), r"\[3, 4, 6, 4\] bottleneck"),
        (lambda t: t.update({"conv1.weight": torch.ones(3)}), "conv1.weight"),
        (_transposed, r"layer1\.0\.conv2\.weight \(4, 8, 3, 3\) for \(8, 8, 3, 3\)"),
        (_nan, "layer1.0.bn2.bias of the feature network holds NaN"),
    ],
)  # fmt: skip
def test_damaged_resnet(tmp_path, damage, message):
    _, tensors = _resnet()
    damage(tensors)
    with pytest.raises(CheckpointError, match=message):
        import_weights(_save(tensors, tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_kind_lists_the_known(tmp_path):
    path = _save({"encoder.0.weight": torch.ones(2)}, tmp_path)
    with pytest.raises(CheckpointError, match=r"encoder\.0\.weight.*torchvision's ResNet-18"):
        import_weights(path, tmp_path / "out")


@pytest.mark.parametrize(
    "given",
    [
        {"std": (1.0, 0.0, 1.0)},
        {"std": (1.0, math.nan, 1.0)},
        {"std": (math.inf, 1.0, 1.0)},
        {"mean": (0.0, 0.0, math.nan)},
    ],
)
def test_normalisation_by_what_is_no_number(tmp_path, given):
    with pytest.raises(ConfigError, match="expected three finite numbers each, those of std posi"):
        import_weights(_save(_resnet()[1], tmp_path), tmp_path / "out", **given)


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_executed(tmp_path):
    torch.save({"state_dict": {}, "extra": _Trap(tmp_path / "executed")}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="nothing in a file is executed"):
        import_weights(tmp_path / "weights.pth", tmp_path / "out")
    assert not (tmp_path / "executed").exists()


def test_damaged_files_are_read_or_refused(tmp_path):
    tensors = {"layer1.0.conv1.weight": torch.ones(2), "conv1.weight": torch.ones(2)}
    content, draw = _save(tensors, tmp_path).read_bytes(), random.Random(7)
    path = tmp_path / "damaged.pth"
    for number in range(120):
        damaged = bytearray(content)
        if number % 2:
            damaged = damaged[: draw.randrange(len(damaged))]
        for _ in range(3 if damaged else 0):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            import_weights(path, tmp_path / "out")


def _efficientnet(kind="efficientnet_lite0", **changes):
    """A file of the package: underscores in the names, and what is behind the last stage."""
    with torch.device("meta"):
        own = EfficientNetLite(kind).state_dict()
    tensors = {}
    for name, value in own.items():
        if not name.startswith("feat_conv."):
            parts = ("blocks" if part == "block" else part for part in name.split("."))
            published = ".".join(f"_{p}" if not p.isdigit() else p for p in parts)
            published = published.replace("._weight", ".weight").replace("._bias", ".bias")
            published = published.replace("._running", ".running").replace("._num", ".num")
            tensors[published] = torch.rand(value.shape) if value.ndim else torch.tensor(0)
    end = {"_conv_head.weight": torch.rand(4, 320, 1, 1), "_bn1.bias": torch.rand(4)}
    return {**tensors, **end, "_fc.weight": torch.rand(2, 4), **changes}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_efficientnet_lite_without_its_end(tmp_path, dtype):
    tensors = {n: v.to(dtype) if v.ndim else v for n, v in _efficientnet().items()}

    card = import_weights(_save(tensors, tmp_path), tmp_path / "out")

    written = read_state_dict(tmp_path / "out" / "feature.safetensors")
    for published, own in {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_mean": "bn0.running_mean",
        "_blocks.3._depthwise_conv.weight": "block.3.depthwise_conv.weight",
        "_blocks.15._bn2.bias": "block.15.bn2.bias",
    }.items():
        assert torch.equal(written[own], tensors[published].float()), own
    load_weights(EfficientNetLite(), written, "file", ("feat_conv.", *_counters(EfficientNetLite)))
    assert card.left_out == ("_bn1.bias", "_conv_head.weight", "_fc.weight")
    normal = {"mean": [127.0, 127.0, 127.0], "std": [128.0, 128.0, 128.0]}
    assert card.model == {"feature": {"name": "efficientnet_lite0"}, **normal}


def test_efficientnet_lite_is_told_by_its_layers(tmp_path):
    for kind in ("efficientnet_lite1", "efficientnet_lite2"):
        card = import_weights(_save(_efficientnet(kind), tmp_path), tmp_path / kind)
        assert card.model["feature"] == {"name": kind}


def test_other_efficientnets_are_refused(tmp_path):
    squeezed = _efficientnet(**{"_blocks.0._se_reduce.weight": torch.rand(8, 32, 1, 1)})
    with pytest.raises(CheckpointError, match="squeeze and excitation, expected one of eff"):
        import_weights(_save(squeezed, tmp_path), tmp_path / "out")
    wide = _efficientnet(**{"_conv_stem.weight": torch.rand(40, 3, 3, 3)})
    with pytest.raises(CheckpointError, match="of 16 blocks whose layers have other shapes"):
        import_weights(_save(wide, tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_mobilenet_without_its_end(tmp_path, width):
    own = MobileNetV2(width=width, channels=8).state_dict()
    tensors = {name: value for name, value in own.items() if not name.startswith("feat_conv.")}
    end = {"features.18.0.weight": torch.rand(4, 320, 1, 1), "classifier.1.bias": torch.rand(3)}

    card = import_weights(_save({**tensors, **end}, tmp_path), tmp_path / "out")

    written = read_state_dict(tmp_path / "out" / "feature.safetensors")
    wanted = {name for name in tensors if not name.endswith("num_batches_tracked")}
    assert written.keys() == wanted
    assert all(torch.equal(written[name], tensors[name]) for name in wanted)
    settings = {"name": "mobilenet_v2"} | ({} if width == 1 else {"width": width})
    assert (card.model, card.left_out) == ({"feature": settings}, tuple(sorted(end)))


@pytest.mark.parametrize("kind", ["efficientnet_lite0", "mobilenet_v2"])
def test_first_layer_is_rewritten_for_another_normalisation(tmp_path, kind):
    """Inside the frame the first layer gives what it gave for its own normalisation."""
    if kind == "mobilenet_v2":
        network, first, norm = MobileNetV2(channels=8), "features.0.0", "features.0.1"
        tensors = {n: v for n, v in network.state_dict().items() if "feat_conv" not in n}
        mean, std = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
    else:
        tensors, first, norm = _efficientnet(), "conv_stem", "bn0"
        mean, std = [127.0] * 3, [128.0] * 3
    frame = torch.randint(0, 256, (1, 3, 16, 16)).float()
    wanted = {"mean": (90.0, 100.0, 110.0), "std": (50.0, 60.0, 70.0)}

    import_weights(_save(tensors, tmp_path), tmp_path / "own")
    import_weights(_save(tensors, tmp_path), tmp_path / "other", **wanted)

    results = []
    for folder, (m, s) in {"own": (mean, std), "other": wanted.values()}.items():
        written = read_state_dict(tmp_path / folder / "feature.safetensors")
        m, s = (torch.tensor(t).view(1, 3, 1, 1) for t in (m, s))
        maps = F.conv2d(((frame - m) / s).flip(1), written[f"{first}.weight"], stride=2)
        results.append(maps - written[f"{norm}.running_mean"].view(1, -1, 1, 1))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def _counters(kind):
    with torch.device("meta"):
        return [name for name in kind().state_dict() if name.endswith("num_batches_tracked")]
