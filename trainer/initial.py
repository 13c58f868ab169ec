"""Load the weights that a training run starts from."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor

from dff_edge.errors import CheckpointError
from dff_edge.trainer.checkpoint import Checkpoint, is_weights_file, load_checkpoint, load_weights
from dff_edge.trainer.config import InitConfig, NetworkName, TrainConfig
from dff_edge.trainer.head import fit_head, told
from dff_edge.trainer.importing.normalisation import Normalisation, renormalise
from dff_edge.trainer.models import CorrectionNetwork, DeepFeatureFlow, FeatureNetwork, ModelConfig
from dff_edge.trainer.models.feature import NECK
from dff_edge.trainer.tensor_files import read_state_dict

_log = logging.getLogger("dff_edge.trainer")


def initialise(model: DeepFeatureFlow, config: TrainConfig) -> None:
    """Load the weights that ``config.init`` names into a model.

    Args:
        model: of ``config.model``; changed in place.
        config: the run.

    Raises:
        CheckpointError: weights that cannot be read or do not fit.
    """
    init = config.init
    if init.model is not None:
        _take_model(model, config.model, init.model)
    if init.feature is not None:
        tensors = _weights_of(init.feature, "feature", config.model)
        _load_features(model.feature, tensors, init.feature, init)
    if init.flow is not None:
        tensors = _weights_of(init.flow, "flow", config.model)
        _spread_heads(model, tensors)
        _leave_other_scale(model, tensors, "init.flow")
        load_weights(model.flow, tensors, str(init.flow), ignore=("scale.",))
    if init.correction is not None and model.correction is not None:
        tensors = _weights_of(init.correction, "correction", config.model)
        if is_weights_file(init.correction):
            _load_features(model.correction.network, tensors, init.correction, init)
        else:
            load_weights(model.correction, tensors, str(init.correction), ignore=("gate.",))
    if init.task is not None:
        load_weights(model.task, _weights_of(init.task, "task", config.model), str(init.task))


def _take_model(model: DeepFeatureFlow, config: ModelConfig, origin: Path) -> None:
    """Load a whole checkpoint; what its head has for other classes or anchors starts anew."""
    checkpoint = load_checkpoint(origin)
    task = checkpoint.config.task
    if task.name != config.task.name:
        raise CheckpointError(
            f"init.model is '{origin}', a model for {task.name}, expected one for "
            f"{config.task.name}, the task of the model. Take its networks alone, as init.feature "
            "and init.flow, or another model."
        )
    load_weights(
        model.feature,
        _network_of(checkpoint, "feature", config),
        f"the feature network of {origin}",
    )
    flow = _network_of(checkpoint, "flow", config)
    _spread_heads(model, flow)
    _leave_other_scale(model, flow, "init.model")
    load_weights(model.flow, flow, f"the flow network of {origin}", ignore=("scale.",))
    _take_correction(model, config, checkpoint, origin)
    head = _network_of(checkpoint, "task", config)
    anew = fit_head(model.task, head, task.classes, config.task.classes)
    load_weights(model.task, head, f"the task network of {origin}")
    _log.info("init.model '%s': %s", origin, told(task.classes, config.task.classes, anew))


def _take_correction(
    model: DeepFeatureFlow, config: ModelConfig, checkpoint: Checkpoint, origin: Path
) -> None:
    """Load a checkpoint's correction network; its scores start at zero for other maps."""
    if model.correction is None or checkpoint.model.correction is None:
        return
    tensors = _network_of(checkpoint, "correction", config)
    own = model.correction.score.weight.detach()
    are_others = tuple(checkpoint.config.task.classes) != tuple(config.task.classes)
    if are_others or tensors["score.weight"].shape != own.shape:
        tensors["score.weight"] = own
    load_weights(model.correction, tensors, f"the correction network of {origin}")


def _load_features(
    network: FeatureNetwork, tensors: dict[str, Tensor], origin: Path, init: InitConfig
) -> None:
    """Load weights into a feature network, of which a published file may lack the neck."""
    is_rgb = init.feature_order == "rgb" and is_weights_file(origin)
    first = f"{network.input_conv}.weight"
    if is_rgb and first in tensors:
        tensors[first] = tensors[first].flip(1)
    own = network.state_dict()
    # A published file has a classifier and no neck, one from before torch 0.4.1 no counters.
    counters = [name for name in {**tensors, **own} if name.endswith("num_batches_tracked")]
    load_weights(network, tensors, str(origin), ignore=(*network.left_out, *NECK, *counters))


def _weights_of(origin: Path, network: NetworkName, config: ModelConfig) -> dict[str, Tensor]:
    """Return the weights of one network: of a file, or of that network in a checkpoint."""
    if is_weights_file(origin):
        return read_state_dict(origin)
    checkpoint = load_checkpoint(origin)
    if getattr(checkpoint.model, network) is None:
        raise CheckpointError(
            f"{origin} has no {network} network, expected a checkpoint with one for init.{network}."
        )
    return _network_of(checkpoint, network, config)


def _network_of(
    checkpoint: Checkpoint, network: NetworkName, config: ModelConfig
) -> dict[str, Tensor]:
    """Return the weights of a checkpoint's network, for frames normalised as in ``config``."""
    tensors = dict(checkpoint.model.get_submodule(network).state_dict())
    made_for, wanted = (Normalisation(c.mean, c.std) for c in (checkpoint.config, config))
    if network != "task" and made_for != wanted:
        _renormalise(checkpoint.model, network, tensors, made_for, wanted)
    return tensors


def _renormalise(
    origin: DeepFeatureFlow,
    network: NetworkName,
    tensors: dict[str, Tensor],
    made_for: Normalisation,
    wanted: Normalisation,
) -> None:
    """Rewrite a checkpoint's network for frames with the model's normalisation.

    The same except for the border of the frame if the means differ.
    """
    first = {
        "feature": origin.feature.input_conv,
        "flow": "conv1.0",
        "correction": f"network.{CorrectionNetwork.input_conv}",
    }[network]
    tensors[f"{first}.weight"], shift = renormalise(tensors[f"{first}.weight"], made_for, wanted)
    if f"{first}.bias" in tensors:
        tensors[f"{first}.bias"] = tensors[f"{first}.bias"] + shift
        return
    # The BatchNorm after it, the first one in the order of the layers, absorbs the shift.
    mean = next(name for name in tensors if name.endswith("running_mean"))
    tensors[mean] = tensors[mean] - shift


def _spread_heads(model: DeepFeatureFlow, tensors: dict[str, Tensor]) -> None:
    """Fit heads for features at stride 16 to finer ones: all cells start from one value."""
    wanted, found = len(model.flow.flow.weight), tensors.get("flow.weight")
    if found is None or wanted <= len(found):
        return
    for name in ("flow.weight", "flow.bias", "scale.weight", "scale.bias"):
        if name in tensors:
            tensors[name] = tensors[name].repeat(
                wanted // len(found), *[1] * (tensors[name].ndim - 1)
            )


def _leave_other_scale(model: DeepFeatureFlow, tensors: dict[str, Tensor], key: str) -> None:
    """Drop a scale head for features of another width or split: flow fits them all, scale not."""
    scale, found = model.flow.scale, tensors.get("scale.weight")
    if scale is None or found is None or len(found) == scale.out_channels:
        return
    _log.warning(
        "%s: the scale head has %d channels, expected %d; scale starts at ones",
        key,
        len(found),
        scale.out_channels,
    )
    for name in ("scale.weight", "scale.bias"):
        tensors.pop(name, None)
