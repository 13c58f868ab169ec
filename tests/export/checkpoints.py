"""Small models that behave like trained ones, and their bundles, exported once a test run."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dff_edge.bundle.reader import Bundle
from dff_edge.export import export_bundle
from dff_edge.synthetic import StreetScene
from dff_edge.trainer.checkpoint import Checkpoint
from dff_edge.trainer.models import DeepFeatureFlow, ModelConfig, build_model, half_frame

FRAME_SIZE = (64, 96)
CHANNELS, CLASSES = 12, 4
DIGEST = "ab" * 32

# A few small anchors and bins, and fewer proposals than there are.
RFCN = {
    "bins": 3,
    "anchor_scales": (1, 2),
    "anchor_ratios": (0.5, 1, 2),
    "proposals_before_nms": 100,
    "proposals": 20,
    "detections": 30,
    "min_score": 0.05,
}
SPREADS = {"objectness": 2.0, "deltas": 1.0, "class_maps": 6.0, "box_maps": 1.0}

_BUNDLES: dict[tuple[str, bool, int, str], Bundle] = {}


def tiny_checkpoint(
    flow: str = "inception",
    *,
    scale: bool = True,
    feature: str = "resnet18",
    frame_size: tuple[int, int] = FRAME_SIZE,
    task: str = "segmentation",
    split: str = "head",
    stride: int = 16,
    neck: str = "dilated",
    correction: bool = False,
) -> Checkpoint:
    """Return a model with random weights whose layers see what layers of trained ones see.

    BatchNorm has the statistics of street frames, the flow is about a cell, the scale
    field varies around one, and no class wins everywhere.
    """
    config = ModelConfig.model_validate(
        {
            "feature": {
                "name": feature,
                "width": 0.125,
                "channels": CHANNELS,
                "stride": stride,
                "neck": neck,
            },
            "flow": {"name": flow, "width": 0.25, "scale": scale},
            "correction": {"width": 0.25, "channels": 8} if correction else None,
            "task": {
                "name": task,
                **({"rfcn": RFCN} if task == "detection" else {}),
                "classes": [f"class{i}" for i in range(CLASSES)],
                "colours": [[10 * i, 20, 30] for i in range(CLASSES)],
            },
            "split": split,
            "frame_size": frame_size,
        }
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(77)
        model = build_model(config)
        frames = _street_frames(frame_size)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # the plain mean over what it sees
                layer.weight.uniform_(0.7, 1.3)
                layer.bias.normal_(std=0.2)
        if model.flow.scale is not None:
            nn.init.normal_(model.flow.scale.weight, std=0.05)
        if model.correction is not None:
            nn.init.normal_(model.correction.score.weight, std=0.5)
            nn.init.normal_(model.correction.gate.weight, std=0.05)
        model.train()
        model(frames[:-1], frames[1:])
        model.eval()
        halves = half_frame(frames)
        estimate, _ = model.estimate_flow(halves[:-1], halves[1:])
        model.flow.flow.weight /= estimate.std()
        if model.rfcn is None:
            nn.init.normal_(model.task.score.weight, std=0.3)
            scores = model.recognize(frames)
            model.task.score.bias -= scores.mean((0, 2, 3))
        else:
            _spread_maps(model, frames)
    config_of_training = {
        "data": {"train": "synthetic://street?split=train", "max_distance": 2},
        "stages": [{"kind": "recognition"}, {"kind": "pairs"}],
    }
    training = {"config": config_of_training, "torch": "2.0"}
    return Checkpoint("tiny", config, model, training, DIGEST)


def _spread_maps(model: DeepFeatureFlow, frames: Tensor) -> None:
    """Have R-FCN's maps vary: sure of some boxes, and moving all of them."""
    head = model.task
    for layer in (head.objectness, head.deltas, head.class_maps, head.box_maps):
        nn.init.normal_(layer.weight)
    raw = model.recognize(frames)
    for name, maps in raw._asdict().items():
        layer = getattr(head, name)
        layer.weight *= SPREADS[name] / maps.std()
        layer.bias -= maps.mean((0, 2, 3)) * SPREADS[name] / maps.std()


def tiny_bundle(
    factory: pytest.TempPathFactory,
    flow: str = "inception",
    *,
    scale: bool = True,
    opset: int = 17,
    task: str = "segmentation",
) -> Bundle:
    """Return the exported bundle of ``tiny_checkpoint``. It is shared: do not change it."""
    key = (flow, scale, opset, task)
    if key not in _BUNDLES:
        checkpoint = tiny_checkpoint(flow, scale=scale, task=task)
        path = factory.mktemp("export") / "bundle"
        _BUNDLES[key] = export_bundle(checkpoint, path, interval=4, opset=opset)
    return _BUNDLES[key]


def _street_frames(size: tuple[int, int]) -> Tensor:
    """Frames float ``(N, 3, H, W)``, BGR 0..255."""
    scene = StreetScene(3, "train", size, 8)
    images: Iterable[np.ndarray] = (scene.render(i)[0] for i in range(8))
    return torch.from_numpy(np.stack(list(images))).permute(0, 3, 1, 2).float()
