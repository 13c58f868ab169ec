"""The numbers of the paper, for comparison.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715, Tables 2, 4 and 5.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A row of Table 4 or 5.

    Attributes:
        accuracy: mIoU on Cityscapes at l = 5, or mAP on ImageNet VID at l = 10, in %.
        fps: frames per second, networks on a K40 GPU, SIFT-Flow on a CPU.
    """

    accuracy: float
    fps: float


# 1 / r by feature and flow network.
TABLE_2 = {
    ("resnet50", "simple"): 9.20,
    ("resnet50", "half"): 33.56,
    ("resnet50", "inception"): 68.97,
    ("resnet101", "simple"): 12.71,
    ("resnet101", "half"): 46.30,
    ("resnet101", "inception"): 95.24,
}

TABLE_4 = {
    "segmentation": {
        "frame": Published(71.1, 1.52),
        "siftflow-slow": Published(67.8, 0.08),
        "siftflow-fast": Published(67.3, 0.95),
        "dff": Published(69.2, 5.60),
        "dff-fix-n": Published(68.8, 5.60),
        "dff-fix-f": Published(67.0, 5.60),
        "dff-separate": Published(66.9, 5.60),
    },
    "detection": {
        "frame": Published(73.9, 4.05),
        "siftflow-slow": Published(70.7, 0.26),
        "siftflow-fast": Published(69.7, 3.04),
        "dff": Published(73.1, 20.25),
        "dff-fix-n": Published(72.3, 20.25),
        "dff-fix-f": Published(68.8, 20.25),
        "dff-separate": Published(67.4, 20.25),
    },
}

# By layers in the task network.
TABLE_5 = {
    "segmentation": {
        21: Published(69.1, 2.87),
        12: Published(69.1, 3.14),
        5: Published(69.2, 3.89),
        1: Published(69.2, 5.60),
        0: Published(69.5, 5.61),
    },
    "detection": {
        21: Published(73.2, 7.23),
        12: Published(73.3, 8.04),
        5: Published(73.2, 9.99),
        1: Published(73.1, 20.25),
        0: Published(72.7, 20.40),
    },
}
