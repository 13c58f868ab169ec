"""Whole runs, a few steps each: files, resuming, refusals, several devices."""

import csv
import logging
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch._utils import ExceptionWrapper

from dff_edge.runtime.errors import CheckpointError, ConfigError, SourceError
from dff_edge.trainer import train as train_module
from dff_edge.trainer.checkpoint import load_checkpoint
from dff_edge.trainer.config import TrainConfig
from dff_edge.trainer.learner import Learner
from dff_edge.trainer.models import build_model
from dff_edge.trainer.train import train
from tests.runtime.datasets.layouts import flying_chairs
from tests.trainer.tiny import STAGE, TINY, tiny_config, write_config

VALIDATION = "synthetic://street?clips=1&frames=6&height=32&width=64"
COUNTER = "feature.bn1.num_batches_tracked"
DDP_ATOL = 2e-5  # float32: two halves of a batch are averaged in another order


def with_validation():
    return tiny_config(
        data=TINY["data"] | {"validate_on": VALIDATION},
        stages=[
            {"kind": "recognition", **STAGE, "validate_every": 1},
            {"kind": "flow", **STAGE},
            {"kind": "pairs", **STAGE, "validate_every": 2},
        ],
    )


def one_stage(kind="recognition", **changes):
    return tiny_config(stages=[{"kind": kind, **STAGE, "steps": 1} | changes])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run of three stages with validation, and the numbers of the items it read."""
    folder = tmp_path_factory.mktemp("train") / "new" / "run"
    with recorded() as items:
        checkpoint = train(with_validation(), folder)
    return checkpoint, items


def recorded():
    """Note which items each data set was asked for."""
    items = []
    patch = pytest.MonkeyPatch()
    open_pairs = train_module.open_pairs

    def open_recorded(*arguments, **options):
        pairs, seen = open_pairs(*arguments, **options), []
        items.append(seen)

        class Recorded(torch.utils.data.Dataset):
            knows_flow = pairs.knows_flow

            def __getattr__(self, name):
                return getattr(pairs, name)

            def __len__(self):
                return len(pairs)

            def __getitem__(self, index):
                seen.append(index)
                return pairs[index]

        return Recorded()

    class Patched:
        def __enter__(self):
            patch.setattr(train_module, "open_pairs", open_recorded)
            return items

        def __exit__(self, *_error):
            patch.undo()

    return Patched()


def breaking(monkeypatch, error, kind, step):
    """Fail in a stage before a step."""
    training_step = Learner.training_step

    def fail(self, *arguments):
        if self.stage.kind == kind and self.global_step == step:
            raise error
        return training_step(self, *arguments)

    monkeypatch.setattr(Learner, "training_step", fail)


def metrics(folder):
    (path,) = folder.glob("logs/version_*/metrics.csv")
    with path.open() as file:
        return list(csv.DictReader(file))


def weights(checkpoint):
    return load_checkpoint(checkpoint).model.state_dict()


# ---- a run


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
    ]
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
    first, again = (train(one_stage(), tmp_path / name) for name in "ab")
    other = train(tiny_config(seed=4, stages=[{"kind": "recognition", **STAGE}]), tmp_path / "c")

    assert all(torch.equal(weights(again)[n], value) for n, value in weights(first).items())
    assert not torch.equal(
        weights(first)["feature.conv1.weight"], weights(other)["feature.conv1.weight"]
    )


def test_half_weights_are_stored_when_asked_for(tmp_path):
    checkpoint = train(tiny_config(stages=one_stage().stages, save_half=True), tmp_path / "run")

    stored = load_file(checkpoint / "weights.safetensors")
    assert stored["feature.conv1.weight"].dtype == torch.float16


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
    cv2.imwrite(str(tmp_path / "data" / "labels" / "3.png"), np.full((40, 70), 7, np.uint8))
    data = TINY["data"] | {"train": str(tmp_path / "data")}

    checkpoint = train(
        tiny_config(data=data, stages=[{"kind": "pairs", **STAGE}]), tmp_path / "run"
    )

    assert load_checkpoint(checkpoint).name == "tiny"
    losses = [float(row["loss"]) for row in metrics(tmp_path / "run" / "0-pairs") if row["loss"]]
    assert len(losses) == 2
    assert min(losses) > 0  # the last of the classes is scored


# ---- resuming


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
        patch.setattr(train_module, "save_state_dict", lambda *_: (_ for _ in ()).throw(OSError()))
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


def test_error_of_a_worker_says_what_is_wrong_and_no_traceback(tmp_path, monkeypatch):
    """As torch hands it over: the worker's traceback is the text."""
    try:
        raise SourceError("a/b.xml is damaged: no element found.")
    except SourceError:
        caught = ExceptionWrapper(where="in DataLoader worker process 0")

    monkeypatch.setattr(Learner, "training_step", lambda *_arguments: caught.reraise())

    with pytest.raises(SourceError, match=r"^a/b\.xml is damaged: no element found\.$"):
        train(one_stage(), tmp_path / "run")


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

Learner.training_step = killed
train(load_config(Path(sys.argv[1])), Path(sys.argv[2]))
"""


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


def test_nothing_to_resume_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"run' holds no run to resume \(no config\.yaml in it\)"):
        train(one_stage(), tmp_path / "run", resume=True)


def test_damaged_record_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("name: [")

    with pytest.raises(ConfigError, match=r"config\.yaml is damaged, the run cannot be resumed"):
        train(one_stage(), tmp_path, resume=True)


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_not_there_is_refused(tmp_path):
    config = tiny_config(stages=one_stage().stages, device={"accelerator": "gpu", "devices": 1})

    with pytest.raises(ConfigError, match="which lightning refuses"):
        train(config, tmp_path / "run")


# ---- initial weights


def initialised(**init):
    config = tiny_config(init=init)
    model = build_model(config.model)
    train_module.initialise(model, config)
    return model.state_dict()


@pytest.fixture
def classifier(tmp_path, model):
    """What torchvision's file would hold: no feat_conv, no counters, but a classifier."""
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

    train_module.initialise(model, tiny_config(init={network: unbroken[0]}))

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

    train_module.initialise(model, config)

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

    with pytest.raises(CheckpointError, match="checkpoint does not fit the model"):
        train_module.initialise(build_model(config.model), config)


# ---- several devices


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    """With BatchNorm frozen a step of DDP is a step on the batches of all devices together."""
    command = Path(sys.executable).parent / "dff-edge"
    if not command.exists():
        pytest.skip("the dff-edge command is not installed beside this Python")
    common = {**STAGE, "optimizer": "sgd", "batch_norm": "frozen"}
    stages = [
        {"kind": "recognition", **common},
        {"kind": "flow", **common},
        {"kind": "pairs", **common},
        {"kind": "pairs", **common, "fixed": ["feature", "task"]},
        {"kind": "pairs", **common, "fixed": ["flow"]},
    ]
    path = write_config(
        tmp_path / "two.yaml",
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
        tiny_config(stages=[stage | {"batch_size": 4} for stage in stages]),
        tmp_path / "one",
    )

    assert done.stdout == f"{tmp_path / 'two' / 'checkpoint'}\n"
    expected = weights(one)
    for name, value in weights(tmp_path / "two" / "checkpoint").items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=DDP_ATOL)
