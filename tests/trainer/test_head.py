"""Heads for other classes: what is known keeps its weights, by name."""

import pytest
import torch

from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.trainer.head import fit_head, told
from dff_edge.trainer.models import RfcnHead, SegmentationHead


def random_head(head):
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    return head


def test_score_maps_follow_their_names():
    """Each class of both heads gives the scores that it gave; a new one those of the start."""
    old, new = random_head(SegmentationHead(6, 3)), random_head(SegmentationHead(6, 3))
    tensors, features = dict(old.state_dict()), torch.randn(2, 6, 4, 5)
    fresh = new(features).clone()

    anew = fit_head(new, tensors, ("road", "car", "sky"), ("sky", "cone", "road"))
    new.load_state_dict(tensors)

    assert anew == []
    scores = new(features)
    assert torch.equal(scores[:, 0], old(features)[:, 2])
    assert torch.equal(scores[:, 1], fresh[:, 1])
    assert torch.equal(scores[:, 2], old(features)[:, 0])


def test_class_maps_follow_their_names_in_every_bin():
    """Bin-major, the background first: ``RfcnMaps``."""
    settings = RfcnSettings(bins=3)
    old, new = random_head(RfcnHead(8, 2, settings)), random_head(RfcnHead(8, 3, settings))
    tensors, features = dict(old.state_dict()), torch.randn(1, 8, 4, 5)
    fresh = new(features).class_maps.view(1, 9, 4, 4, 5).clone()

    anew = fit_head(new, tensors, ("car", "bus"), ("cone", "bus", "bike"))
    new.load_state_dict(tensors)

    assert anew == []
    before, after = old(features), new(features)
    for part in ("objectness", "deltas", "box_maps"):
        assert torch.equal(getattr(after, part), getattr(before, part))
    known = before.class_maps.view(1, 9, 3, 4, 5)
    maps = after.class_maps.view(1, 9, 4, 4, 5)
    assert torch.equal(maps[:, :, 0], known[:, :, 0])  # background
    assert torch.equal(maps[:, :, 2], known[:, :, 2])  # bus
    assert torch.equal(maps[:, :, (1, 3)], fresh[:, :, (1, 3)])


def test_other_anchors_start_anew_and_the_scores_stay():
    old = random_head(RfcnHead(8, 2, RfcnSettings(anchor_scales=(2, 4))))
    new = random_head(RfcnHead(8, 2, RfcnSettings(anchor_scales=(1, 2, 4))))
    tensors, fresh = dict(old.state_dict()), {k: v.clone() for k, v in new.state_dict().items()}

    anew = fit_head(new, tensors, ("car", "bus"), ("car", "bus"))

    assert anew == ["deltas", "objectness"]
    assert torch.equal(tensors["deltas.weight"], fresh["deltas.weight"])
    assert torch.equal(tensors["objectness.bias"], fresh["objectness.bias"])
    assert torch.equal(tensors["class_maps.weight"], old.class_maps.weight)


def test_other_bins_start_anew():
    old = random_head(RfcnHead(8, 2, RfcnSettings(bins=3)))
    new = random_head(RfcnHead(8, 2, RfcnSettings(bins=5)))

    assert fit_head(new, dict(old.state_dict()), ("a", "b"), ("a", "b")) == [
        "box_maps",
        "class_maps",
    ]


@pytest.mark.parametrize(
    ("classes", "anew", "parts"),
    [
        (("car", "bus"), (), ["its feature and flow network are kept, and its head"]),
        (
            ("bus", "cone"),
            ("deltas",),
            ["1 class (bus), new 1 class (cone), left out 1 class (car)", "deltas start anew"],
        ),
        (
            ("cone",),
            (),
            ["of its head no class, new 1 class (cone), left out 2 classes (car, bus)"],
        ),
    ],
)
def test_the_log_says_what_is_kept_and_what_is_new(classes, anew, parts):
    text = told(("car", "bus"), classes, anew)

    assert all(part in text for part in parts), text


def test_head_of_other_features_is_left_for_the_check_of_weights():
    old, new = random_head(SegmentationHead(6, 3)), SegmentationHead(8, 2)
    tensors = dict(old.state_dict())

    assert fit_head(new, tensors, ("a", "b", "c"), ("a", "d")) == []
    assert torch.equal(tensors["score.weight"], old.score.weight)
