"""A run that broke, was stopped or killed ends with the weights of an unbroken one."""

import logging
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
import yaml

from dff_edge.errors import CheckpointError, ConfigError
from dff_edge.files.documents import dump_yaml
from dff_edge.trainer import train as train_module
from dff_edge.trainer.checkpoint import load_checkpoint
from dff_edge.trainer.config import TrainConfig
from dff_edge.trainer.saves import AtomicCheckpointIO, Owner
from dff_edge.trainer.train import train
from tests.trainer.runs import breaking, one_stage, recorded, weights, with_validation
from tests.trainer.tiny import DDP_ATOL, DETECTION_MODEL, STAGE, TINY, tiny_config, write_config


def saves():
    return AtomicCheckpointIO(Owner(tiny_config(), "0-recognition"))


COUNTER = "feature.bn1.num_batches_tracked"


def test_broken_run_resumes_to_the_weights_of_the_unbroken_one(tmp_path, monkeypatch, unbroken):
    with monkeypatch.context() as patch:
        breaking(patch, RuntimeError("power cut"), "pairs", step=3)
        with recorded() as before, pytest.raises(RuntimeError, match="power cut"):
            train(with_validation(), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint").exists()

    with recorded() as after:
        checkpoint = train(with_validation(), tmp_path / "run", resume=True)

    expected = weights(unbroken[0])
    for name, value in weights(checkpoint).items():
        assert torch.equal(value, expected[name]), name
    assert before[2] == [0, 1, 2, 3]
    assert after == [[], [], [2, 3]]  # from the save after two steps, in the last stage


@pytest.mark.parametrize("broken_at", [2, 4])
def test_last_epoch_may_be_short_also_after_a_break(tmp_path, monkeypatch, caplog, broken_at):
    config = one_stage(steps=5, epoch_steps=2)
    expected = weights(train(config, tmp_path / "unbroken"))
    with monkeypatch.context() as patch:
        breaking(patch, RuntimeError("power cut"), "recognition", step=broken_at)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config, tmp_path / "broken")
    caplog.set_level(logging.INFO, "dff_edge.trainer")

    checkpoint = train(config, tmp_path / "broken", resume=True)

    assert all(torch.equal(value, expected[n]) for n, value in weights(checkpoint).items())
    (last,) = [line for line in caplog.messages if line.startswith("recognition")][-1:]
    assert last.startswith("recognition: step 5/5")
    assert int(load_checkpoint(checkpoint).model.state_dict()[COUNTER]) == 5


def test_run_that_broke_between_two_stages_resumes(tmp_path, monkeypatch, unbroken):
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "write_tensors", lambda *_: (_ for _ in ()).throw(OSError()))
        with pytest.raises(OSError):  # noqa: PT011
            train(with_validation(), tmp_path / "run")

    with recorded() as items:
        checkpoint = train(with_validation(), tmp_path / "run", resume=True)

    assert items[0] == []
    expected = weights(unbroken[0])
    assert all(torch.equal(value, expected[n]) for n, value in weights(checkpoint).items())


def test_finished_run_is_not_trained_again(unbroken, caplog):
    caplog.set_level(logging.INFO, "dff_edge.trainer")
    before = weights(unbroken[0])

    checkpoint = train(with_validation(), unbroken[0].parent, resume=True)

    assert all(torch.equal(value, before[name]) for name, value in weights(checkpoint).items())
    assert [line for line in caplog.messages if "stage" in line] == [
        "stage 0 (recognition) is finished already",
        "stage 1 (flow) is finished already",
        "stage 2 (pairs) is finished already",
    ]


def test_ctrl_c_leaves_a_run_that_can_be_resumed(tmp_path, monkeypatch, unbroken):
    with monkeypatch.context() as patch:
        breaking(patch, KeyboardInterrupt(), "flow", step=2)
        with pytest.raises(KeyboardInterrupt):
            train(with_validation(), tmp_path / "run")

    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    checkpoint = train(with_validation(), tmp_path / "run", resume=True)
    expected = weights(unbroken[0])
    assert all(torch.equal(value, expected[n]) for n, value in weights(checkpoint).items())


def test_resume_with_another_configuration_names_the_keys(unbroken):
    run = unbroken[0].parent
    changed = with_validation().model_dump(mode="json")
    changed["stages"][1]["lr"] = 0.5
    changed["seed"] = 9

    with pytest.raises(
        ConfigError, match=r"differs from .* given in seed, stages\.1\.lr\. A run is"
    ):
        train(TrainConfig.model_validate(changed), run, resume=True)


def test_a_key_that_came_later_does_not_stop_a_resume(unbroken):
    record = unbroken[0].parent / "config.yaml"
    before = record.read_text()
    raw = yaml.safe_load(before)
    del raw["init"]["feature_order"]
    record.write_text(yaml.safe_dump(raw))
    try:
        assert train(with_validation(), record.parent, resume=True) == unbroken[0]
    finally:
        record.write_text(before)


def test_killed_run_resumes_to_the_weights_of_the_unbroken_one(tmp_path):
    """Nothing is done on SIGKILL; networks are fixed, and the precision is mixed."""
    config = tiny_config(
        stages=[{"kind": "pairs", **STAGE, "fixed": ["feature", "task"]}],
        device=TINY["device"] | {"precision": "bf16-mixed"},
    )
    expected = weights(train(config, tmp_path / "unbroken"))
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))

    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_BEFORE_STEP_3, path, tmp_path / "killed"],
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with recorded() as items:
        checkpoint = train(config, tmp_path / "killed", resume=True)

    assert items == [[2, 3]]  # from the save after two steps
    for name, value in weights(checkpoint).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.slow
def test_two_killed_processes_resume_to_the_weights_of_one_with_twice_the_batch(tmp_path):
    """Of the detector, whose anchors are sampled: that must not depend on the process either."""
    stage = {"kind": "pairs", **STAGE, "optimizer": "sgd", "batch_norm": "frozen", "lr": 0.001}
    two = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
    path = write_config(tmp_path / "two.yaml", model=DETECTION_MODEL, stages=[stage], device=two)
    script = tmp_path / "killed.py"  # a file, since lightning starts the second process from it
    script.write_text(_KILLED_BEFORE_STEP_3)
    run = tmp_path / "run"

    killed = subprocess.run(
        [sys.executable, script, path, run], capture_output=True, timeout=300, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (run / "checkpoint").exists()
    done = subprocess.run(
        [sys.executable, script, path, run, "resume"], capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    one = tiny_config(model=DETECTION_MODEL, stages=[stage | {"batch_size": 4}])
    expected = weights(train(one, tmp_path / "one"))

    for name, value in weights(run / "checkpoint").items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=DDP_ATOL)


_KILLED_BEFORE_STEP_3 = """
import os, signal, sys
from pathlib import Path
from dff_edge.trainer.config import load_config
from dff_edge.trainer.learner import Learner
from dff_edge.trainer.train import train

training_step = Learner.training_step

def killed(self, *arguments):
    if self.global_step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return training_step(self, *arguments)

resume = sys.argv[3:] == ["resume"]
if not resume:
    Learner.training_step = killed
train(load_config(Path(sys.argv[1])), Path(sys.argv[2]), resume=resume)
"""


@pytest.mark.parametrize("broken_at", ["torch.save", "os.fsync"])
def test_save_that_breaks_leaves_the_one_before(tmp_path, monkeypatch, broken_at):
    path = tmp_path / "last.ckpt"
    saves().save_checkpoint({"step": 1}, path)

    def power_cut(_content, file=None):
        if file is not None:
            file.write(b"half of it")
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(broken_at, power_cut)
        with pytest.raises(CheckpointError, match=r"last\.ckpt' cannot be written: power cut"):
            saves().save_checkpoint({"step": 2}, path)

    assert saves().load_checkpoint(path) == {"step": 1}


@pytest.mark.parametrize("size", [0, 1000, 5000, 70_000, -1])
def test_damaged_save_is_refused(tmp_path, size):
    path = tmp_path / "last.ckpt"
    saves().save_checkpoint({"weights": torch.arange(50_000.0)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:size])

    with pytest.raises(ConfigError, match=r"last\.ckpt is damaged: .+ remove it\."):
        saves().load_checkpoint(path)


def test_save_of_another_run_or_stage_is_refused(tmp_path):
    """Copied into this run's folder, as when a seed's folder is made from another's."""
    path = tmp_path / "last.ckpt"
    saves().save_checkpoint({"step": 1}, path)

    for config, stage in (
        (tiny_config(seed=4), "0-recognition"),
        (tiny_config(), "2-pairs"),
    ):
        with pytest.raises(
            ConfigError, match=r"last\.ckpt is not a save of this stage of this run"
        ):
            AtomicCheckpointIO(Owner(config, stage)).load_checkpoint(path)
    moved = tiny_config(init={"flow": "elsewhere.safetensors"})
    assert AtomicCheckpointIO(Owner(moved, "0-recognition")).load_checkpoint(path) == {"step": 1}


def test_save_that_does_not_say_whose_it_is_is_refused(tmp_path):
    torch.save({"step": 1}, tmp_path / "last.ckpt")

    with pytest.raises(ConfigError, match=r"last\.ckpt is not a save of this stage of this run"):
        saves().load_checkpoint(tmp_path / "last.ckpt")


def test_finished_stage_of_another_run_is_refused(tmp_path, unbroken):
    theirs = unbroken[0].parent
    config = with_validation().model_copy(update={"seed": 5})
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(dump_yaml(config.model_dump(mode="json")))
    shutil.copytree(theirs / "0-recognition", run / "0-recognition")

    with pytest.raises(ConfigError, match=r"0-recognition/weights\.safetensors is not a save of"):
        train(config, run, resume=True)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_in_place_of_a_save(tmp_path, kind):
    path = tmp_path / "last.ckpt"
    make = {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda p: p.symlink_to("/dev/zero")}
    make[kind](path)

    with pytest.raises(ConfigError, match=f"is a {kind}, expected an ordinary file"):
        saves().load_checkpoint(path)


def test_run_with_a_damaged_save_goes_on_without_it(tmp_path, monkeypatch):
    config = one_stage(steps=4, epoch_steps=2)
    with monkeypatch.context() as patch:
        breaking(patch, RuntimeError("power cut"), "recognition", step=3)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config, tmp_path / "run")
    save = tmp_path / "run" / "0-recognition" / "last.ckpt"
    save.write_bytes(save.read_bytes()[:1000])

    with pytest.raises(ConfigError, match=r"last\.ckpt is damaged"):
        train(config, tmp_path / "run", resume=True)

    save.unlink()
    assert train(config, tmp_path / "run", resume=True).is_dir()


def test_nothing_to_resume_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"run' holds no run to resume \(no config\.yaml in it\)"):
        train(one_stage(), tmp_path / "run", resume=True)


def test_damaged_record_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("name: [")

    with pytest.raises(ConfigError, match=r"config\.yaml is damaged, the run cannot be resumed"):
        train(one_stage(), tmp_path, resume=True)
