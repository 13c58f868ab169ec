"""Networks that start from the weights of a file, a checkpoint or a shipped model."""

import pytest
import torch
from safetensors.torch import save_file

from dff_edge.errors import CheckpointError
from dff_edge.trainer.checkpoint import load_checkpoint, save_checkpoint
from dff_edge.trainer.initial import initialise
from dff_edge.trainer.models import build_model
from tests.trainer.runs import weights
from tests.trainer.tiny import DETECTION_MODEL, TINY, tiny_config


def initialised(**init):
    config = tiny_config(init=init)
    model = build_model(config.model)
    initialise(model, config)
    return model.state_dict()


@pytest.fixture
def classifier(tmp_path, model):
    """Return the contents of torchvision's file: no feat_conv, no counters, but a classifier."""
    tensors = {
        name: value.clone()
        for name, value in model.feature.state_dict().items()
        if not name.startswith("feat_conv.") and not name.endswith("num_batches_tracked")
    }
    torch.save(tensors | {"fc.weight": torch.zeros(1000, 64)}, tmp_path / "resnet.pth")
    return tmp_path / "resnet.pth", tensors


def test_feature_weights_of_rgb_are_turned_round(classifier):
    path, tensors = classifier

    loaded = initialised(feature=path)

    conv1 = tensors.pop("conv1.weight")
    for channel in range(3):
        assert torch.equal(loaded["feature.conv1.weight"][:, channel], conv1[:, 2 - channel])
    assert all(torch.equal(loaded[f"feature.{name}"], value) for name, value in tensors.items())


def test_feature_weights_of_bgr_are_taken_as_they_are(classifier):
    path, tensors = classifier

    loaded = initialised(feature=path, feature_order="bgr")

    assert torch.equal(loaded["feature.conv1.weight"], tensors["conv1.weight"])


def test_feature_weights_of_another_network_are_refused(classifier):
    path, tensors = classifier
    torch.save(tensors | {"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)

    with pytest.raises(CheckpointError, match=r"resnet\.pth does not fit.*conv1\.weight \(64, 3"):
        initialised(feature=path)


def test_feature_weights_with_a_layer_missing_are_refused(classifier):
    path, tensors = classifier
    del tensors["conv1.weight"]
    torch.save(tensors, path)

    with pytest.raises(CheckpointError, match=r"1 missing \(conv1\.weight\)"):
        initialised(feature=path)


def test_flow_weights_are_loaded_and_the_scale_head_may_be_missing(tmp_path, model):
    tensors = {
        name: value
        for name, value in model.flow.state_dict().items()
        if not name.startswith("scale.")
    }
    save_file(tensors, tmp_path / "flow.safetensors")

    loaded = initialised(flow=tmp_path / "flow.safetensors")

    assert all(torch.equal(loaded[f"flow.{name}"], value) for name, value in tensors.items())
    assert (loaded["flow.scale.bias"] == 1).all()


@pytest.mark.parametrize("network", ["feature", "task", "flow"])
def test_one_network_of_a_checkpoint_is_loaded(unbroken, network):
    config = tiny_config()
    before = {name: t.clone() for name, t in build_model(config.model).state_dict().items()}
    model = build_model(config.model)
    model.load_state_dict(before)

    initialise(model, tiny_config(init={network: unbroken[0]}))

    expected = weights(unbroken[0])
    for name, value in model.state_dict().items():
        origin = expected if name.startswith(f"{network}.") else before
        assert torch.equal(value, origin[name]), name


def test_task_weights_are_loaded_from_a_file(tmp_path, model):
    save_file(model.task.state_dict(), tmp_path / "task.safetensors")

    loaded = initialised(task=tmp_path / "task.safetensors")

    assert torch.equal(loaded["task.score.weight"], model.task.score.weight)


def test_scale_head_for_other_features_starts_at_ones(unbroken, caplog):
    feature = TINY["model"]["feature"] | {"channels": 16}
    config = tiny_config(init={"flow": unbroken[0]}, model=TINY["model"] | {"feature": feature})
    model = build_model(config.model)

    initialise(model, config)

    assert (model.flow.scale.bias == 1).all()
    assert (model.flow.scale.weight == 0).all()
    assert torch.equal(model.flow.flow.weight, weights(unbroken[0])["flow.flow.weight"])
    assert "init.flow: the scale head has 8 channels, expected 16" in caplog.text


@pytest.mark.parametrize(
    ("origin", "message"),
    [("nowhere", "'nowhere' is no checkpoint"), ("nowhere.pth", r"nowhere\.pth cannot be read")],
)
def test_weights_of_nowhere_are_refused(origin, message):
    with pytest.raises(CheckpointError, match=message):
        initialised(task=origin)


def test_whole_model_is_loaded(unbroken):
    loaded = initialised(model=unbroken[0])

    assert all(torch.equal(loaded[name], value) for name, value in weights(unbroken[0]).items())


def test_whole_model_of_another_configuration_is_refused(unbroken):
    config = tiny_config(
        init={"model": unbroken[0]}, model=TINY["model"] | {"flow": {"width": 0.5}}
    )

    with pytest.raises(
        CheckpointError, match="the flow network of .*checkpoint does not fit the model"
    ):
        initialise(build_model(config.model), config)


def test_flow_for_finer_features_starts_from_the_coarse_one(tmp_path, model):
    """All four feature cells of a cell of the heads get its flow and its scale, in pixels."""
    torch.nn.init.normal_(model.flow.flow.weight)
    torch.nn.init.normal_(model.flow.scale.weight)
    save_file(model.flow.state_dict(), tmp_path / "flow.safetensors")
    settings = TINY["model"] | {"feature": TINY["model"]["feature"] | {"stride": 8}}
    config = tiny_config(init={"flow": tmp_path / "flow.safetensors"}, model=settings)
    fine = build_model(config.model).eval()

    initialise(fine, config)

    halves = torch.rand(2, 1, 3, 32, 48) * 255
    flow, scale = model.eval().estimate_flow(*halves)
    fine_flow, fine_scale = fine.estimate_flow(*halves)
    for coarse, found, unit in ((flow, fine_flow, 2), (scale, fine_scale, 1)):
        expected = unit * coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("network", ["feature", "flow"])
def test_networks_of_a_checkpoint_see_what_they_were_trained_on(unbroken, network):
    """A checkpoint of another normalisation gives the same inside the frame."""
    other = {"mean": [90.0, 100.0, 110.0], "std": [70.0, 80.0, 90.0]}
    config = tiny_config(model=TINY["model"] | other, init={network: unbroken[0]})
    model = build_model(config.model)

    initialise(model, config)

    origin = load_checkpoint(unbroken[0]).model.eval()
    frame = torch.rand(1, 3, 64, 96) * 255
    first = {"feature": "conv1", "flow": "conv1.0"}[network]
    norm = {"feature": "bn1", "flow": "conv1.1"}[network]
    results = []
    for each in (origin, model.eval()):
        maps = each.normalize(frame)
        part = each.get_submodule(network)
        maps = torch.cat([maps, maps], 1) if network == "flow" else maps
        results.append(part.get_submodule(norm)(part.get_submodule(first)(maps))[..., 2:-2, 2:-2])
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


def initialised_from(origin, **model):
    config = tiny_config(init={"model": origin}, model=TINY["model"] | model)
    made = build_model(config.model)
    fresh = {name: value.clone() for name, value in made.state_dict().items()}
    initialise(made, config)
    return made.state_dict(), fresh


def test_model_for_other_classes_keeps_all_but_the_head(unbroken, caplog):
    """``sky`` and ``road`` are known to it, as classes 0 and 4."""
    caplog.set_level("INFO", "dff_edge.trainer")
    classes = ["cone", "road", "sky"]
    task = {"classes": classes, "colours": [[0, 0, 0]] * 3}

    loaded, fresh = initialised_from(unbroken[0], task=task)

    before = weights(unbroken[0])
    for name, value in loaded.items():
        if not name.startswith("task."):
            assert torch.equal(value, before[name]), name
    for name in ("task.score.weight", "task.score.bias"):
        assert torch.equal(loaded[name][0], fresh[name][0])
        assert torch.equal(loaded[name][1], before[name][4])
        assert torch.equal(loaded[name][2], before[name][0])
    assert (
        "of its head 2 classes (road, sky), new 1 class (cone), left out 6 classes" in caplog.text
    )


@pytest.mark.parametrize("classes", [None, ["cone", "barrel"]], ids=["same", "other"])
def test_correction_of_a_model_is_kept_but_for_the_scores_of_other_classes(tmp_path, classes):
    correction = {"correction": {"width": 0.25, "channels": 8}}
    config = tiny_config(model=TINY["model"] | correction)
    model = build_model(config.model)
    torch.nn.init.normal_(model.correction.score.weight)
    torch.nn.init.normal_(model.correction.gate.weight)
    save_checkpoint(tmp_path / "own", model, config.model, name="own", training={})
    task = {} if classes is None else {"task": {"classes": classes, "colours": [[0, 0, 0]] * 2}}

    loaded, _ = initialised_from(tmp_path / "own", **correction, **task)

    for name, value in model.state_dict().items():
        if name.startswith("correction.") and (classes is None or ".score." not in name):
            assert torch.equal(loaded[name], value), name
    assert bool(loaded["correction.score.weight"].any()) == (classes is None)


def test_model_of_another_task_is_refused(unbroken):
    config = tiny_config(init={"model": unbroken[0]}, model=DETECTION_MODEL)

    with pytest.raises(CheckpointError, match="a model for segmentation, expected one for detec"):
        initialise(build_model(config.model), config)


def test_model_whose_maps_are_propagated_gets_a_new_scale_for_other_classes(tmp_path, caplog):
    """With split "none" the scale field has a channel for each class."""
    whole = TINY["model"] | {"split": "none"}
    config = tiny_config(model=whole)
    save_checkpoint(
        tmp_path / "old", build_model(config.model), config.model, name="old", training={}
    )
    task = {"classes": ["sky"], "colours": [[0, 0, 0]]}

    loaded, _ = initialised_from(tmp_path / "old", split="none", task=task)

    assert loaded["flow.scale.bias"].tolist() == [1.0]
    assert "init.model: the scale head has 8 channels, expected 1" in caplog.text


def test_whole_model_of_another_normalisation_sees_what_it_was_trained_on(unbroken):
    """``test_networks_of_a_checkpoint_...`` looks at the numbers."""
    other = {"mean": [90.0, 100.0, 110.0], "std": [70.0, 80.0, 90.0]}

    loaded, _ = initialised_from(unbroken[0], **other)

    config = tiny_config(
        init={"feature": unbroken[0], "flow": unbroken[0]}, model=TINY["model"] | other
    )
    model = build_model(config.model)
    initialise(model, config)
    for network in (model.feature, model.flow):
        prefix = "feature" if network is model.feature else "flow"
        for name, value in network.state_dict().items():
            assert torch.equal(loaded[f"{prefix}.{name}"], value), name
