"""Run the stages of a training configuration, with lightning; resume an interrupted run.

A run folder holds ``config.yaml``, one folder per stage (``last.ckpt`` to resume from,
``best.safetensors`` where the best weights are kept, ``weights.safetensors`` when it is finished,
``logs/version_N/metrics.csv`` for each start, TensorBoard's files where that is installed),
``curves.png``, ``predictions/``, and at the end ``checkpoint/``.

In a distributed run lightning starts the whole command once more for each device, so everything
here runs in each process; only the first one writes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import (
    Callback,
    LearningRateMonitor,
    ModelCheckpoint,
    TQDMProgressBar,
)
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import Dataset

from dff_edge import __version__
from dff_edge.errors import ConfigError, DffEdgeError
from dff_edge.files.documents import dump_yaml
from dff_edge.trainer.best_weights import BestWeights
from dff_edge.trainer.checkpoint import load_weights, save_checkpoint
from dff_edge.trainer.config import StageConfig, TrainConfig, load_config
from dff_edge.trainer.curves import curves_of
from dff_edge.trainer.data import PairBatch, check_training_data, open_pairs, training_classes
from dff_edge.trainer.initial import initialise
from dff_edge.trainer.learner import Learner, find_layer
from dff_edge.trainer.models import DeepFeatureFlow, build_model
from dff_edge.trainer.saves import AtomicCheckpointIO, Owner
from dff_edge.trainer.tensor_files import make_folder, read_tensors, write_file, write_tensors
from dff_edge.trainer.validation import (
    choose_score_threshold,
    open_held_out,
    unused_settings,
    validation_of,
)

_log = logging.getLogger("dff_edge.trainer")
RECORD = "config.yaml"
# Warnings of lightning about intended behaviour: `workers` is the user's choice, a stage's folder
# holds the logs of earlier starts, and networks that a stage does not train are in eval mode.
_EXPECTED_WARNINGS = (
    r".*does not have many workers",
    r".*exists and is not empty",
    r".*GPU available but not used",
    r".*in eval mode at the start of training",
    r".*when logging on epoch level in distributed setting",  # of values that only rank 0 has
    r".*dirpath has changed",  # of a folder that was moved: its save is read nevertheless
    r".*LeafSpec.* is deprecated",  # between lightning 2.6 and torch 2.13
)


def train(config: TrainConfig, run_folder: Path, *, resume: bool = False) -> Path:
    """Train a model from a configuration.

    Logs a line per epoch to the logger ``dff_edge.trainer``; where stderr is a terminal a progress
    bar moves on it. Blocks until the last stage is done.

    Args:
        config: the run.
        run_folder: output folder; empty or absent unless ``resume``.
        resume: resume the run in the folder, whose configuration must be the same.

    Returns:
        The checkpoint folder.

    Raises:
        ConfigError: the folder is not empty, or holds no run or another one to resume; data and
            model have different classes; a device is missing; the loss became infinite or NaN.
        CheckpointError: when initial weights do not fit.
        SourceError: when training data is missing.
        KeyboardInterrupt: the run was stopped by the keyboard, or by the signal that it names, and
            can be resumed.
    """
    is_first = is_first_process()
    if is_first:
        _check_folder(config, run_folder, resume)
    _check_classes(config)
    pairs = [_open_pairs(config, number) for number in range(len(config.stages))]
    held_out = open_held_out(config)
    uses = {stage.kind for stage in config.stages} - {"flow"}
    if uses:
        check_training_data(
            config.data,
            config.model,
            trains_pairs=bool(uses & {"pairs", "distil"}),
            batch_size=max(stage.batch_size for stage in config.stages if stage.kind != "flow"),
        )
    if is_first:
        for line in unused_settings(config):
            _log.warning(line)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    model = build_model(config.model)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for stage in config.stages:  # now, rather than a day later when it starts
        for path in stage.fixed_layers:
            find_layer(model, path)
    initialise(model, config)
    if is_first and not resume:
        make_folder(run_folder)
        write_file(run_folder / RECORD, dump_yaml(config.model_dump(mode="json")).encode())
    curves = curves_of(run_folder)
    for number, stage in enumerate(config.stages):
        folder = run_folder / f"{number}-{stage.kind}"
        done = folder / "weights.safetensors"
        if done.exists():
            tensors, told = read_tensors(done)
            Owner(config, folder.name).check(told.get("run"), done)
            load_weights(model, tensors, str(done))
            _log.info("stage %d (%s) is finished already", number, stage.kind)
            continue
        best = None
        if stage.keep == "best":
            best = BestWeights(folder, Owner(config, folder.name), patience=stage.patience)
        callbacks = [*validation_of(config, number, held_out, run_folder, best), *curves]
        _run_stage(model, config, stage, pairs[number], callbacks, best, folder)
    checkpoint = run_folder / "checkpoint"
    training = {
        "config": config.model_dump(mode="json"),
        "dff_edge": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if is_first:
        score_threshold = choose_score_threshold(config, model, held_out)
        save_checkpoint(
            checkpoint,
            model,
            config.model,
            name=config.name,
            training=training,
            storage=config.storage,
            score_threshold=score_threshold,
        )
    return checkpoint


def is_first_process() -> bool:
    """Return whether this process is the one that the user started."""
    return getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "0") == "0"


def _check_folder(config: TrainConfig, run_folder: Path, resume: bool) -> None:
    record = run_folder / RECORD
    if not resume:
        if record.exists():
            raise ConfigError(
                f"'{run_folder}' holds a run already. Give --resume, or a new folder."
            )
        if run_folder.exists() and (not run_folder.is_dir() or any(run_folder.iterdir())):
            raise ConfigError(f"'{run_folder}' is not an empty folder. Give a new one.")
        return
    if not record.exists():
        raise ConfigError(f"'{run_folder}' holds no run to resume (no {RECORD} in it).")
    try:
        # Compared as configurations, so that a key that came later counts with its default.
        started = load_config(record)
    except ConfigError as error:
        raise ConfigError(f"{record} is damaged, the run cannot be resumed: {error}") from error
    if started != config:
        then, now = (flatten(each.model_dump(mode="json")) for each in (started, config))
        keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        raise ConfigError(
            f"{record} differs from the configuration given in {', '.join(keys)}. A run is resumed "
            "with the configuration it was started with; start another one in a new folder."
        )


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested keys to names such as ``stages.0.lr``."""
    if not isinstance(value, dict | list):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _check_classes(config: TrainConfig) -> None:
    """Raise if the data defines other classes than the model, or another order; flow has none."""
    classes = config.model.task.classes
    recognises = any(stage.kind not in ("flow", "distil") for stage in config.stages)
    train_on = config.data.train if recognises else None
    for key, uri in (("train", train_on), ("validate_on", config.data.validate_on)):
        known = None if uri is None else training_classes(uri, config.model.task.name)
        if known is not None and known != classes:
            unknown = [name for name in known if name not in classes]
            lacking = f" It lacks {', '.join(unknown)}." if unknown else ""
            raise ConfigError(
                f"model.task.classes is {', '.join(classes)}, expected {', '.join(known)}, the "
                f"classes of data.{key} ('{uri}').{lacking}"
            )


def _open_pairs(config: TrainConfig, number: int) -> Dataset[PairBatch]:
    stage = config.stages[number]
    is_flow = stage.kind == "flow"
    pairs = open_pairs(
        config.data,
        seed=config.seed * 1000 + number,
        frame_size=config.model.frame_size,
        class_count=len(config.model.task.classes),
        length=stage.steps * stage.batch_size // config.data.group,
        max_distance=0 if stage.kind in ("recognition", "correction") else config.data.max_distance,
        for_flow=is_flow,
        task=config.model.task.name,
        crop=stage.crop,
    )
    if pairs.is_held_out:
        raise ConfigError(
            f"data.train is '{config.data.train}', expected split=train: this one is for "
            "data.validate_flow_on."
        )
    if is_flow and not pairs.knows_flow:
        raise ConfigError(
            f"stages.{number}.kind is 'flow', which needs true flow, and data.train is "
            f"'{config.data.train}'. Set data.motion: synthetic, train flow on synthetic://street, "
            "or leave the stage out and give init.flow."
        )
    if stage.kind not in ("flow", "distil") and not pairs.knows_truth:
        raise ConfigError(
            f"stages.{number}.kind is '{stage.kind}', which needs labels or boxes, and data.train "
            f"is '{config.data.train}', which has none. Train it from a configuration of its own, "
            "and this one's stages with init."
        )
    return pairs


def _run_stage(
    model: DeepFeatureFlow,
    config: TrainConfig,
    stage: StageConfig,
    pairs: Dataset[PairBatch],
    callbacks: Sequence[Callback],
    best: BestWeights | None,
    folder: Path,
) -> None:
    learner = Learner(model, stage, pairs, group=config.data.group, workers=config.data.workers)
    last = folder / "last.ckpt"
    with _without_expected_warnings():
        trainer = _make_trainer(config, stage, callbacks, folder)
        if trainer.world_size > 1 and stage.batch_norm == "train" and not _is_gpu(config):
            _log.warning(
                "%s: BatchNorm sees the batch of each process alone, for torch synchronises it on "
                "GPUs only; batch_norm: frozen trains as one process would",
                folder.name,
            )
        try:
            trainer.fit(learner, ckpt_path=last if last.exists() else None, weights_only=True)
        except SIGTERMException as error:  # its exit code would be 0
            raise KeyboardInterrupt("SIGTERM") from error
        except SystemExit as error:
            if not isinstance(error.__context__, KeyboardInterrupt):
                raise
            raise KeyboardInterrupt from error  # as it was before lightning made it an exit
        except DffEdgeError as error:
            raise type(error)(_message(error)) from error
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"{folder.name} ran out of memory: {reason}. Give a smaller batch_size, frame_size "
                "or width, in a new run."
            ) from error
    if trainer.is_global_zero:  # where it was measured; the others begin a stage with its weights
        if best is not None:
            best.load(model)
        run = {"run": Owner(config, folder.name).text}
        write_tensors(folder / "weights.safetensors", model.state_dict(), run)
    trainer.strategy.barrier()


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory is exhausted: torch has a class for GPUs, and messages for the CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "can't allocate memory" in str(error)
    )


def _message(error: DffEdgeError) -> str:
    """Return an error's message; torch makes a worker's message a whole traceback."""
    name = f"{type(error).__module__}.{type(error).__qualname__}: "
    return str(error).rpartition(name)[2].rstrip()


def _make_trainer(
    config: TrainConfig, stage: StageConfig, others: Sequence[Callback], folder: Path
) -> lightning.Trainer:
    callbacks: list[Callback] = [
        *others,
        ModelCheckpoint(
            dirpath=folder,
            filename="last",
            save_top_k=1,
            every_n_epochs=1,
            enable_version_counter=False,
        ),
        LearningRateMonitor(logging_interval="epoch"),
        _EpochLog(),
        _ProgressOnStderr(),
    ]
    device = config.device
    try:
        return lightning.Trainer(
            # Not max_steps: with it lightning treats a save at the end of an epoch as one within
            # an epoch, and a resumed run would skip steps. The learner ends the last epoch.
            max_epochs=-(-stage.steps // stage.epoch_steps),
            accelerator=device.accelerator,
            devices=device.devices,
            num_nodes=device.nodes,
            strategy=device.strategy,
            precision=device.precision,
            gradient_clip_val=stage.clip_norm,
            callbacks=callbacks,
            logger=_loggers(folder),
            log_every_n_steps=stage.epoch_steps,
            use_distributed_sampler=False,
            sync_batchnorm=_syncs_batch_norm(config, stage),
            plugins=[AtomicCheckpointIO(Owner(config, folder.name))],
            enable_model_summary=False,
            default_root_dir=folder,
        )
    except (MisconfigurationException, ImportError, ValueError) as error:
        raise ConfigError(
            f"device is {device.model_dump()}, which lightning refuses: {error}"
        ) from error


def _loggers(folder: Path) -> list[Logger]:
    """Return where values are logged: in a CSV file, and for TensorBoard where it is installed."""
    loggers: list[Logger] = [CSVLogger(folder, name="logs")]
    if any(importlib.util.find_spec(name) for name in ("tensorboard", "tensorboardX")):
        loggers.append(TensorBoardLogger(folder.parent, name=folder.name, version="tensorboard"))
    return loggers


def _syncs_batch_norm(config: TrainConfig, stage: StageConfig) -> bool:
    """Return whether to synchronise BatchNorm: over several GPUs, as torch cannot on the CPU."""
    several = config.device.devices != 1 or config.device.nodes != 1
    return several and _is_gpu(config) and stage.batch_norm == "train"


def _is_gpu(config: TrainConfig) -> bool:
    return config.device.accelerator != "cpu" and torch.cuda.is_available()


@contextlib.contextmanager
def _without_expected_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


class _EpochLog(Callback):
    """A line in the log at the end of each epoch."""

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.is_global_zero:
            loss = trainer.callback_metrics["loss"].item()
            kind, steps = pl_module.stage.kind, pl_module.stage.steps
            _log.info("%s: step %d/%d, loss %.4f", kind, trainer.global_step, steps, loss)


class _ProgressOnStderr(TQDMProgressBar):
    """Lightning's bar, on stderr: stdout is for results. Shown on a terminal only."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=1 if sys.stderr.isatty() else 0)

    def init_train_tqdm(self) -> Tqdm:
        with contextlib.redirect_stdout(sys.stderr):  # a bar keeps the stream it was made with
            return super().init_train_tqdm()
