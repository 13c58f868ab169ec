"""The correction network: nothing at the start, nothing on key frames, its scores elsewhere."""

from __future__ import annotations

import pytest
import torch

from dff_edge.trainer.models import CorrectionNetwork, EfficientNetLite, half_frame
from dff_edge.trainer.models.config import ModelConfig, build_model

GATE = {"gate_kernels": 8}


def make_model(stride=16, correction=True):
    config = ModelConfig.model_validate(
        {
            "feature": {"name": "resnet18", "width": 0.125, "channels": 8, "stride": stride},
            "flow": {"name": "inception", "width": 0.25},
            "correction": {"width": 0.25, "channels": 8} if correction else None,
            "task": {"classes": ["road", "car", "sky"], "colours": [[0, 0, 0]] * 3},
            "frame_size": (64, 96),
        }
    )
    return build_model(config).eval()


@pytest.fixture
def pair(generator):
    return [torch.randint(0, 256, (3, 3, 64, 96), generator=generator).float() for _ in range(2)]


def test_a_new_one_adds_nothing(pair):
    model, plain = make_model(), make_model(correction=False)
    plain.load_state_dict(model.state_dict(), strict=False)

    assert torch.equal(model(*pair), plain(*pair))
    assert plain.move(*map(half_frame, pair))[2] is None


@pytest.mark.parametrize("stride", [8, 16])
def test_it_is_added_to_the_scores_of_propagated_frames_alone(pair, stride):
    model = make_model(stride)
    torch.nn.init.normal_(model.correction.score.weight)
    torch.nn.init.normal_(model.correction.gate.weight, std=0.1)
    key, current = pair
    same = torch.tensor([False, True, False])
    current[same] = key[same]
    _, _, added = model.move(half_frame(key), half_frame(current))
    assert added.shape == (3, 3, 64 // stride, 96 // stride)
    assert bool((added != 0).any())

    scores = model(key, current, same)

    without = model.answer(model.propagate(model.extract(key), key, current))
    torch.testing.assert_close(scores[~same], (without + added)[~same])
    assert torch.equal(scores[same], model.recognize(key)[same])


def test_it_reads_the_current_frame_at_a_quarter_of_its_size(pair):
    """Any half-size frames of the same quarter-size frame give the same."""
    model = make_model()
    torch.nn.init.normal_(model.correction.score.weight)
    half = half_frame(pair[0])
    turned = half.unflatten(3, (-1, 2)).flip(4).flatten(3)  # columns of each 2x2 block exchanged

    assert not torch.equal(half, turned)
    found, expected = model.correction(turned), model.correction(half)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ratio", [1, 2])
def test_the_gate_multiplies_all_scores_of_a_cell(ratio, generator):
    model = make_model(16 // ratio)
    torch.nn.init.normal_(model.correction.score.weight)
    half = torch.randn(1, 3, 32, 48, generator=generator)
    maps = torch.randn(1, model.flow.head_kernels, 4, 6, generator=generator)
    plain = model.correction(half)
    assert torch.equal(model.correction(half, maps), plain)  # it starts at ones

    torch.nn.init.normal_(model.correction.gate.weight)
    gated = model.correction(half, maps)

    for row, column in ((0, 0), (ratio, 1), (4 * ratio - 1, 6 * ratio - 1)):
        here = maps[0, :, row // ratio, column // ratio]
        cell = row % ratio * ratio + column % ratio
        factor = model.correction.gate.weight[cell, :, 0, 0] @ here + 1
        expected = factor * plain[0, :, row, column]
        torch.testing.assert_close(gated[0, :, row, column], expected)


def test_channels_of_the_score_head_are_cells_row_by_row():
    network = CorrectionNetwork(
        "efficientnet_lite0", width=0.25, channels=4, maps=2, stride=8, **GATE
    )
    with torch.no_grad():
        network.network.feat_conv.weight.zero_()
        network.network.feat_conv.bias.fill_(1)  # features of one everywhere
        network.score.weight.copy_(torch.arange(8.0).view(8, 1, 1, 1).expand(8, 4, 1, 1) / 4)
    found = network.eval()(torch.zeros(1, 3, 32, 48))

    # Cell (row, column) of each 2x2 block has the channels 2 (2 row + column) and the next one.
    assert found.shape == (1, 2, 8, 12)
    assert found[0, 0, :2, :2].tolist() == [[0, 2], [4, 6]]
    assert found[0, 1, :2, :2].tolist() == [[1, 3], [5, 7]]
    assert torch.equal(found[..., 2:, :], found[..., :-2, :])


def test_published_weights_fit_without_their_last_stages():
    network = CorrectionNetwork(
        "efficientnet_lite0", width=1.0, channels=4, maps=2, stride=8, **GATE
    )
    whole = {name for name in EfficientNetLite().state_dict() if name.startswith("block.")}
    own = {name for name in network.network.state_dict() if name.startswith("block.")}
    left_out = {name for name in whole if name.startswith(network.network.left_out)}

    assert own | left_out == whole
    assert not own & left_out
    # Lite0 has 1 + 2 + 2 + 3 + 3 blocks in its first five stages, 4 + 1 in the others.
    assert {name.split(".")[1] for name in left_out} == {"11", "12", "13", "14", "15"}
