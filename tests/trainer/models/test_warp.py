"""The warp of training against Eq. (1)-(4) written as the paper's double sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dff_edge.errors import ShapeError
from dff_edge.trainer.models import warp_features

ATOL32 = 1e-5  # float32, four products and three sums of values near 1
ATOL64 = 1e-12  # the same in float64

SIZES = [(5, 7), (1, 6), (6, 1), (1, 1)]


def kernel(a, b):
    """g of Eq. (2)."""
    return np.maximum(0.0, 1.0 - abs(a - b))


def kernel_slope(a, b):
    """dg/db of Eq. (2), away from its kinks."""
    return np.where(abs(a - b) < 1, np.sign(a - b), 0.0)


def warp_by_definition(features, flow, scale):
    """Slow and literal, Eq. (1)-(3): every cell p sums over every cell q."""
    channels, height, width = features.shape
    out = np.zeros((channels, height, width))
    for y, x in np.ndindex(height, width):
        dx, dy = flow[:, y, x]
        for qy, qx in np.ndindex(height, width):
            weight = kernel(qx, x + dx) * kernel(qy, y + dy)
            out[:, y, x] += weight * features[:, qy, qx]
    return out * scale


def flow_gradient_by_definition(features, flow, scale):
    """Slow and literal, Eq. (4) summed over channels, as for the loss sum(f_i)."""
    _, height, width = features.shape
    gradient = np.zeros((2, height, width))
    for y, x in np.ndindex(height, width):
        dx, dy = flow[:, y, x]
        for qy, qx in np.ndindex(height, width):
            weighted = (scale[:, y, x] * features[:, qy, qx]).sum()
            gradient[0, y, x] += kernel_slope(qx, x + dx) * kernel(qy, y + dy) * weighted
            gradient[1, y, x] += kernel(qx, x + dx) * kernel_slope(qy, y + dy) * weighted
    return gradient


def random_case(generator, size, max_flow, dtype=torch.float64):
    features = torch.randn(1, 3, *size, generator=generator, dtype=dtype)
    flow = (2 * torch.rand(1, 2, *size, generator=generator, dtype=dtype) - 1) * max_flow
    scale = 1 + 0.5 * torch.randn(1, 3, *size, generator=generator, dtype=dtype)
    return features, flow, scale


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, ATOL64), (torch.float32, ATOL32)])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("max_flow", [0.0, 0.5, 3.0, 50.0])
def test_matches_the_double_sum(generator, size, max_flow, dtype, atol):
    features, flow, scale = random_case(generator, size, max_flow, dtype)

    warped = warp_features(features, flow, scale)

    expected = warp_by_definition(*(maps[0].double().numpy() for maps in (features, flow, scale)))
    np.testing.assert_allclose(warped[0].numpy(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_whole_cell_flows_match_the_double_sum(generator, size):
    features, _, scale = random_case(generator, size, 0.0)
    flow = torch.randint(-2, 3, (1, 2, *size), generator=generator).double()

    warped = warp_features(features, flow, scale)

    expected = warp_by_definition(*(maps[0].numpy() for maps in (features, flow, scale)))
    np.testing.assert_allclose(warped[0].numpy(), expected, rtol=0, atol=ATOL64)


@pytest.mark.parametrize("size", [(5, 7), (1, 6)], ids=str)
def test_flow_gradient_is_eq_4(generator, size):
    features, flow, scale = random_case(generator, size, 2.0)
    flow.requires_grad_()

    warp_features(features, flow, scale).sum().backward()

    expected = flow_gradient_by_definition(
        *(maps[0].detach().numpy() for maps in (features, flow, scale))
    )
    np.testing.assert_allclose(flow.grad[0].numpy(), expected, rtol=0, atol=1e-11)


def test_gradcheck_of_all_three_inputs(generator):
    features, flow, scale = random_case(generator, (3, 5), 1.5)
    inputs = [maps.requires_grad_() for maps in (features, flow, scale)]

    assert torch.autograd.gradcheck(warp_features, inputs)


def test_gradcheck_without_scale(generator):
    features, flow, _ = random_case(generator, (3, 5), 1.5)

    assert torch.autograd.gradcheck(
        warp_features, [features.requires_grad_(), flow.requires_grad_()]
    )


def test_zero_flow_gives_the_features_back(generator):
    features = torch.randn(2, 3, 5, 7, generator=generator)

    warped = warp_features(features, torch.zeros(2, 2, 5, 7))

    torch.testing.assert_close(warped, features, rtol=0, atol=ATOL32)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e30, -3e38])
@pytest.mark.parametrize("component", [0, 1])
def test_flow_that_points_nowhere_gives_zero_there_only(generator, bad, component):
    features, flow, scale = random_case(generator, (5, 7), 1.0, torch.float32)
    untouched = warp_features(features, flow, scale)
    flow[0, component, 2, 3] = bad

    warped = warp_features(features, flow, scale)

    assert bool((warped[0, :, 2, 3] == 0).all())
    warped[0, :, 2, 3] = untouched[0, :, 2, 3]
    assert torch.equal(warped, untouched)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_flow_has_no_gradient_and_spoils_no_other(generator, bad):
    features, flow, scale = random_case(generator, (5, 7), 1.0)
    flow[0, 0, 2, 3] = bad
    inputs = [maps.requires_grad_() for maps in (features, flow, scale)]

    warp_features(*inputs).sum().backward()

    assert all(bool(torch.isfinite(maps.grad).all()) for maps in inputs)
    assert bool((flow.grad[0, :, 2, 3] == 0).all())
    assert int((flow.grad != 0).any(dim=1).sum()) > 20


def test_half_precision_keeps_its_coordinates(generator):
    # At x = 200 bfloat16 knows whole cells only.
    features = torch.rand(1, 1, 1, 256, generator=generator).bfloat16()
    flow = torch.zeros(1, 2, 1, 256)
    flow[:, 0] = 0.5

    warped = warp_features(features, flow)

    expected = warp_features(features.float(), flow)
    assert warped.dtype == torch.bfloat16
    torch.testing.assert_close(warped, expected.bfloat16(), rtol=0, atol=0)


def test_autocast_does_not_lower_the_coordinates(generator):
    features, flow, scale = random_case(generator, (5, 200), 3.0, torch.float32)
    expected = warp_features(features, flow, scale)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        warped = warp_features(features, flow, scale)

    assert torch.equal(warped, expected)


def test_image_sized_flow_is_refused():
    with pytest.raises(ShapeError, match=r"\(1, 2, 64, 96\), expected \(1, 2, 4, 6\).*stride"):
        warp_features(torch.zeros(1, 8, 4, 6), torch.zeros(1, 2, 64, 96))


def test_scale_of_other_channels_is_refused():
    with pytest.raises(ShapeError, match=r"scale has shape \(1, 4, 4, 6\)"):
        warp_features(torch.zeros(1, 8, 4, 6), torch.zeros(1, 2, 4, 6), torch.zeros(1, 4, 4, 6))


def test_features_without_batch_are_refused():
    with pytest.raises(ShapeError, match=r"\(8, 4, 6\), expected \(N, C, h, w\)"):
        warp_features(torch.zeros(8, 4, 6), torch.zeros(2, 4, 6))
