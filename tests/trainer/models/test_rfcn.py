"""R-FCN's learned maps: which half of the features each reads, layout, start and cost."""

import pytest
import torch

from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.errors import ConfigError
from dff_edge.trainer.models import RfcnHead, macs

SETTINGS = RfcnSettings(bins=3, anchor_scales=(1, 2))


@pytest.fixture
def head():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20171)
        return RfcnHead(64, 2, SETTINGS)


def test_shapes_are_those_of_anchors_bins_and_classes(head):
    maps = head.maps(torch.zeros(2, 64, 4, 5))

    assert [tuple(m.shape) for m in maps] == [(2, n, 4, 5) for n in (6, 24, 27, 36)]


@pytest.mark.parametrize(("half", "names"), [(0, (0, 1)), (1, (2, 3))])
def test_each_map_reads_its_half_of_the_features(head, half, names):
    features = torch.rand(1, 64, 2, 2)
    before = head(features)

    features[:, 32 * half : 32 * (half + 1)] += 1
    after = head(features)

    changed = tuple(n for n in range(4) if not torch.equal(before[n], after[n]))
    assert changed == names


def test_learned_layers_start_as_the_paper_says(head):
    weights = torch.cat([p.flatten() for p in head.parameters() if p.ndim == 4])
    biases = torch.cat([p for p in head.parameters() if p.ndim == 1])

    assert weights.std().item() == pytest.approx(0.01, rel=0.05)
    assert not biases.any()


def test_cost_is_that_of_its_1x1_convolutions(head):
    assert macs(head, (1, 64, 4, 5)) == 4 * 5 * 32 * (6 + 24 + 27 + 36)


def test_odd_channels_are_refused():
    with pytest.raises(ConfigError, match="channels is 65, expected an even number"):
        RfcnHead(65, 2, SETTINGS)
