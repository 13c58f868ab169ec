"""Pictures in which labels and number of a frame can be read off the pixels."""

import numpy as np


def blobs(seed):
    """Labels 0..4 in blocks of 6 x 6, ``(24, 36)``."""
    coarse = np.random.default_rng(seed).integers(0, 5, (4, 6)).astype(np.uint8)
    return np.kron(coarse, np.ones((6, 6), np.uint8))


def painted(labels, number):
    image = np.zeros((*labels.shape, 3), np.uint8)
    image[..., 0] = labels * 50
    image[..., 1] = number * 10
    return image
