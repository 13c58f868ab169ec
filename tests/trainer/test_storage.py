"""Weights in half precision and as bytes: against the definition, and what is refused."""

import numpy as np
import pytest
import torch

from dff_edge.errors import CheckpointError
from dff_edge.trainer.storage import restored, stored

KERNEL = torch.tensor([[1.27, -0.635, 0.006], [0.0, 0.0, 0.0], [-2.0, 1.0, 0.5]])


def test_half_precision_is_the_nearest_one():
    tensors = {"w": torch.randn(3, 4), "b": torch.tensor([0.1]), "n": torch.tensor(70000)}

    back = restored(stored(tensors, "float16"))

    assert back["w"].dtype == torch.float16
    for name in ("w", "b"):
        assert np.array_equal(back[name].numpy(), tensors[name].numpy().astype(np.float16))
    assert back["n"] == 70000  # counters are not numbers to round


def test_bytes_of_a_kernel_by_hand():
    kept = stored({"w": KERNEL, "b": torch.tensor([0.1])}, "int8")

    assert kept["w"].tolist() == [[127, -64, 1], [0, 0, 0], [-127, 64, 32]]
    np.testing.assert_allclose(kept["w:scale"], [0.01, 1, 2 / 127], rtol=1e-6)
    assert kept["b"].dtype == torch.float16
    np.testing.assert_allclose(restored(kept)["w"][0], [1.27, -0.64, 0.01], rtol=1e-6)


def test_bytes_are_off_by_half_a_step_at_most_and_stay_what_they_are():
    tensors = {"w": torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0))}

    kept = stored(tensors, "int8")
    back = restored(kept)

    step = tensors["w"].abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    assert ((back["w"] - tensors["w"]).abs() <= step * 0.5001).all()
    assert torch.equal(stored(back, "int8")["w"], kept["w"])


def test_full_precision_is_left_as_it_is():
    assert stored({"w": KERNEL}, "float32")["w"] is KERNEL


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_what_half_precision_cannot_hold_is_refused(storage):
    with pytest.raises(CheckpointError, match=r"b holds 1e\+05, too large for float16"):
        stored({"b": torch.tensor([1e5])}, storage)


def test_what_is_not_finite_has_no_bytes():
    with pytest.raises(CheckpointError, match="w holds infinite numbers or NaN"):
        stored({"w": torch.full((2, 2), torch.nan)}, "int8")


@pytest.mark.parametrize(
    "change",
    [
        {"w": KERNEL},
        {"w:scale": torch.ones(2)},
        {"v:scale": torch.ones(3)},
    ],
    ids=["no bytes", "of another width", "of nothing"],
)
def test_scales_that_fit_nothing_are_refused(change):
    with pytest.raises(CheckpointError, match="expected one number for each output channel"):
        restored(stored({"w": KERNEL}, "int8") | change)
