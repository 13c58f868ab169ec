"""A configuration completed: networks from the model that it starts from, classes from its data.

``dff-edge train configs/finetune.yaml --set init.model=street-detection --set data.train=MY``
names neither networks nor classes. What ``model`` leaves out is that of ``init.model``; classes
that nobody gives are those of the data; and classes without colours get some.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from dff_edge.bundle.tasks import TaskName
from dff_edge.data.clips import open_clips
from dff_edge.data.datasets import VID_AND_DET, parse_data_name
from dff_edge.data.datasets.sample import take_sample
from dff_edge.errors import ConfigError
from dff_edge.trainer.checkpoint import load_model_config
from dff_edge.trainer.config import DataConfig, TrainConfig
from dff_edge.trainer.data import moves_already, training_classes
from dff_edge.trainer.settings import load_settings

Colour = tuple[int, int, int]


def load_whole_config(path: Path, changes: Iterable[str] = ()) -> TrainConfig:
    """Read a configuration as ``load_config`` does, and complete it.

    Raises:
        ConfigError: names the key, the value received and what was expected; or the model that it
            starts from, or its data, cannot complete it.
        ChangeError: the same, where the file without the changes is right.
        CheckpointError: the model that it starts from cannot be read.
        SourceError: its data cannot be read.
    """
    return load_settings(path, TrainConfig, changes, complete=complete)


def complete(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run with the missing ones of ``model`` filled in.

    Args:
        raw: as read from a file; values of the wrong type are left for its check.

    Raises:
        ConfigError, CheckpointError, SourceError: as ``load_whole_config``.
    """
    origin, data = _at(raw, "init", "model"), _at(raw, "data", "train")
    given = raw.get("model")
    init = raw.get("init")
    if not all(isinstance(value, dict | None) for value in (given, init)):
        return raw
    if not isinstance(origin, str | None):
        return raw
    if given is None and origin is None:
        raise ConfigError(
            "model is missing, expected its networks, or init.model: a checkpoint, or a model that "
            "comes with dff-edge, whose networks are trained further."
        )
    uri = data if isinstance(data, str) else DataConfig().train
    start = {} if origin is None else load_model_config(origin).model_dump(mode="json")
    model = _merged(start, given or {})
    if not isinstance(model.get("task"), dict):
        return {**raw, "model": model}
    task = model["task"] = dict(model["task"])
    if origin is not None:
        _check_task(start["task"]["name"], task.get("name"), origin, uri)
    own = _at(given or {}, "task", "classes")
    if own is None and _recognises(raw):
        task["classes"] = _classes_of(uri, task.get("name", "segmentation"), origin)
    if _at(given or {}, "task", "colours") is None and isinstance(
        task.get("classes"), list | tuple
    ):
        before = start.get("task", {"classes": [], "colours": []})
        known = dict(zip(before["classes"], before["colours"], strict=True))
        task["colours"] = choose_colours([str(name) for name in task["classes"]], known)
    return {**raw, "model": model}


def choose_colours(
    classes: Sequence[str], known: dict[str, Sequence[int]] | None = None
) -> list[Sequence[int]]:
    """Return a colour for each class: its known one, or the next of Pascal VOC's colour map.

    Args:
        classes: names.
        known: ``(red, green, blue)`` of some classes.
    """
    taken = {tuple(colour) for name, colour in (known or {}).items() if name in classes}
    free = (colour for colour in map(_voc_colour, count(1)) if colour not in taken)
    return [list((known or {}).get(name) or next(free)) for name in classes]


def _voc_colour(number: int) -> Colour:
    """Return a colour of Pascal VOC's map: bits of the number, spread over red, green and blue."""
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
    return channels[0], channels[1], channels[2]


def _at(raw: dict[str, Any], *keys: str) -> Any:
    place: Any = raw
    for key in keys:
        if not isinstance(place, dict):
            return None
        place = place.get(key)
    return place


def _merged(start: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return settings with those that are given in place of their own, level by level."""
    merged = dict(start)
    for key, value in given.items():
        own = merged.get(key)
        if isinstance(own, dict) and isinstance(value, dict):
            merged[key] = _merged(own, value)
        else:
            merged[key] = value
    return merged


def _recognises(raw: dict[str, Any]) -> bool:
    """Return whether a stage needs classes: flow and distillation do not."""
    stages = raw.get("stages")
    kinds = [_at(each, "kind") for each in stages] if isinstance(stages, list) else []
    return any(kind not in ("flow", "distil") for kind in kinds)


def _check_task(own: TaskName, wanted: object, origin: str, uri: str) -> None:
    """Raise unless a model is for the task that is wanted, and for that of the data."""
    if wanted != own:
        raise ConfigError(
            f"init.model is '{origin}', a model for {own}, and model.task.name is {wanted!r}. Give "
            "a model for that task, or take its networks alone, as init.feature and init.flow."
        )
    if moves_already(uri):
        return
    data = None if uri.startswith(f"{VID_AND_DET}://") else parse_data_name(uri)
    known = "detection" if uri.startswith(f"{VID_AND_DET}://") else data and data.kind.task
    if known not in (None, own):
        raise ConfigError(
            f"init.model is '{origin}', a model for {own}, and data.train is '{uri}', data for "
            f"{known}. Give a model for {known} (`dff-edge zoo` lists those that come with it), or "
            "take this one's networks alone, as init.feature and init.flow, and give model.task."
        )


def _classes_of(uri: str, task: TaskName, origin: str | None) -> list[str] | None:
    """Return the classes that data defines."""
    known = training_classes(uri, task)
    if known is not None:
        return list(known)
    sample = take_sample(open_clips(uri, split="train"), task, None)
    numbers = [number for number in range(255) if sample.pixels[number]]
    found = (
        f" (those of the opened ones are {', '.join(map(str, numbers[:12]))})" if numbers else ""
    )
    as_model = "" if origin is None else f", or as they are in '{origin}'"
    raise ConfigError(
        f"model.task.classes is missing, and the labels of data.train ('{uri}') are numbers "
        f"without names{found}. Name the classes in the order of their numbers{as_model}, as in "
        "--set 'model.task.classes=[background, cone]'."
    )
