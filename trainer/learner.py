"""One stage of training as a lightning module.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715, section 3 "Deep Feature Flow Training" and
    Figure 2 (b).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from dff_edge.errors import ConfigError
from dff_edge.opencv import cv2
from dff_edge.trainer.config import NetworkName, StageConfig
from dff_edge.trainer.data.pairs import PairBatch, collate_groups
from dff_edge.trainer.losses import end_point_error, flow_loss
from dff_edge.trainer.models import (
    DeepFeatureFlow,
    FlowNetInception,
    freeze_batch_norm,
    half_frame,
)
from dff_edge.trainer.tasks import TRAINED_TASKS

_NETWORKS: dict[str, tuple[NetworkName, ...]] = {
    "recognition": ("feature", "task"),
    "flow": ("flow",),
    "pairs": ("feature", "task", "flow", "correction"),
    "correction": ("correction",),
    "distil": ("flow", "correction"),
}


class Learner(lightning.LightningModule):
    """Trains the networks of a stage; the others are not changed.

    Args:
        model: trained in place.
        stage: settings of the stage.
        pairs: data set whose item n is a function of n.
        group: pairs in an item.
        workers: processes that make items.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        model: DeepFeatureFlow,
        stage: StageConfig,
        pairs: Dataset[PairBatch],
        *,
        group: int,
        workers: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.stage = stage
        self._pairs, self._group, self._workers = pairs, group, workers
        weights = stage.class_weights
        self.register_buffer(
            "class_weights", None if weights is None else torch.tensor(weights), persistent=False
        )
        # A tuple, so that the networks are not registered (and saved) a second time.
        self._trained = tuple(
            model.get_submodule(name)
            for name in _NETWORKS[stage.kind]
            if name not in stage.fixed and getattr(model, name) is not None
        )
        model.requires_grad_(False)
        for network in self._trained:
            network.requires_grad_(True)
        for path in stage.fixed_layers:
            find_layer(model, path).requires_grad_(False)
        if not any(p.requires_grad for n in self._trained for p in n.parameters()):
            raise ConfigError(
                f"fixed_layers is {list(stage.fixed_layers)} in a '{stage.kind}' stage with fixed "
                f"{list(stage.fixed)}, expected a layer left to train."
            )
        # Layers that a stage does not compute must not require a gradient: DDP would wait for ever.
        for unused in _unused_layers(model, stage):
            unused.requires_grad_(False)
        if stage.batch_norm == "frozen":
            freeze_batch_norm(model)

    def on_train_epoch_start(self) -> None:
        """Set modes: layers that are not trained keep their BatchNorm statistics."""
        self.model.eval()
        for network in self._trained:
            network.train()
        for path in self.stage.fixed_layers:  # anew: several GPUs replace BatchNorm layers
            find_layer(self.model, path).eval()

    def on_train_batch_start(self, _batch: PairBatch, _batch_index: int) -> int | None:
        """End the last epoch early where the steps are not a multiple of ``epoch_steps``."""
        return -1 if self.global_step >= self.stage.steps else None

    def training_step(self, batch: PairBatch, _batch_index: int) -> Tensor:
        """Compute the loss of one batch and log it as ``loss``.

        Raises:
            ConfigError: the loss is not finite any more.
        """
        current = _to_float(batch["current"])
        if self.stage.kind == "recognition":
            loss = self._task_loss(self.model.recognize(current), batch)
        elif self.stage.kind == "flow":
            flows = self._flows(_to_float(batch["key"]), current)
            truth = batch["flow_px"] / self.model.feature.stride
            loss = flow_loss(flows, truth)
            self._log("end_point_error_cells", end_point_error(flows[-1], truth))
        elif self.stage.kind == "correction":
            assert self.model.correction is not None
            correction = self.model.correction(self.model.normalize(half_frame(current)))
            loss = self._task_loss(self.model.task.parts(correction), batch)
        else:
            maps = self.model(_to_float(batch["key"]), current, batch["same"])
            if self.stage.kind == "distil":
                loss = self._distillation_loss(maps, current)
            else:
                loss = self._task_loss(maps, batch)
                if self.stage.distil:
                    distilled = self._distillation_loss(maps, current)
                    self._log("distillation_loss", distilled)
                    loss = loss + self.stage.distil * distilled
        if not torch.isfinite(loss):
            raise ConfigError(
                f"the loss became {loss.item()} at step {self.global_step} of stage "
                f"'{self.stage.kind}' with lr {self.stage.lr}. Lower lr, or set clip_norm."
            )
        self._log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        """Create SGD or AdamW; weight decay on weights only, the rate is set each step."""
        parameters = [p for n in self._trained for p in n.parameters() if p.requires_grad]
        in_body = {id(p) for p in self.model.feature.body_parameters()}
        groups = [
            {
                "params": [
                    p for p in parameters if (p.ndim > 1, id(p) in in_body) == (decays, is_body)
                ],
                "weight_decay": self.stage.weight_decay if decays else 0.0,
                "lr": self.stage.lr * (self.stage.body_rate if is_body else 1.0),
            }
            for decays in (True, False)
            for is_body in (False, True)
        ]
        optimizer: torch.optim.Optimizer
        if self.stage.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=self.stage.lr, momentum=self.stage.momentum)
        else:
            optimizer = torch.optim.AdamW(groups, lr=self.stage.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(self.stage, step))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Return batches in the order of (seed, step), whatever the number of workers."""
        items = self.stage.batch_size // self._group
        world = self.trainer.world_size
        sampler = StepSampler(
            self.stage.epoch_steps * items * world, self.trainer.global_rank, world
        )
        return DataLoader(
            self._pairs,
            batch_size=items,
            sampler=sampler,
            num_workers=self._workers,
            collate_fn=collate_groups,
            persistent_workers=self._workers > 0,
            # Not forked: OpenCV's thread pool does not survive a fork and hangs the worker.
            multiprocessing_context="spawn" if self._workers else None,
            worker_init_fn=_one_thread,
        )

    def _task_loss(self, answer: Any, batch: PairBatch) -> Tensor:
        """Return the loss of the task network's outputs; log the parts of several."""
        losses = TRAINED_TASKS.find(self.model.task_name).losses(
            self.model,
            answer,
            batch,
            self.stage,
            class_weights=self.class_weights,
            step=self.global_step,
        )
        if len(losses) > 1:
            for name, value in losses.items():
                self._log(f"{name}_loss", value)
        return torch.stack(tuple(losses.values())).sum()

    def _distillation_loss(self, maps: Any, current: Tensor) -> Tensor:
        """Return how far propagated maps are from those of the per-frame network."""
        with torch.no_grad():
            target = self.model.recognize(current)
        return TRAINED_TASKS.find(self.model.task_name).distillation_loss(maps, target)

    def _flows(self, key: Tensor, current: Tensor) -> list[Tensor]:
        key_half = self.model.normalize(half_frame(key))
        current_half = self.model.normalize(half_frame(current))
        return self.model.flow(key_half, current_half, multi_scale=True)

    def _log(self, name: str, value: Tensor) -> None:
        self.log(
            name,
            value,
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
            batch_size=self.stage.batch_size,  # boxes are not stacked: it cannot be inferred
        )


class StepSampler(Sampler[int]):
    """Item numbers of one epoch: epoch e starts where epoch e - 1 ended, devices take turns.

    Args:
        items: per epoch, over all devices.
        rank: number of this device.
        world: number of devices.
    """

    def __init__(self, items: int, rank: int, world: int) -> None:
        self._items, self._rank, self._world = items, rank, world
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; called by lightning before each one, also after a resume."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._items // self._world

    def __iter__(self) -> Iterator[int]:
        start = self._epoch * self._items
        return iter(range(start + self._rank, start + self._items, self._world))


def rate(stage: StageConfig, step: int) -> float:
    """Compute the factor on the learning rate at a step: warm-up, then the stage's schedule.

    Args:
        stage: with its number of steps, warm-up and schedule.
        step: steps done so far.
    """
    warmup = round(stage.warmup * stage.steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(stage.steps - warmup, 1)
    if stage.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    if stage.schedule == "step":
        passed = sum(step >= mark * stage.steps for mark in stage.milestones)
        return float(stage.decay**passed)
    return 1.0


def find_layer(model: DeepFeatureFlow, path: str) -> nn.Module:
    """Find a layer of ``fixed_layers``.

    Args:
        model: the model of the layer.
        path: names from the network down, separated by dots.

    Raises:
        ConfigError: there is none, or it is a whole network.
    """
    network, _, below = path.partition(".")
    owner = dict(model.named_children()).get(network)
    known = {} if owner is None else dict(owner.named_modules())
    if not below or below not in known:
        layers = [name for name, _ in (model if owner is None else owner).named_children()]
        where = "" if owner is None else f"{network}. and one of "
        raise ConfigError(
            f"fixed_layers has '{path}', expected a layer of a network, {where}"
            f"{', '.join(layers)}, or one below those."
        )
    return known[below]


def _unused_layers(model: DeepFeatureFlow, stage: StageConfig) -> list[nn.Module]:
    """Return layers of the trained networks that the loss of a stage does not depend on."""
    if stage.kind == "correction" and model.correction is not None:
        return [model.correction.gate]
    if stage.kind == "flow" and model.flow.scale is not None:
        return [model.flow.scale]
    if stage.kind in ("pairs", "distil") and isinstance(model.flow, FlowNetInception):
        return [model.flow.predict_flow]  # the other flow networks use their coarse flows
    return []


def _to_float(frames: Tensor) -> Tensor:
    return frames.float().contiguous(memory_format=torch.channels_last)


def _one_thread(_worker: int) -> None:
    cv2.setNumThreads(1)
