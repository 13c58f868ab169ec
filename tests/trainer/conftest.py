"""A small model with weights that are not those of the start, and a run that ended."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dff_edge.trainer.models import build_model
from dff_edge.trainer.train import train
from tests.trainer.runs import recorded, with_validation
from tests.trainer.tiny import tiny_config


@pytest.fixture
def rng():
    return np.random.default_rng(20171)


@pytest.fixture
def tiny():
    return tiny_config()


@pytest.fixture
def model(tiny):
    """Every weight and statistic random, so that none can be lost unseen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20171)
        model = build_model(tiny.model)
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if name.endswith("running_var"):
                    tensor.uniform_(0.5, 2.0)
                elif name.endswith("num_batches_tracked"):
                    tensor.fill_(3001)  # float16 has no such number
                elif tensor.ndim == 1:
                    tensor.add_(torch.randn_like(tensor) * 0.1)
            if model.flow.scale is not None:
                model.flow.scale.weight.normal_(std=0.1)
            # Scores about zero, or one class wins everywhere.
            scores = model.eval().recognize(torch.rand(8, 3, 32, 64) * 255)
            model.task.score.bias.sub_(scores.mean(dim=(0, 2, 3)))
    return model.train()


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """A run of three stages with validation, and the numbers of the items it read."""
    folder = tmp_path_factory.mktemp("train") / "new" / "run"
    with recorded() as items:
        checkpoint = train(with_validation(), folder)
    return checkpoint, items
