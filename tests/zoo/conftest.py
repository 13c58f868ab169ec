"""A small model among those that come with dff-edge."""

import json

import pytest

from dff_edge.bundle import shipped
from dff_edge.trainer.checkpoint import save_checkpoint
from dff_edge.trainer.models import build_model
from tests.trainer.tiny import tiny_config


@pytest.fixture
def tiny_model(tmp_path, monkeypatch):
    """A model called tiny that comes with dff-edge, and a cache and a folder of one's own."""
    folder = tmp_path / "models" / "tiny"
    config = tiny_config().model
    save_checkpoint(folder, build_model(config), config, name="tiny", training={})
    facts = json.loads((shipped.MODELS / "street" / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**facts, "name": "tiny", "frame_size": [32, 64]}))
    monkeypatch.setattr(shipped, "MODELS", folder.parent)
    monkeypatch.setenv("DFF_EDGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder
