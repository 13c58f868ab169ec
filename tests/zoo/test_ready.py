"""Ready bundles, made from a checkpoint by its card."""

import json

import pytest

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import DffEdgeError
from dff_edge.trainer.checkpoint import load_checkpoint
from dff_edge.zoo.ready import carried_models, main, make_ready


@pytest.fixture
def tiny_model(tiny_model, monkeypatch):
    """The model called tiny, which a wheel would carry."""
    card = tiny_model / "card.json"
    facts = json.loads(card.read_text())
    height, width = facts["frame_size"]
    clips = f"synthetic://street?split=train&clips=2&frames=12&height={height}&width={width}"
    own = {"precisions": ["int8"], "calibration": clips}
    card.write_text(json.dumps({**facts, "bundle": own}))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    return tiny_model


def test_ready_bundle_is_that_of_the_card_and_the_same_again(tiny_model, capsys):
    main()
    first = Bundle.open(tiny_model / "bundle")
    manifest = first.manifest
    assert first.precisions == ("int8",)
    assert set(manifest.graphs) == {"ort"}
    assert manifest.provenance.checkpoint_sha256 == load_checkpoint(tiny_model).digest
    assert manifest.provenance.created == "2023-11-14T22:13:20+00:00"
    record = manifest.calibration["ort"]["int8"]
    assert (
        record.source == json.loads((tiny_model / "card.json").read_text())["bundle"]["calibration"]
    )
    assert record.date == manifest.provenance.created
    size = sum(file.bytes for file in manifest.files.values())
    assert f"bundle: int8, {size / 1e6:.1f} MB\n" in capsys.readouterr().out

    assert make_ready("tiny", lambda line: None).digest == first.digest


def test_model_that_stays_in_the_repository_has_none(tiny_model):
    card = tiny_model / "card.json"
    facts = json.loads(card.read_text())
    card.write_text(
        json.dumps({**facts, "bundle": None, "data": {**facts["data"], "use": "research"}})
    )
    assert carried_models() == ()
    with pytest.raises(DffEdgeError, match="'tiny' stays in the repository by its card"):
        make_ready("tiny", lambda line: None)


def test_calibration_that_is_no_address_is_in_the_models_folder(tiny_model):
    card = tiny_model / "card.json"
    facts = json.loads(card.read_text())
    card.write_text(
        json.dumps({**facts, "bundle": {"precisions": ["int8"], "calibration": "clips"}})
    )
    with pytest.raises(DffEdgeError, match=f"{tiny_model}/clips"):
        make_ready("tiny", lambda line: None)
