"""The three networks together: Figure 2 of the paper, (a) and (b)."""

from __future__ import annotations

import copy

import pytest
import torch

from dff_edge.errors import ShapeError
from dff_edge.trainer.models import half_frame, warp_features
from dff_edge.trainer.models.config import FeatureConfig, FlowConfig, ModelConfig, build_model


def make_model(flow="inception", scale=True, width=0.25):
    config = ModelConfig.model_validate(
        {
            "feature": FeatureConfig(name="resnet18", width=0.125, channels=8),
            "flow": FlowConfig(name=flow, width=width, scale=scale),
            "task": {"classes": ["road", "car", "sky"], "colours": [[0, 0, 0]] * 3},
            "frame_size": (64, 96),
        }
    )
    return build_model(config)


@pytest.fixture
def pair(generator):
    return [torch.randint(0, 256, (3, 3, 64, 96), generator=generator).float() for _ in range(2)]


def test_scores_have_stride_16(pair):
    model = make_model().eval()

    assert tuple(model(*pair).shape) == (3, 3, 4, 6)
    assert tuple(model.recognize(pair[0]).shape) == (3, 3, 4, 6)


def test_pairs_of_one_frame_equal_the_per_frame_network_exactly(pair):
    model = make_model().eval()
    key, current = pair
    same = torch.tensor([True, False, True])
    current[same] = key[same]

    scores = model(key, current, same)

    per_frame = model.recognize(key)
    assert torch.equal(scores[same], per_frame[same])
    assert not torch.equal(scores[1], per_frame[1])
    assert torch.equal(scores[1], model(key, current)[1])


def test_propagation_is_flow_then_warp_then_scale(pair):
    model = make_model().eval()
    torch.nn.init.normal_(model.flow.scale.weight, std=0.1)
    key, current = pair
    features = model.extract(key)

    flow, scale = model.estimate_flow(half_frame(key), half_frame(current))

    assert bool((scale != 1).any())
    expected = warp_features(features, flow) * scale
    torch.testing.assert_close(model.propagate(features, key, current), expected)


def test_normalisation_is_inside(pair):
    model = make_model().eval()
    mean = torch.tensor([103.53, 116.28, 123.675]).view(1, 3, 1, 1)
    std = torch.tensor([57.375, 57.12, 58.395]).view(1, 3, 1, 1)

    torch.testing.assert_close(model.extract(pair[0]), model.feature((pair[0] - mean) / std))


def test_flow_network_without_scale_propagates(pair):
    model = make_model(scale=False).eval()

    assert model.estimate_flow(half_frame(pair[0]), half_frame(pair[1]))[1] is None
    assert tuple(model(*pair).shape) == (3, 3, 4, 6)


@pytest.mark.parametrize("flow", ["simple", "half", "inception"])
def test_gradient_reaches_all_three_networks(flow, pair):
    model = make_model(flow)

    model(*pair).square().sum().backward()

    for part in (model.feature.conv1, model.flow.conv1[0], model.flow.scale, model.task.score):
        assert bool(torch.isfinite(part.weight.grad).all())
        assert bool(part.weight.grad.any())


def test_flow_network_takes_part_with_zero_gradient_when_all_pairs_are_one_frame(pair):
    model = make_model()

    model(pair[0], pair[0], torch.ones(3, dtype=torch.bool)).square().sum().backward()

    gradients = [
        weight.grad for key, weight in model.flow.named_parameters() if "predict" not in key
    ]
    assert all(gradient is not None for gradient in gradients)
    assert not any(bool(gradient.any()) for gradient in gradients)
    assert bool(model.feature.conv1.weight.grad.any())


def test_same_seed_gives_same_weights_scores_and_gradients(pair):
    def run():
        torch.manual_seed(5)
        model = make_model()
        scores = model(*pair)
        scores.square().sum().backward()
        return scores, model.flow.conv1[0].weight.grad

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)


def test_scores_do_not_depend_on_the_rest_of_the_batch(pair):
    model = make_model().eval()
    key, current = pair

    alone = torch.cat([model(key[n : n + 1], current[n : n + 1]) for n in range(3)])

    # Kernels may add in another order for another batch size.
    torch.testing.assert_close(model(key, current), alone, rtol=1e-4, atol=1e-5)


def test_model_survives_a_deep_copy(pair):
    model = make_model().eval()

    assert torch.equal(copy.deepcopy(model)(*pair), model(*pair))


def test_frames_that_differ_are_refused():
    with pytest.raises(ShapeError, match=r"\(1, 3, 64, 96\) and current \(1, 3, 64, 64\)"):
        make_model()(torch.zeros(1, 3, 64, 96), torch.zeros(1, 3, 64, 64))


def test_same_that_is_not_bool_is_refused(pair):
    with pytest.raises(ShapeError, match=r"torch.int64 \(3,\), expected torch.bool \(3,\)"):
        make_model()(*pair, torch.ones(3, dtype=torch.int64))
