"""Every flow network, narrow, and pairs of frames for them."""

from __future__ import annotations

import torch

from dff_edge.trainer.models import build_flow_network

NAMES = ["simple", "half", "inception"]
SMALL = {"simple": 0.125, "half": 0.25, "inception": 0.25}


def small(name, channels=5):
    return build_flow_network(name, channels, width=SMALL[name]).eval()


def half_pair(generator, frame=(64, 96), batch=1):
    half = (-(-frame[0] // 2), -(-frame[1] // 2))
    return [torch.randn(batch, 3, *half, generator=generator) for _ in range(2)]
