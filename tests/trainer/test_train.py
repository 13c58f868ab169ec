"""Whole runs, a few steps each: files, precision, several devices, refusals."""

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch._utils import ExceptionWrapper

from dff_edge.data.datasets.imagenet import CLASSES
from dff_edge.errors import CheckpointError, ConfigError, SourceError
from dff_edge.trainer.checkpoint import load_checkpoint, save_checkpoint
from dff_edge.trainer.config import TrainConfig
from dff_edge.trainer.learner import Learner
from dff_edge.trainer.models import build_model
from dff_edge.trainer.train import train
from tests.data.datasets.layouts import flying_chairs
from tests.runtime.sources.videos import scene, write_video
from tests.trainer.runs import breaking, metrics, one_stage, weights, with_validation
from tests.trainer.tiny import DDP_ATOL, STAGE, TINY, tiny_config, write_config


def test_run_ends_with_a_checkpoint_that_loads(unbroken):
    checkpoint, _ = unbroken

    loaded = load_checkpoint(checkpoint)

    assert checkpoint.name == "checkpoint"
    assert (loaded.name, loaded.config) == ("tiny", tiny_config().model)
    assert loaded.training["config"] == with_validation().model_dump(mode="json")
    assert set(loaded.training) >= {"dff_edge", "torch", "python"}


def test_run_folder_holds_configuration_stages_and_curves(unbroken):
    run = unbroken[0].parent

    assert sorted(path.name for path in run.iterdir()) == [
        "0-recognition",
        "1-flow",
        "2-pairs",
        "checkpoint",
        "config.yaml",
        "curves.png",
        "predictions",
    ]
    # One of the two epochs of pairs is validated, and steps go on from those of the stages before.
    pictures = sorted(path.name for path in (run / "predictions").iterdir())
    assert pictures == ["step_000002.jpg", "step_000004.jpg", "step_000012.jpg"]
    record = yaml.safe_load((run / "config.yaml").read_text())
    assert TrainConfig.model_validate(record) == with_validation()
    recognition, flow, pairs = (
        metrics(run / name) for name in ("0-recognition", "1-flow", "2-pairs")
    )
    assert any(row.get("end_point_error_cells") for row in flow)
    assert sum(bool(row.get("val_miou_frame")) for row in recognition) == 2
    assert sum(bool(row.get("val_miou_l5")) for row in pairs) == 1
    for rows in (recognition, flow, pairs):
        losses = [float(row["loss"]) for row in rows if row.get("loss")]
        assert len(losses) == 2
        assert np.isfinite(losses).all()


def test_last_stage_gives_the_weights_of_the_checkpoint(unbroken):
    stage = load_file(unbroken[0].parent / "2-pairs" / "weights.safetensors")

    assert all(torch.equal(stage[name], value) for name, value in weights(unbroken[0]).items())


def test_items_are_read_in_order_from_the_first_on(unbroken):
    assert unbroken[1] == [list(range(4))] * 3  # one item of two pairs a step


def test_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path):
    first, again = (weights(train(one_stage(), tmp_path / name)) for name in "ab")
    config = tiny_config(seed=4, stages=[{"kind": "recognition", **STAGE}])
    other = weights(train(config, tmp_path / "c"))

    assert first.keys() == again.keys()
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert not torch.equal(first["feature.conv1.weight"], other["feature.conv1.weight"])


def test_weights_are_stored_as_asked_for(tmp_path):
    checkpoint = train(tiny_config(stages=one_stage().stages, storage="int8"), tmp_path / "run")

    stored = load_file(checkpoint / "weights.safetensors")
    assert stored["feature.conv1.weight"].dtype == torch.int8


def test_epochs_are_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO, "dff_edge.trainer")

    train(one_stage(steps=3), tmp_path / "run")

    lines = [record.getMessage() for record in caplog.records if record.name == "dff_edge.trainer"]
    assert [line.split(", loss ")[0] for line in lines] == [
        "recognition: step 2/3",
        "recognition: step 3/3",
    ]


def test_a_folder_of_labelled_video_trains(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for i in range(4):
        frame = np.full((40, 70, 3), i * 20, np.uint8)
        cv2.imwrite(str(tmp_path / "data" / "images" / f"{i}.png"), frame)
    for i in (2, 3):  # as many as in a batch
        labels = np.full((40, 70), 7, np.uint8)
        cv2.imwrite(str(tmp_path / "data" / "labels" / f"{i}.png"), labels)
    data = TINY["data"] | {"train": str(tmp_path / "data")}

    checkpoint = train(
        tiny_config(data=data, stages=[{"kind": "pairs", **STAGE}]), tmp_path / "run"
    )

    assert load_checkpoint(checkpoint).name == "tiny"
    losses = [float(row["loss"]) for row in metrics(tmp_path / "run" / "0-pairs") if row["loss"]]
    assert len(losses) == 2
    assert min(losses) > 0  # the last of the classes is scored


@pytest.mark.parametrize("kind", ["recognition", "flow", "pairs"])
def test_mixed_precision_trains_as_single_does(tmp_path, kind):
    """bf16 has 8 bits: the first loss is the same to a tenth, not to the bit."""
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        device = TINY["device"] | {"precision": precision}
        config = tiny_config(stages=one_stage(kind).stages, device=device)
        checkpoint = train(config, tmp_path / precision)
        (row,) = [r for r in metrics(checkpoint.parent / f"0-{kind}") if r["loss"]]
        losses[precision] = float(row["loss"])
        assert load_file(checkpoint / "weights.safetensors")["flow.flow.weight"].dtype == (
            torch.float32
        )

    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.1)
    assert losses["bf16-mixed"] != losses["32-true"]


def test_error_of_a_worker_says_what_is_wrong_and_no_traceback(tmp_path, monkeypatch):
    """As torch hands it over: the worker's traceback is the text."""
    try:
        raise SourceError("a/b.xml is damaged: no element found.")
    except SourceError:
        caught = ExceptionWrapper(where="in DataLoader worker process 0")

    monkeypatch.setattr(Learner, "training_step", lambda *_arguments: caught.reraise())

    with pytest.raises(SourceError, match=r"^a/b\.xml is damaged: no element found\.$"):
        train(one_stage(), tmp_path / "run")


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    """With BatchNorm frozen a step of DDP is a step on the batches of all devices together."""
    command = Path(sys.executable).parent / "dff-edge"
    if not command.exists():
        pytest.skip("the dff-edge command is not installed beside this Python")
    common = {**STAGE, "optimizer": "sgd", "batch_norm": "frozen"}
    stages = [
        {"kind": "recognition", **common, "keep": "best", "validate_every": 1},
        {"kind": "flow", **common},
        {"kind": "pairs", **common},
        {"kind": "pairs", **common, "fixed": ["feature", "task"]},
        {"kind": "pairs", **common, "fixed": ["flow"]},
    ]
    held_out = "synthetic://street?clips=1&frames=2&height=32&width=64"
    data = TINY["data"] | {"validate_on": held_out, "validate_interval": 1}
    path = write_config(
        tmp_path / "two.yaml",
        data=data,
        stages=stages,
        device={"accelerator": "cpu", "devices": 2, "strategy": "ddp"},
    )

    done = subprocess.run(
        [command, "train", path, "-o", tmp_path / "two"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    one = train(
        tiny_config(data=data, stages=[stage | {"batch_size": 4} for stage in stages]),
        tmp_path / "one",
    )

    assert done.stdout == f"{tmp_path / 'two' / 'checkpoint'}\n"
    assert done.stderr.count("are kept") == 1  # one process has measured, and loads the best
    expected = weights(one)
    for name, value in weights(tmp_path / "two" / "checkpoint").items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=DDP_ATOL)


# ---- refusals


def test_folder_with_a_run_is_refused(unbroken):
    with pytest.raises(ConfigError, match=r"holds a run already\. Give --resume, or a new folder"):
        train(with_validation(), unbroken[0].parent)


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("x")

    with pytest.raises(ConfigError, match="is not an empty folder"):
        train(one_stage(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"data": {"train": "synthetic://street?split=dev"}},
            ConfigError,
            "split is 'dev', expected one of train",
        ),
        ({"data": {"train": "nowhere"}}, SourceError, "'nowhere' has no folder 'images'"),
        (
            {"data": {"validate_on": "synthetic://street?frames=4"}},
            ConfigError,
            "data.validate_on is .*, expected labelled frames with 4 frames before them",
        ),
        (
            {"model": {"task": {"classes": list("abcdefgh"), "colours": [[0, 0, 0]] * 8}}},
            ConfigError,
            r"model\.task\.classes is a, b, .*, expected sky, building.* of data\.train",
        ),
        (
            {"init": {"model": "nowhere"}},
            CheckpointError,
            "'nowhere' is no checkpoint",
        ),
        (
            {"device": {"accelerator": "tpu"}},  # a package that is missing
            ConfigError,
            "device is .*tpu.*, which lightning refuses",
        ),
        (
            {"device": {"accelerator": "abacus"}},
            ConfigError,
            "device is .*abacus.*, which lightning refuses",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_cannot_work_is_refused(tmp_path, changes, error, message):
    merged = {key: TINY.get(key, {}) | value for key, value in changes.items()}
    stages = [{"kind": "pairs", **STAGE, "validate_every": 1}]
    config = tiny_config(**({"stages": stages} | merged))

    with pytest.raises(error, match=message):
        train(config, tmp_path / "run")


def test_refusals_come_before_the_folder_is_taken(tmp_path):
    with pytest.raises(CheckpointError):
        train(tiny_config(init={"model": "nowhere"}), tmp_path / "run")

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["train", "validate_on"])
def test_labels_of_no_class_are_refused_at_the_start(tmp_path, key):
    """Eight classes, and labels up to 8: they were trained and measured without a word."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for i in range(2):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), np.zeros((40, 70, 3), np.uint8))
        labels = np.arange(40 * 70).reshape(40, 70) % 9
        cv2.imwrite(str(tmp_path / "labels" / f"{i}.png"), labels.astype(np.uint8))
    data = TINY["data"] | {key: str(tmp_path)}
    stages = [{"kind": "recognition", **STAGE, "validate_every": 1}]

    with pytest.raises(
        SourceError, match=r"\d.png: .* of no class, 8 the largest, expected 0 to 7"
    ):
        train(tiny_config(data=data, stages=stages), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_flow_stage_on_real_video_is_refused_at_the_start(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "0.png"), np.zeros((40, 70), np.uint8))
    data = TINY["data"] | {"train": str(tmp_path)}

    with pytest.raises(ConfigError, match=r"stages\.1\.kind is 'flow', which needs true flow"):
        train(tiny_config(data=data, stages=[TINY["stages"][2], TINY["stages"][1]]), tmp_path / "r")


def test_other_stages_on_data_with_flow_alone_are_refused_at_the_start(tmp_path):
    flying_chairs(tmp_path / "chairs", [1, 2])
    data = TINY["data"] | {"train": f"flyingchairs://{tmp_path / 'chairs'}"}

    with pytest.raises(ConfigError, match=r"stages\.0\.kind is 'pairs', which needs labels or box"):
        train(tiny_config(data=data, stages=[TINY["stages"][2]]), tmp_path / "r")


def test_training_on_held_out_pairs_is_refused_at_the_start(tmp_path):
    flying_chairs(tmp_path / "chairs", [1, 2])
    data = TINY["data"] | {"train": f"flyingchairs://{tmp_path / 'chairs'}?split=val"}

    with pytest.raises(ConfigError, match=r"split=val', expected split=train: this one is for"):
        train(tiny_config(data=data, stages=[TINY["stages"][1]]), tmp_path / "r")


def test_classes_in_another_order_than_those_of_vid_and_det_are_refused(tmp_path):
    names = sorted(CLASSES, reverse=True)
    task = {"name": "detection", "classes": names, "colours": [[0, 0, 0]] * 30}
    model = TINY["model"] | {"task": task}
    data = TINY["data"] | {"train": f"vid+det://{tmp_path}"}

    with pytest.raises(ConfigError, match=r"classes is zebra, .*, expected airplane, antelope"):
        train(tiny_config(model=model, data=data, stages=one_stage().stages), tmp_path / "r")


def test_fixed_layers_that_are_not_there_are_refused_at_the_start(tmp_path):
    stages = [TINY["stages"][0], TINY["stages"][2] | {"fixed_layers": ["feature.layer9"]}]

    with pytest.raises(ConfigError, match=r"fixed_layers has 'feature\.layer9', expected"):
        train(tiny_config(stages=stages), tmp_path / "r")

    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("nothing left"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 137438953472 bytes. Error code 12\nat c10::Throw"
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_device_without_memory_is_told_so(tmp_path, monkeypatch, error):
    breaking(monkeypatch, error, "recognition", step=0)

    with pytest.raises(ConfigError, match="0-recognition ran out of memory: .*smaller batch_size"):
        train(one_stage(), tmp_path / "run")


def test_a_disk_that_is_full_is_told_with_the_save(tmp_path, monkeypatch):
    fsync = os.fsync

    def full(descriptor):
        if ".ckpt" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(
        CheckpointError, match=r"last\.ckpt' cannot be written, no room is left: No .*--resume"
    ):
        train(one_stage(), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.new"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_not_there_is_refused(tmp_path):
    config = tiny_config(stages=one_stage().stages, device={"accelerator": "gpu", "devices": 1})

    with pytest.raises(ConfigError, match="which lightning refuses"):
        train(config, tmp_path / "run")


def test_distillation_learns_from_a_folder_of_video(tmp_path):
    """Without a label, and with the task network's scores, zero at the start, made to be some."""
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "drive.mp4", scene(6, (64, 128)))
    start = build_model(tiny_config().model)
    torch.nn.init.normal_(start.task.score.weight)
    save_checkpoint(tmp_path / "start", start, tiny_config().model, name="start", training={})
    config = tiny_config(
        init={name: str(tmp_path / "start") for name in ("feature", "task", "flow")},
        data=TINY["data"] | {"train": f"videos://{tmp_path / 'clips'}"},
        stages=[{"kind": "distil", **STAGE}],
    )

    found = load_checkpoint(train(config, tmp_path / "run")).model.state_dict()

    before = start.state_dict()
    changed = {name.partition(".")[0] for name in found if not found[name].equal(before[name])}
    assert changed == {"flow"}


def test_video_without_labels_trains_nothing_that_needs_them(tmp_path):
    write_video(tmp_path / "drive.mp4", scene(6, (64, 128)))
    config = tiny_config(
        data=TINY["data"] | {"train": f"videos://{tmp_path}"},
        stages=[{"kind": "distil", **STAGE}, {"kind": "pairs", **STAGE}],
    )

    with pytest.raises(ConfigError, match=r"stages.1.kind is 'pairs', which needs labels or boxes"):
        train(config, tmp_path / "run")
