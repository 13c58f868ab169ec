"""Detection of the kind of a weights file by its content, and import of its networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dff_edge.errors import CheckpointError
from dff_edge.files.regular import open_regular
from dff_edge.trainer.importing.dff_params import import_dff_params, is_dff_params
from dff_edge.trainer.importing.efficientnet import (
    efficientnet_name,
    import_efficientnet,
    is_efficientnet_lite,
)
from dff_edge.trainer.importing.flownet import (
    import_flownet_pytorch,
    import_mmtracking_flow,
    is_flownet_pytorch,
    mmtracking_flow_prefix,
)
from dff_edge.trainer.importing.mobilenet import import_mobilenet, is_mobilenet_v2
from dff_edge.trainer.importing.mxnet_params import MAGIC, read_mxnet_params
from dff_edge.trainer.importing.network import Imported, Network, Tensors
from dff_edge.trainer.importing.resnet import import_resnet, resnet_prefix
from dff_edge.trainer.tensor_files import MAX_WEIGHT_BYTES, read_state_dict

KNOWN = (
    "torchvision's ResNet-18, 50 and 101 and MobileNetV2; EfficientNet-Lite0, 1 and 2 of "
    "efficientnet_lite_pytorch; FlowNetPytorch's flownets and flownets_bn; mmtracking's "
    "flow network and ResNet backbone; MXNet .params of the official Deep Feature Flow"
)
_COARSE = (
    "dff-edge estimates flow at stride 16, by the last layer's weights on maps averaged to it, as "
    "the paper's reference code does: not at a quarter of the frames' size, nor enlarged to it."
)
_MMTRACKING_WARP = (
    "mmtracking repeats the border where its warp reads outside, and samples at (W - 1) / W of the "
    "position; dff-edge reads zero outside, at the position."
)


def read_networks(path: Path, *, is_caffe: bool) -> Imported:
    """Read the networks of a file.

    Args:
        path: of one of ``KNOWN``, or the same tensors as safetensors. Nothing in it is executed.
        is_caffe: its weights come from Caffe: see ``import_resnet`` and ``import_flownet_pytorch``.

    Raises:
        CheckpointError: it cannot be read, or is of another kind.
    """
    with open_regular(path, max_bytes=MAX_WEIGHT_BYTES, error=CheckpointError) as file:
        start = file.read(len(MAGIC))
        content = start + file.read() if start == MAGIC else None
    if content is not None:
        tensors = read_mxnet_params(content, str(path))
        if is_dff_params(tensors):
            return import_dff_params(tensors)
    else:
        tensors = _without_module(read_state_dict(path))
        if (imported := _from_torch(tensors, is_caffe)) is not None:
            return imported
    shown = ", ".join(sorted(tensors)[:5]) or "nothing"
    raise CheckpointError(
        f"{path} is of no known kind: it has {len(tensors)} tensors ({shown}), expected {KNOWN}."
    )


def _classifier(
    origin: str, tensors: Tensors, feature: Network, own_name: Callable[[str], str]
) -> Imported:
    """Return a file with one classification network, without its end."""
    left_out = sorted(
        name
        for name in tensors
        if own_name(name) not in feature.tensors and not name.endswith("num_batches_tracked")
    )
    return Imported(origin, {"feature": feature}, tuple(left_out), ())


def _without_module(tensors: Tensors) -> Tensors:
    """Remove the prefix that torch's DataParallel puts before every name."""
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _from_torch(tensors: Tensors, is_caffe: bool) -> Imported | None:
    if is_flownet_pytorch(tensors):
        flow = import_flownet_pytorch(tensors, is_caffe=is_caffe)
        return Imported("FlowNetPytorch's FlowNet Simple", {"flow": flow}, (), (_COARSE,))
    if is_efficientnet_lite(tensors):
        network = import_efficientnet(tensors)
        return _classifier("EfficientNet-Lite", tensors, network, efficientnet_name)
    if is_mobilenet_v2(tensors):
        return _classifier("torchvision's MobileNetV2", tensors, import_mobilenet(tensors), str)
    resnet, motion = resnet_prefix(tensors), mmtracking_flow_prefix(tensors)
    networks: dict[str, Network] = {}
    notes: list[str] = []
    left_out = set(tensors)
    if resnet is not None:
        networks["feature"] = import_resnet(tensors, resnet, is_caffe=is_caffe)
        left_out -= {f"{resnet}{name}" for name in networks["feature"].tensors}
    if motion is not None:
        networks["flow"] = import_mmtracking_flow(tensors, motion, is_caffe=is_caffe)
        left_out -= {name for name in tensors if name.startswith(motion)}
        notes += [_COARSE, _MMTRACKING_WARP]
    if not networks:
        return None
    left_out = {name for name in left_out if not name.endswith("num_batches_tracked")}
    is_torchvision = resnet == "" and motion is None
    origin = "torchvision's ResNet" if is_torchvision else "mmtracking's networks"
    return Imported(origin, networks, tuple(sorted(left_out)), tuple(notes))
