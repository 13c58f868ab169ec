"""Settings that a configuration leaves out: networks, classes, colours."""

import json

import cv2
import numpy as np
import pytest
import yaml

from dff_edge.errors import CheckpointError, ConfigError, SourceError
from dff_edge.trainer.checkpoint import load_checkpoint, save_checkpoint
from dff_edge.trainer.completion import choose_colours, load_whole_config
from dff_edge.trainer.models import ModelConfig, build_model
from dff_edge.trainer.settings import ChangeError
from tests.trainer.tiny import DETECTION_MODEL, STAGE, TINY


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A segmentation model unlike the defaults in all that is to be taken from it."""
    feature = {"name": "resnet18", "width": 0.125, "channels": 8, "stride": 8, "neck": "pyramid"}
    return saved(
        tmp_path_factory.mktemp("origin") / "model",
        TINY["model"]
        | {
            "feature": feature,
            "flow": {"name": "simple", "width": 0.125, "scale": False},
            "mean": [1, 2, 3],
            "std": [4, 5, 6],
        },
    )


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("origin") / "detector", DETECTION_MODEL)


def saved(folder, settings):
    config = ModelConfig.model_validate(settings)
    save_checkpoint(folder, build_model(config), config, name="origin", training={})
    return folder


def written(tmp_path, origin, **changes):
    changes["data"] = {"group": 2} | changes.get("data", {})
    raw = {
        "name": "mine",
        "init": {"model": str(origin)},
        "stages": [{"kind": "recognition", **STAGE}],
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(raw | changes))
    return path


def coco(folder, names):
    """A COCO file with one picture and a box of the first class."""
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "0.png"), np.zeros((40, 70, 3), np.uint8))
    content = {
        "images": [{"id": 1, "file_name": "0.png"}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, 1)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 20]}],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return f"cocovid://{folder / 'boxes.json'}"


def labelled_folder(folder, labels=(0, 2)):
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "0.png"), np.zeros((40, 70, 3), np.uint8))
    pixels = np.resize(np.array(labels, np.uint8), (40, 70))
    cv2.imwrite(str(folder / "labels" / "0.png"), pixels)
    return str(folder)


def test_networks_are_those_of_the_model(tmp_path, origin):
    config = load_whole_config(written(tmp_path, origin))

    assert config.model == load_checkpoint(origin).config


def test_what_is_given_goes_before(tmp_path, origin):
    changes = ["model.frame_size=[64,96]", "model.flow.scale=true"]

    model = load_whole_config(written(tmp_path, origin), changes).model

    assert model.frame_size == (64, 96)
    assert (model.flow.scale, model.flow.name, model.flow.width) == (True, "simple", 0.125)
    assert model.feature == load_checkpoint(origin).config.feature


def test_classes_are_those_of_the_data_and_known_ones_keep_their_colours(tmp_path, detector):
    """A detector of vehicle, pedestrian and pole, on boxes of others."""
    uri = coco(tmp_path / "data", ["cone", "pedestrian", "barrel"])

    task = load_whole_config(written(tmp_path, detector, data={"train": uri})).model.task

    assert task.classes == ("cone", "pedestrian", "barrel")
    assert task.colours[1] == (220, 20, 60)
    assert len(set(task.colours)) == 3
    assert task.rfcn == load_checkpoint(detector).config.rfcn


def test_labels_without_names_want_some(tmp_path, origin):
    path = written(tmp_path, origin, data={"train": labelled_folder(tmp_path / "data")})

    with pytest.raises(
        ConfigError,
        match=r"classes is missing, .*data'\) are numbers without names .*\(those .* are 0, 2\)",
    ):
        load_whole_config(path)
    task = load_whole_config(path, ["model.task.classes=[floor, sky, cone]"]).model.task
    assert task.classes == ("floor", "sky", "cone")
    assert task.colours[1] == (70, 130, 180)  # of the model's own sky


def test_flow_needs_no_classes(tmp_path, origin):
    path = written(
        tmp_path,
        origin,
        data={"train": labelled_folder(tmp_path / "data"), "motion": "synthetic"},
        stages=[{"kind": "flow", **STAGE}],
    )

    assert load_whole_config(path).model == load_checkpoint(origin).config


def test_model_of_another_task_than_the_data_is_refused(tmp_path, origin, detector):
    uri = coco(tmp_path / "data", ["cone"])
    with pytest.raises(
        ConfigError, match="a model for segmentation, and data.train is .*, data for detection"
    ):
        load_whole_config(written(tmp_path, origin, data={"train": uri}))

    folder = labelled_folder(tmp_path / "folder")
    with pytest.raises(ConfigError, match="a model for detection, .* data for segmentation"):
        load_whole_config(written(tmp_path, detector, data={"train": folder}))
    with pytest.raises(ConfigError, match="a model for detection, and model.task.name is 'segmen"):
        load_whole_config(written(tmp_path, detector), ["model.task.name=segmentation"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (["init.model=nowhere"], CheckpointError, "'nowhere' is no checkpoint"),
        (
            ["init.model=null"],
            ConfigError,
            "model is missing, expected its networks, or init.model",
        ),
        (["init.model=3"], ConfigError, "init.model is 3, expected"),
        (["init=3"], ConfigError, "init is 3, expected"),
        (["data=[1]"], ConfigError, r"data is \[1\], expected"),
        (["data.train=nowhere"], SourceError, "'nowhere' has no folder"),
        (["data.train=nosuch://x"], ConfigError, "nosuch://x"),
        (["model.feature=3"], ConfigError, "model.feature is 3, expected"),
        (["model.task=3"], ConfigError, "model.task is 3, expected"),
        (["model=3"], ConfigError, "model is 3, expected"),
        (["model.task.classes=3"], ConfigError, "model.task.classes is 3, expected"),
        (["model.frame_size=[30,64]"], ConfigError, "model.frame_size.0 is 30, expected"),
        (["stages=3"], ConfigError, "stages is 3, expected"),
    ],
)
def test_mistakes_are_told_as_in_a_whole_configuration(tmp_path, origin, changes, error, message):
    with pytest.raises(error, match=message):
        load_whole_config(written(tmp_path, origin), changes)


def test_a_wrong_change_of_a_right_file_is_told_from_a_wrong_file(tmp_path, origin):
    with pytest.raises(ChangeError):
        load_whole_config(written(tmp_path, origin), ["stages.0.lr=-1"])


def test_a_whole_configuration_stays_as_it_is(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))

    config = load_whole_config(path)

    assert config.model == ModelConfig.model_validate(TINY["model"])


def test_new_colours_are_those_of_pascal_voc():
    """http://host.robots.ox.ac.uk/pascal/VOC: aeroplane, bicycle, bird, boat are 1 to 4."""
    assert choose_colours(["a", "b", "c", "d"]) == [
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
    ]


def test_no_colour_is_given_twice():
    colours = choose_colours([str(n) for n in range(255)], {"7": (0, 128, 0), "x": (128, 0, 0)})

    assert len({tuple(colour) for colour in colours}) == 255
    assert colours[7] == [0, 128, 0]
    assert colours[0] == [128, 0, 0]  # of a class that is left out
