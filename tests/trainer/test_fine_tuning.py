"""Fine-tuning by configs/finetune.yaml: a model, and labelled frames of other things."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dff_edge.trainer.checkpoint import load_checkpoint, save_checkpoint
from dff_edge.trainer.completion import load_whole_config
from dff_edge.trainer.models import ModelConfig, build_model
from dff_edge.trainer.train import train
from dff_edge.trainer.validation import open_held_out
from tests.trainer.runs import metrics, weights
from tests.trainer.tiny import DETECTION_MODEL, TINY

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "finetune.yaml"
QUICK = [
    "data.group=2",
    *(f"stages.{n}.{change}" for n in (0, 1) for change in ("steps=2", "epoch_steps=1")),
    *(f"stages.{n}.batch_size=2" for n in (0, 1)),
]
# Two steps may bring nothing better than the start, whose weights would be kept.
TRAINED = [f"stages.{n}.{change}" for n in (0, 1) for change in ("keep=last", "patience=null")]
CLASSES = ["cone", "pole", "barrel"]  # the model knows the pole


@pytest.fixture(scope="module", params=["detection", "segmentation"])
def origin(request, tmp_path_factory):
    config = ModelConfig.model_validate(
        DETECTION_MODEL if request.param == "detection" else TINY["model"]
    )
    folder = tmp_path_factory.mktemp("origin") / "model"
    save_checkpoint(folder, build_model(config), config, name="origin", training={})
    return request.param, folder


def data_of(folder, task, frames=10):
    """Grey frames with a bright square, of all classes in turn."""
    images, annotations = [], []
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in range(frames):
        picture = np.full((64, 128, 3), 80, np.uint8)
        picture[20:50, 10 + 6 * number : 50 + 6 * number] = 250
        labels = np.zeros((64, 128), np.uint8)
        labels[20:50, 10 + 6 * number : 50 + 6 * number] = number % 3
        cv2.imwrite(str(folder / "images" / f"{number}.png"), picture)
        cv2.imwrite(str(folder / "labels" / f"{number}.png"), labels)
        images.append({"id": number, "file_name": f"{number}.png"})
        box = {"id": number, "image_id": number, "category_id": number % 3}
        annotations.append(box | {"bbox": [10 + 6 * number, 20, 40, 30]})
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    return (
        str(folder)
        if task == "segmentation"
        else (f"cocovid://{folder / 'boxes.json'}?images=images")
    )


def test_videos_whose_first_frames_have_no_labels_are_held_out(tmp_path, caplog):
    caplog.set_level("INFO", "dff_edge.trainer")
    uri = data_of(tmp_path / "mine", "detection", frames=20)
    path = tmp_path / "mine" / "boxes.json"
    content = json.loads(path.read_text())
    content["videos"] = [{"id": video, "name": f"clip{video}"} for video in range(5)]
    for number, image in enumerate(content["images"]):
        image |= {"video_id": number // 4, "frame_id": number % 4}
    path.write_text(json.dumps(content))
    model = tmp_path / "model"
    config = ModelConfig.model_validate(DETECTION_MODEL)
    save_checkpoint(model, build_model(config), config, name="origin", training={})
    changes = [f"init.model={model}", f"data.train={uri}&every=4"]  # of each video the last one

    open_held_out(load_whole_config(RECIPE, [*changes, *QUICK]))

    assert "data.hold_out: 1 of 5 labelled frames are held out: " in caplog.text


def settings(origin, folder):
    task, model = origin
    changes = [f"init.model={model}", f"data.train={data_of(folder, task)}"]
    if task == "segmentation":
        changes.append(f"model.task.classes=[{', '.join(CLASSES)}]")
    return changes


def test_a_model_of_the_users_classes_comes_out(tmp_path, origin, caplog):
    caplog.set_level("INFO", "dff_edge.trainer")
    config = load_whole_config(RECIPE, [*settings(origin, tmp_path / "mine"), *QUICK])

    checkpoint = train(config, tmp_path / "run")

    made, before = load_checkpoint(checkpoint), load_checkpoint(origin[1])
    assert made.config.task.classes == tuple(CLASSES)
    assert made.config.feature == before.config.feature
    assert "new 2 classes (cone, barrel)" in caplog.text
    assert "data.hold_out: 2 of 10 labelled frames are held out" in caplog.text
    run = tmp_path / "run"
    assert sorted(path.name for path in run.iterdir()) == [
        "0-recognition",
        "1-pairs",
        "checkpoint",
        "config.yaml",
        "curves.png",
        "predictions",
    ]
    pictures = sorted(path.name for path in (run / "predictions").iterdir())
    assert pictures == [f"step_{step:06d}.jpg" for step in (1, 2, 3, 4)]
    assert cv2.imread(str(run / "curves.png")).std() > 0
    key = "val_map_frame" if origin[0] == "detection" else "val_miou_frame"
    for stage in ("0-recognition", "1-pairs"):
        # After each of two epochs, and before the first step: the best weights must beat those.
        assert sum(bool(row.get(key)) for row in metrics(run / stage)) == 3


def test_statistics_of_batch_norm_are_those_of_the_model(tmp_path, origin):
    changes = [*settings(origin, tmp_path / "mine"), *QUICK, *TRAINED]
    config = load_whole_config(RECIPE, changes)

    tuned, before = weights(train(config, tmp_path / "run")), weights(origin[1])

    for name, value in before.items():
        if "running" in name:  # stored in half precision
            torch.testing.assert_close(tuned[name], value, rtol=1e-3, atol=1e-6, msg=name)
    changed = [n for n in before if n.startswith("feature.") and n.endswith("conv1.weight")]
    assert not all(torch.allclose(tuned[n], before[n], rtol=1e-3, atol=1e-6) for n in changed)


def test_trunk_learns_slower_than_the_head(tmp_path, origin):
    """A tenth of the rate: AdamW's first step is of about the size of the rate."""
    quick = [
        *QUICK,
        *TRAINED,
        "stages.0.steps=1",
        "stages.0.warmup=0",
        "stages.1.steps=1",
        "stages.1.lr=1e-9",
    ]
    quick += ["storage=float32", "stages.0.schedule=constant", "stages.0.weight_decay=0"]
    config = load_whole_config(RECIPE, [*settings(origin, tmp_path / "mine"), *quick])

    tuned, before = weights(train(config, tmp_path / "run")), weights(origin[1])

    rate = config.stages[0].lr
    trunk = (tuned["feature.conv1.weight"] - before["feature.conv1.weight"]).abs().max()
    neck = (tuned["feature.feat_conv.weight"] - before["feature.feat_conv.weight"]).abs().max()
    assert float(trunk) == pytest.approx(rate / 10, rel=0.05)
    assert float(neck) == pytest.approx(rate, rel=0.05)
