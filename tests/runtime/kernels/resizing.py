"""The convention of docs/design/networks.md for resizing, written out for tests."""

import cv2
import numpy as np


def resize_by_convention(image, size):
    """An image at ``(H, W)``: means of four, then bilinear; no side more than 2.25 times left."""
    height, width = size
    while image.shape[0] % 2 == image.shape[1] % 2 == 0 and (
        image.shape[0] >= 2 * height and image.shape[1] >= 2 * width
    ):
        blocks = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, 3).astype(int)
        image = ((blocks.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
