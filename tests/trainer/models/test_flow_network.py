"""The base of the flow networks: heads, start values, units, both strides of features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dff_edge.errors import ShapeError
from dff_edge.trainer.models import build_flow_network
from tests.trainer.models.flow_networks import NAMES, SMALL, half_pair, small


@pytest.mark.parametrize("name", NAMES)
def test_scale_starts_as_ones_exactly(name, generator):
    _, scale = small(name)(*half_pair(generator))

    assert bool((scale == 1).all())


@pytest.mark.parametrize("name", NAMES)
def test_scale_can_be_left_out(name, generator):
    network = small(name, channels=None)

    flow, scale = network(*half_pair(generator))

    assert scale is None
    assert tuple(flow.shape) == (1, 2, 4, 6)
    assert not any(key.startswith("scale") for key in network.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_flow_starts_near_zero_but_not_at_it(name, generator):
    flow, _ = small(name)(*half_pair(generator))

    assert 0 < flow.abs().max().item() < 1.0


def test_flow_is_upsampled_bilinearly_at_the_start():
    upsample = small("simple").upsample_flow["3"]
    ramp = torch.arange(6.0).expand(1, 2, 4, 6)

    up = upsample(ramp)

    expected = nn.functional.interpolate(ramp, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(up[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


@pytest.mark.parametrize("name", NAMES)
def test_every_flow_is_in_feature_cells(name, generator):
    # One unit of a prediction layer is 20 pixels of the half-size frame, 2.5 cells of 16.
    network = small(name)
    for layer in (*network.predict_flow.values(), network.flow):
        nn.init.zeros_(layer.weight)
        layer.bias.data = torch.tensor([1.0, -2.0])

    for flow in network(*half_pair(generator), multi_scale=True):
        assert bool((flow[:, 0] == 2.5).all())
        assert bool((flow[:, 1] == -5.0).all())


def test_frames_that_differ_are_refused():
    with pytest.raises(ShapeError, match=r"\(1, 3, 32, 48\).*\(1, 3, 32, 32\)"):
        small("half")(torch.zeros(1, 3, 32, 48), torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("name", NAMES)
def test_heads_for_stride_8_give_four_cells_each(name, generator):
    """Cell (2 y + j, 2 x + i) is what the outputs 2 j + i of the heads say at (y, x)."""
    network = build_flow_network(name, 5, width=SMALL[name], stride=8).eval()
    torch.nn.init.normal_(network.scale.weight, generator=generator)
    read = {}
    for head in ("flow", "scale"):
        network.get_submodule(head).register_forward_hook(
            lambda _layer, _inputs, output, head=head: read.setdefault(head, output)
        )

    flow, scale = network(*half_pair(generator))

    for found, raw, unit in ((flow, read["flow"], 5.0), (scale, read["scale"], 1.0)):
        count = found.shape[1]
        assert tuple(found.shape[2:]) == (8, 12)
        for y, x, j, i in np.ndindex(4, 6, 2, 2):
            first = (2 * j + i) * count
            expected = unit * raw[0, first : first + count, y, x]
            torch.testing.assert_close(found[0, :, 2 * y + j, 2 * x + i], expected)


@pytest.mark.parametrize("name", NAMES)
def test_one_flow_is_twice_as_many_cells_at_stride_8(name, generator):
    """All levels of pre-training have the unit of the feature cells."""
    pair = half_pair(generator)
    coarse, fine = (build_flow_network(name, 5, width=SMALL[name], stride=s) for s in (16, 8))
    own = {k: v for k, v in coarse.state_dict().items() if not k.startswith(("flow.", "scale."))}
    fine.load_state_dict({**fine.state_dict(), **own})

    flows = [network.eval()(*pair, multi_scale=True) for network in (coarse, fine)]

    for of_coarse, of_fine in zip(flows[0][:-1], flows[1][:-1], strict=True):
        torch.testing.assert_close(of_fine, 2 * of_coarse)
    assert flows[1][-1].shape[-1] == 2 * flows[0][-1].shape[-1]
