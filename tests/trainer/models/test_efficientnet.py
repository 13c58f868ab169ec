"""EfficientNet-Lite against its published facts, and TensorFlow's padding by its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dff_edge.errors import ConfigError
from dff_edge.trainer.models import EfficientNetLite
from dff_edge.trainer.models.efficientnet import SameConv2d

NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
# Of the published files, in all; then the classifier and the last 1x1 convolution, which are not
# here (1280 x 1000 + 1000, k x 1280 + 2 x 1280).
PARAMETERS = {
    "efficientnet_lite0": 4_652_008 - 1_281_000 - (320 * 1280 + 2560),
    "efficientnet_lite1": 5_416_680 - 1_281_000 - (320 * 1280 + 2560),
    "efficientnet_lite2": 6_092_072 - 1_281_000 - (352 * 1280 + 2560),
}
# Entries of its state dict, listed by hand from the published files.
SHAPES = {
    "conv_stem.weight": (32, 3, 3, 3),
    "block.0.depthwise_conv.weight": (32, 1, 3, 3),
    "block.0.project_conv.weight": (16, 32, 1, 1),
    "block.1.expand_conv.weight": (96, 16, 1, 1),
    "block.3.depthwise_conv.weight": (144, 1, 5, 5),
    "block.15.project_conv.weight": (320, 1152, 1, 1),
    "block.15.bn2.running_mean": (320,),
}
ATOL = 1e-5


def seeded(**options):
    torch.manual_seed(3)
    network = EfficientNetLite(width=0.25, channels=8, **options).eval()
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.uniform_(-0.2, 0.2)
    return network


@pytest.mark.parametrize("name", NAMES)
def test_number_of_weights_is_the_published_one(name):
    with torch.device("meta"):
        network = EfficientNetLite(name)

    assert sum(p.numel() for p in network.body_parameters()) == PARAMETERS[name]


def test_weights_have_published_names_and_shapes():
    with torch.device("meta"):
        state = EfficientNetLite().state_dict()

    assert {key: tuple(state[key].shape) for key in SHAPES} == SHAPES


@pytest.mark.parametrize("cells", [4, 7, 8, 9])
@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (3, 1, 2), (5, 1, 1)]
)
def test_padding_is_tensorflows(cells, size, stride, dilation):
    """Of what is missing for ceil(n / stride) outputs the smaller half is in front."""
    torch.manual_seed(0)
    conv = SameConv2d(2, 3, size, stride=stride, dilation=dilation)
    maps = torch.randn(1, 2, cells, 11)

    got = conv(maps)[0].detach().numpy()

    count = [-(-n // stride) for n in (cells, 11)]
    missing = [
        max((outputs - 1) * stride + (size - 1) * dilation + 1 - n, 0)
        for outputs, n in zip(count, (cells, 11), strict=True)
    ]
    expected = np.zeros((3, *count))
    kernel = conv.weight.detach().numpy()
    for y, x, i, j in np.ndindex(*count, size, size):
        row = y * stride + i * dilation - missing[0] // 2
        column = x * stride + j * dilation - missing[1] // 2
        if 0 <= row < cells and 0 <= column < 11:
            expected[:, y, x] += kernel[:, :, i, j] @ maps[0, :, row, column].numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize("stride", [8, 16])
def test_dilated_maps_hold_the_published_ones(stride):
    """A convolution of stride 2 on an even number of cells is centred on every second one."""
    coarse, fine = seeded(neck="pyramid"), seeded(stride=stride)
    fine.load_state_dict({**fine.state_dict(), **body(coarse.state_dict())})
    frame = torch.randn(1, 3, 128, 192)

    with torch.no_grad():
        found, expected = (run_body(network, frame) for network in (fine, coarse))

    step = 32 // stride
    torch.testing.assert_close(found[..., step - 1 :: step, step - 1 :: step], expected)


@pytest.mark.parametrize("neck", ["dilated", "pyramid"])
@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("frame", [(64, 96), (48, 80), (47, 81)])
def test_features_have_the_stride_at_any_size(neck, stride, frame):
    features = seeded(neck=neck, stride=stride)(torch.randn(2, 3, *frame))

    assert tuple(features.shape) == (2, 8, *(-(-side // stride) for side in frame))
    assert features.min() >= 0


def test_unknown_stride_and_no_channels_are_refused():
    with pytest.raises(ConfigError, match="stride is 2, expected 4, 8 or 16"):
        EfficientNetLite(stride=2)
    with pytest.raises(ConfigError, match="channels is 0"):
        EfficientNetLite(channels=0)


def body(state):
    return {k: v for k, v in state.items() if k.startswith(("conv_stem", "bn0", "block."))}


def run_body(network, maps):
    for _, step in network.body():
        maps = step(maps)
    return maps
