"""Batches that are the same to the bit, unknown flow included."""

import torch


def equal(a, b):
    assert set(a) == set(b)
    return all(_equal(a[name], b[name]) for name in a)


def _equal(a, b):
    if isinstance(a, list):
        return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a.nan_to_num(-1), b.nan_to_num(-1))
