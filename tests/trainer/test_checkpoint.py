"""Checkpoints: exact round trips, and every damage refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import dff_edge.trainer.checkpoint as checkpoint_module
from dff_edge.bundle.records import ScoreThreshold
from dff_edge.errors import CheckpointError
from dff_edge.trainer.checkpoint import (
    CARD,
    SHIPPED,
    WEIGHTS,
    find_checkpoint,
    keep_threshold,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from dff_edge.trainer.storage import restored, stored

THRESHOLD = ScoreThreshold(score=0.37, f1=0.8, data="val", key_interval=5)


def test_threshold_is_kept_in_the_card(folder):
    assert load_checkpoint(folder).score_threshold is None
    before = json.loads((folder / CARD).read_text())
    keep_threshold(folder, THRESHOLD)
    assert load_checkpoint(folder).score_threshold == THRESHOLD
    other = THRESHOLD.model_copy(update={"score": 0.2})
    keep_threshold(folder, other)
    assert load_checkpoint(folder).score_threshold == other
    after = json.loads((folder / CARD).read_text())
    assert {**after, "score_threshold": None} == {**before, "score_threshold": None}


@pytest.mark.parametrize("told", [0.4, {"score": 2}, {"score": 0.4, "f1": 0.8, "data": "val"}])
def test_threshold_that_is_none_is_refused(folder, told):
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, "score_threshold": told}))
    with pytest.raises(
        CheckpointError, match=r"(?s)score_threshold is not valid:.*--keep-threshold"
    ):
        load_checkpoint(folder)


@pytest.fixture
def folder(tmp_path, model, tiny):
    save_checkpoint(
        tmp_path / "made" / "here", model, tiny.model, name="tiny", training={"torch": "2"}
    )
    return tmp_path / "made" / "here"


def resave(folder, change):
    """Change the weights and give the card their digest, as a forger would."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    redigest(folder)


def redigest(folder):
    card = json.loads((folder / CARD).read_text())
    card["weights_sha256"] = checkpoint_module.hashlib.sha256(
        (folder / WEIGHTS).read_bytes()
    ).hexdigest()
    (folder / CARD).write_text(json.dumps(card))


def recard(folder, **changes):
    card = json.loads((folder / CARD).read_text()) | changes
    (folder / CARD).write_text(json.dumps(card))


def test_round_trip_is_exact(folder, model, tiny):
    loaded = load_checkpoint(folder)

    assert (loaded.name, loaded.config, loaded.training) == ("tiny", tiny.model, {"torch": "2"})
    assert not loaded.model.training
    expected, got = model.state_dict(), loaded.model.state_dict()
    assert list(got) == list(expected)
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor), name


@pytest.mark.parametrize(("storage", "share"), [("float16", 0.6), ("int8", 0.4)])
def test_a_checkpoint_is_as_large_as_its_storage_says(
    tmp_path, model, tiny, folder, storage, share
):
    save_checkpoint(tmp_path / "x", model, tiny.model, name="x", training={}, storage=storage)

    loaded = load_checkpoint(tmp_path / "x").model.state_dict()
    again = restored(stored(model.state_dict(), storage))

    for name, tensor in model.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], again[name].to(tensor.dtype)), name
    sizes = [(path / WEIGHTS).stat().st_size for path in (tmp_path / "x", folder)]
    assert sizes[0] < share * sizes[1]


def test_layout_of_the_weights_in_memory_does_not_matter(tmp_path, model, tiny):
    model.to(memory_format=torch.channels_last)

    save_checkpoint(tmp_path / "c", model, tiny.model, name="x", training={})

    for name, tensor in load_checkpoint(tmp_path / "c").model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_saving_again_replaces_and_leaves_nothing_else(folder, model, tiny):
    save_checkpoint(folder, model, tiny.model, name="second", training={})

    assert load_checkpoint(folder).name == "second"
    assert sorted(path.name for path in folder.iterdir()) == [CARD, WEIGHTS]


def test_ignored_names_may_be_missing_or_left_over():
    layer = torch.nn.Linear(2, 3)
    before = layer.bias.clone()

    load_weights(layer, {"weight": torch.ones(3, 2), "fc.x": torch.ones(1)}, "x", ("bias", "fc."))

    assert (layer.weight == 1).all()
    assert torch.equal(layer.bias, before)


# ---- names


def test_shipped_models_are_found_by_name(folder, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "SHIPPED", folder.parent)

    assert find_checkpoint("here") == folder
    assert load_checkpoint("here").name == "tiny"


def test_unknown_names_list_the_shipped_models(folder, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "SHIPPED", folder.parent)

    with pytest.raises(
        CheckpointError, match=r"'nothing' is no checkpoint: .*shipped model \(here\)"
    ):
        load_checkpoint("nothing")


def test_shipped_models_lie_in_the_package():
    assert SHIPPED.name == "models"
    assert (SHIPPED.parent / "py.typed").is_file()


# ---- damage


def test_wrong_digest_is_refused(folder):
    with (folder / WEIGHTS).open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))

    with pytest.raises(CheckpointError, match=r"has SHA-256 .*, model\.json expects .* damaged"):
        load_checkpoint(folder)


def test_truncated_weights_are_refused(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    redigest(folder)

    with pytest.raises(CheckpointError, match=r"weights\.safetensors is not a safetensors file"):
        load_checkpoint(folder)


def test_missing_weights_file_is_refused(folder):
    (folder / WEIGHTS).unlink()

    with pytest.raises(CheckpointError, match=r"weights\.safetensors cannot be read"):
        load_checkpoint(folder)


def test_missing_tensor_is_refused(folder):
    resave(folder, lambda tensors: tensors.pop("feature.conv1.weight"))

    with pytest.raises(CheckpointError, match=r"1 missing \(feature\.conv1\.weight\); expected"):
        load_checkpoint(folder)


def test_unknown_tensors_are_refused_and_counted(folder):
    resave(folder, lambda tensors: tensors.update({f"x{n}": torch.zeros(1) for n in range(5)}))

    with pytest.raises(CheckpointError, match=r"5 unknown \(x0, x1, x2 and 2 more\)"):
        load_checkpoint(folder)


def test_wrong_shape_is_refused(folder):
    resave(folder, lambda t: t.update({"flow.flow.bias": torch.zeros(3)}))

    with pytest.raises(
        CheckpointError, match=r"of another shape \(flow\.flow\.bias \(3,\) for \(2"
    ):
        load_checkpoint(folder)


def test_refused_weights_change_nothing():
    layer = torch.nn.Linear(2, 3)
    before = layer.weight.clone()

    with pytest.raises(CheckpointError, match="1 missing"):
        load_weights(layer, {"weight": torch.ones(3, 2)}, "x")
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2, expected 1"),
        ({"model": None}, "the file is None, expected"),
        ({"model": {"frame_size": [32, 64]}}, "'task' is missing"),
    ],
)
def test_cards_that_do_not_fit_are_refused(folder, changes, message):
    recard(folder, **changes)

    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "is not readable"), (b"\xff\xfe", "is not readable"), (b"[]", "has format 'list'")],
)
def test_damaged_cards_are_refused(folder, content, message):
    (folder / CARD).write_bytes(content)

    with pytest.raises(CheckpointError, match=rf"model\.json {message}"):
        load_checkpoint(folder)
