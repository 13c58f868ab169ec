"""Published weights, written as this project's: one file per network, and a card.

``feature.safetensors``, ``flow.safetensors`` and ``task.safetensors`` are the values of
``init.feature``, ``init.flow`` and ``init.task`` of a training configuration; ``card.json`` records
their origin and the settings of the model that they need.
"""

from __future__ import annotations

import colorsys
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from dff_edge import __version__
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.errors import CheckpointError
from dff_edge.files.documents import dump_yaml
from dff_edge.trainer.checkpoint import check_weights, digest
from dff_edge.trainer.importing.network import Network
from dff_edge.trainer.importing.normalisation import (
    IMAGENET,
    Normalisation,
    Triple,
    renormalise,
    swap_rgb,
)
from dff_edge.trainer.importing.recognise import read_networks
from dff_edge.trainer.models import ModelConfig, build_model
from dff_edge.trainer.settings import describe
from dff_edge.trainer.tensor_files import make_folder, write_file, write_tensors

CARD = "card.json"
_OPTIONAL = ("feat_conv.", "scale.")


@dataclass(frozen=True)
class ImportCard:
    """Record of an import, the contents of ``card.json``.

    Attributes:
        origin: kind of file.
        source: name of the file.
        sha256: of the file.
        dff_edge: version that wrote this.
        networks: SHA-256 of each file written, by "feature", "flow", "task".
        model: the settings that a model's configuration needs for them.
        feature_order: channel order of the feature network's input, for ``init.feature_order``.
        left_out: names in the file that were not imported.
        notes: where the original computes something else, whatever its weights.
    """

    origin: str
    source: str
    sha256: str
    dff_edge: str
    networks: dict[str, str]
    model: dict[str, Any]
    feature_order: str
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    def config(self, folder: Path) -> str:
        """Return the parts of a training configuration that use the weights, as YAML.

        Args:
            folder: the folder of the weights.
        """
        init = {part: str(folder / _file(part)) for part in self.networks}
        if "feature" in init:
            init["feature_order"] = self.feature_order
        return dump_yaml({"model": self.model, "init": init}, flow=None)


def import_weights(
    path: Path,
    output: Path,
    *,
    is_caffe: bool = False,
    mean: Triple | None = None,
    std: Triple | None = None,
) -> ImportCard:
    """Read published weights and write its networks as safetensors, with a card.

    Args:
        path: a file of one of ``recognise.KNOWN``. Nothing in it is executed.
        output: folder; created where it is missing. Files of an earlier import in it are replaced.
        is_caffe: the weights come from Caffe: BGR frames, for a ResNet strides on the 1x1
            convolutions and no deviation.
        mean: of the model that will use the weights, BGR, 0..255. None for the mean that a
            feature network in the file was trained with, torchvision's for a file without.
        std: the same for the deviations.

    Raises:
        CheckpointError: it cannot be read, is of no known kind, or lacks tensors, or the folder
            holds other files; nothing is written.
        ConfigError: a deviation that is not positive.
    """
    imported = read_networks(path, is_caffe=is_caffe)
    feature = imported.networks.get("feature")
    own = (feature.normalisation if feature else None) or IMAGENET
    wanted = Normalisation(mean or own.mean, std or own.std)
    networks = {name: _renormalised(name, n, wanted) for name, n in imported.networks.items()}
    model = _model_settings(networks, wanted)
    _check(networks, model, str(path))
    _prepare(output)
    card = ImportCard(
        origin=imported.origin,
        source=path.name,
        sha256=digest(path),
        dff_edge=__version__,
        networks={
            name: write_tensors(output / _file(name), network.tensors)
            for name, network in networks.items()
        },
        model=model,
        feature_order="rgb",
        left_out=imported.left_out,
        notes=(*imported.notes, *_border_notes(imported.networks, wanted)),
    )
    write_file(output / CARD, (json.dumps(asdict(card), indent=2) + "\n").encode())
    return card


def _file(name: str) -> str:
    return f"{name}.safetensors"


def _renormalised(name: str, network: Network, wanted: Normalisation) -> Network:
    """Rewrite a network for frames with the wanted normalisation."""
    made_for = network.normalisation
    first, norm = _first_layers(name, network)
    weight = network.tensors.get(first)
    if made_for is None or made_for == wanted or weight is None:
        return network  # a missing first convolution is reported by the check
    if weight.ndim != 4 or weight.shape[1] % 3:
        raise CheckpointError(
            f"{first} of the {name} network has shape {tuple(weight.shape)}, expected "
            "(kernels, channels, height, width) with three channels for each frame."
        )
    is_rgb = name == "feature"
    changed, shift = renormalise(swap_rgb(weight) if is_rgb else weight, made_for, wanted)
    tensors = {**network.tensors, first: swap_rgb(changed) if is_rgb else changed}
    # If the first convolution has no bias, its BatchNorm absorbs the shift.
    bias, sign = (norm, -1) if is_rgb else ("conv1.0.bias", 1)
    if bias in tensors and tensors[bias].shape == shift.shape:
        tensors[bias] = tensors[bias] + sign * shift
    return replace(network, tensors=tensors, normalisation=wanted)


def _first_layers(name: str, network: Network) -> tuple[str, str]:
    """Return the names of the first convolution's weight and of its BatchNorm's mean."""
    if name != "feature":
        return ("conv1.0.weight" if name == "flow" else ""), ""
    kind = str(network.settings["name"])
    if kind.startswith("efficientnet"):
        return "conv_stem.weight", "bn0.running_mean"
    if kind == "mobilenet_v2":
        return "features.0.0.weight", "features.0.1.running_mean"
    return "conv1.weight", "bn1.running_mean"


def _border_notes(networks: dict[str, Network], wanted: Normalisation) -> list[str]:
    return [
        f"The {name} network was trained with the mean {_text(made_for.mean)} (B, G, R), and is "
        f"written for {_text(wanted.mean)}: the same but for the border, which is padded with the "
        "mean colour."
        for name, network in networks.items()
        if (made_for := network.normalisation) is not None and made_for.mean != wanted.mean
    ]


def _text(mean: Triple) -> str:
    return ", ".join(f"{value:g}" for value in mean)


def _model_settings(networks: dict[str, Network], normalisation: Normalisation) -> dict[str, Any]:
    """Return the settings of a model's configuration that the networks need."""
    model: dict[str, Any] = {
        name: dict(network.settings) for name, network in networks.items() if name != "task"
    }
    if normalisation != IMAGENET:  # the default
        model |= {"mean": list(normalisation.mean), "std": list(normalisation.std)}
    if "task" in networks:
        settings = networks["task"].settings
        classes = range(settings["classes"])
        model["task"] = {
            "name": "detection",
            "classes": [f"class {number + 1}" for number in classes],  # names are in no file
            "colours": [_colour(number / len(classes)) for number in classes],
            "rfcn": {"bins": settings["bins"]},
        }
        if settings["anchors"] != RfcnSettings().anchors:
            raise CheckpointError(
                f"R-FCN has {settings['anchors']} anchors a cell, expected "
                f"{RfcnSettings().anchors}: those of the official configuration. The sizes "
                "of others are in no file."
            )
    channels = {name: count for name, count in map(_channels, networks.items()) if count}
    if len(set(channels.values())) > 1:
        raise CheckpointError(f"the networks have features of {channels} channels, expected one C.")
    if channels:
        model.setdefault("feature", {})["channels"] = next(iter(channels.values()))
    return model


def _channels(item: tuple[str, Network]) -> tuple[str, int | None]:
    """Return C, by the shapes of a network."""
    name, network = item
    layer = {"feature": "feat_conv", "flow": "scale", "task": "objectness"}[name]
    weight = network.tensors.get(f"{layer}.weight")
    if weight is None or weight.ndim != 4:
        return name, None
    return name, 2 * weight.shape[1] if name == "task" else len(weight)


def _colour(hue: float) -> list[int]:
    return [round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, 0.9)]


def _check(networks: dict[str, Network], model: dict[str, Any], origin: str) -> None:
    """Compare every name and shape with the networks of the settings."""
    settings = {
        "frame_size": [64, 64],
        "task": {"classes": ["any"], "colours": [[0, 0, 0]]},
        **model,
        "feature": {"name": "resnet18", **model.get("feature", {})},
    }
    try:
        config = ModelConfig.model_validate(settings)
    except ValidationError as error:
        raise CheckpointError(
            f"{origin} needs a model that dff-edge cannot build: {describe(error, ModelConfig)}"
        ) from error
    with torch.device("meta"):
        built = build_model(config)
    for name, network in networks.items():
        own = built.get_submodule(name)
        counters = [key for key in own.state_dict() if key.endswith("num_batches_tracked")]
        absent = tuple(  # trained from scratch where the file lacks it
            layer
            for layer in _OPTIONAL
            if not any(key.startswith(layer) for key in network.tensors)
        )
        check_weights(own, network.tensors, f"{origin}, {name} network,", (*absent, *counters))
        for key, value in network.tensors.items():
            if not value.isfinite().all():
                raise CheckpointError(
                    f"{origin}: {key} of the {name} network holds NaN or infinity. Copy or "
                    "download the file again."
                )


def _prepare(output: Path) -> None:
    """Create the folder, or remove the files of an earlier import."""
    make_folder(output)
    if not (output / CARD).exists() and any(output.iterdir()):
        raise CheckpointError(
            f"{output} holds other things than an import (no {CARD}). Give a new folder."
        )
    for name in ("feature", "flow", "task"):
        (output / _file(name)).unlink(missing_ok=True)
