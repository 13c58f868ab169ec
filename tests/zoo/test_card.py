"""Cards of the shipped models: whole, true, and as their READMEs say."""

import json
import re

import pytest

from dff_edge.bundle import shipped
from dff_edge.errors import CheckpointError
from dff_edge.trainer.checkpoint import load_checkpoint
from dff_edge.zoo.card import read_card

NAMES = shipped.shipped_models()


def test_a_model_is_shipped_with_every_checkpoint():
    assert (
        set(NAMES)
        == {path.parent.name for path in shipped.MODELS.glob("*/model.json")}
        >= {"street"}
    )


@pytest.mark.parametrize("name", NAMES)
def test_card_is_that_of_the_model(name):
    card, checkpoint = read_card(name), load_checkpoint(name)
    config = checkpoint.config
    assert (card.name, checkpoint.name) == (name, name)
    assert (card.task, card.classes) == (config.task.name, config.task.classes)
    assert card.frame_size == config.frame_size
    assert (shipped.MODELS / name / "config.yaml").is_file()
    assert list((shipped.MODELS / name).glob("log_*.csv"))


@pytest.mark.parametrize("name", NAMES)
def test_results_are_of_data_that_nothing_was_made_from(name):
    card = read_card(name)
    split = re.compile(rf"\b{card.results.split}\b")
    assert split.search(card.data.test)
    assert not split.search(card.data.train)
    assert card.data.validate_on is None or not split.search(card.data.validate_on)
    assert any(card.data.test in command for command in card.commands)


@pytest.mark.parametrize("name", NAMES)
def test_readme_says_what_the_card_says(name):
    card = read_card(name)
    text = (shipped.MODELS / name / "README.md").read_text(encoding="utf-8")
    rows = [card.results.at_distance, card.results.copied_at_distance or ()]
    for row in filter(None, rows):
        assert " | ".join(f"{100 * share:.1f}" for share in row) in text
    assert all(f"{100 * share:.1f}" in text for share in card.results.at_interval.values())
    words = " ".join(text.split())
    assert all(" ".join(command.split()) in words for command in card.commands)
    assert all(part in text for part in (card.results.metric, *card.classes))
    assert all(heading in text for heading in ("**Made by**", "**Data:**", "**Limits:**"))


def test_mean_over_distances_is_dff_at_l():
    """As many pairs at each distance: "DFF at l" lies between the best and the worst of them."""
    for name in NAMES:
        results = read_card(name).results
        for interval, share in results.at_interval.items():
            within = results.at_distance[:interval]
            assert len(within) == interval
            assert min(within) <= share <= max(within)


def test_damaged_card_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "card.json").write_text('{"name": "bad"}')
    with pytest.raises(CheckpointError, match=r"bad/card\.json is damaged"):
        read_card("bad")


@pytest.mark.parametrize(
    ("use", "bundle"), [("any", None), ("research", {"precisions": ["int8"], "calibration": "x"})]
)
def test_card_has_a_bundle_where_a_wheel_may_carry_the_model(tiny_model, use, bundle):
    facts = json.loads((tiny_model / "card.json").read_text())
    facts = {**facts, "bundle": bundle, "data": {**facts["data"], "use": use}}
    (tiny_model / "card.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match=r"a bundle where data\.use is 'any', and nowhere"):
        read_card("tiny")
