"""Normalisation, and the half-size frame against OpenCV's area averaging."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from dff_edge.errors import ConfigError
from dff_edge.trainer.models import Normalize, half_frame


def test_each_channel_has_its_own_mean_and_deviation():
    normalize = Normalize((10.0, 20.0, 30.0), (1.0, 2.0, 4.0))
    frame = torch.tensor([12.0, 24.0, 26.0]).view(1, 3, 1, 1)

    assert normalize(frame).flatten().tolist() == [2.0, 2.0, -1.0]


def test_constants_are_not_in_the_state_dict():
    assert Normalize((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).state_dict() == {}


@pytest.mark.parametrize("std", [(1.0, 0.0, 1.0), (1.0, 1.0)])
def test_deviations_that_cannot_be_divided_by_are_refused(std):
    with pytest.raises(ConfigError, match="the deviations positive"):
        Normalize((0.0, 0.0, 0.0), std)


def test_half_frame_is_the_devices_to_the_bit():
    image = np.random.default_rng(3).integers(0, 256, (46, 70, 3), np.uint8)
    frame = torch.from_numpy(image).permute(2, 0, 1)[None].float()

    half = half_frame(frame)

    expected = cv2.resize(image, (35, 23), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(half[0].permute(1, 2, 0).numpy(), expected)


def test_halves_round_up():
    frame = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).expand(1, 3, 2, 2)

    assert half_frame(frame).flatten().tolist() == [1.0, 1.0, 1.0]


def test_odd_last_row_and_column_are_averaged_on_their_own():
    frame = torch.tensor([[0.0, 4.0, 7.0], [8.0, 4.0, 9.0], [1.0, 3.0, 5.0]]).expand(1, 1, 3, 3)

    assert half_frame(frame)[0, 0].tolist() == [[4.0, 8.0], [2.0, 5.0]]
