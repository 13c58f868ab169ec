"""FlowNet "Simple" told once more, and the files in which others keep its weights.

``layers`` are by their own plain names, each a weight and a bias or None; with BatchNorm also the
four numbers of it.
"""

import torch
from torch.nn import functional as F

from tests.trainer.importing.mxnet_files import params_bytes

WIDTH = 0.125
ENCODER = ("conv1", "conv2", "conv3", "conv3_1", "conv4", "conv4_1", "conv5", "conv5_1", "conv6",
           "conv6_1")  # fmt: skip
SHAPES = {  # kernels in and out at width 1/8, size, of the convolutions
    "conv1": (6, 8, 7), "conv2": (8, 16, 5), "conv3": (16, 32, 5), "conv3_1": (32, 32, 3),
    "conv4": (32, 64, 3), "conv4_1": (64, 64, 3), "conv5": (64, 64, 3), "conv5_1": (64, 64, 3),
    "conv6": (64, 128, 3), "conv6_1": (128, 128, 3),
    "predict6": (128, 2, 3), "predict5": (130, 2, 3), "predict4": (98, 2, 3),
    "predict3": (50, 2, 3), "predict2": (26, 2, 3),
}  # fmt: skip
TRANSPOSED = {
    "deconv5": (128, 64), "deconv4": (130, 32), "deconv3": (98, 16), "deconv2": (50, 8),
    "up5": (2, 2), "up4": (2, 2), "up3": (2, 2), "up2": (2, 2),
}  # fmt: skip


def random_layers(has_decoder_bias):
    layers = {}
    for name, (inputs, outputs, size) in SHAPES.items():
        weight = torch.randn(outputs, inputs, size, size) * (1.5 / (inputs * size * size)) ** 0.5
        has_bias = name in ENCODER or has_decoder_bias
        layers[name] = (weight, 0.1 * torch.randn(outputs) if has_bias else None)
    for name, (inputs, outputs) in TRANSPOSED.items():
        weight = torch.randn(inputs, outputs, 4, 4) * (1.5 / (4 * inputs)) ** 0.5
        layers[name] = (weight, 0.1 * torch.randn(outputs) if has_decoder_bias else None)
    return layers


def random_batch_norm(layers):
    """A BatchNorm behind each convolution of the encoder, which then has no bias."""
    normed = dict(layers)
    for name in ENCODER:
        weight, kernels = layers[name][0], SHAPES[name][1]
        numbers = (torch.rand(kernels) + 0.5, 0.1 * torch.randn(kernels),
                   0.1 * torch.randn(kernels), torch.rand(kernels) + 0.5)  # fmt: skip
        normed[name] = (weight, None, numbers)
    return normed


def their_maps(layers, pair, outside):
    """The last concatenation of the original, at a quarter of the frames' size.

    pair: both frames as the network sees them; outside: what its first layer sees beyond them.
    """

    def conv(name, maps, stride):
        weight, bias, *normed = layers[name]
        pad = weight.shape[-1] // 2
        if name == "conv1":
            padded = outside.view(1, -1, 1, 1).repeat(
                len(maps), 1, maps.shape[2] + 2 * pad, maps.shape[3] + 2 * pad
            )
            padded[:, :, pad:-pad, pad:-pad] = maps
            maps, pad = padded, 0
        maps = F.conv2d(maps, weight, bias, stride, pad)
        if normed:
            gamma, beta, mean, variance = normed[0]
            maps = F.batch_norm(maps, mean, variance, gamma, beta)
        return F.leaky_relu(maps, 0.1)

    def up(name, maps, like):
        weight, bias = layers[name]
        maps = F.conv_transpose2d(maps, weight, bias, stride=2)
        return maps[..., 1 : 1 + like.shape[2], 1 : 1 + like.shape[3]]

    skips, maps = {}, pair
    for level in range(1, 7):
        maps = conv(f"conv{level}", maps, 2)
        if level > 2:
            maps = conv(f"conv{level}_1", maps, 1)
        skips[level] = maps
    for level in (5, 4, 3, 2):
        weight, bias = layers[f"predict{level + 1}"]
        flow = F.conv2d(maps, weight, bias, padding=1)
        features = F.leaky_relu(up(f"deconv{level}", maps, skips[level]), 0.1)
        maps = torch.cat((skips[level], features, up(f"up{level}", flow, skips[level])), dim=1)
    return maps


def named(layers, layer_name, separator="."):
    """Tensors by the names that a file has for them."""
    tensors = {}
    for name, (weight, bias, *_) in layers.items():
        own = layer_name(name)
        tensors[f"{own}{separator}weight"] = weight
        if bias is not None:
            tensors[f"{own}{separator}bias"] = bias
    return tensors


def flownet_pytorch_tensors(layers):
    def own(name):
        if name.startswith("up"):
            return f"upsampled_flow{int(name[2]) + 1}_to_{name[2]}"
        return f"predict_flow{name[7:]}" if name.startswith("predict") else f"{name}.0"

    tensors = named(layers, own)
    for name, (_, _, *normed) in layers.items():
        if normed:
            parts = ("weight", "bias", "running_mean", "running_var")
            tensors |= {f"{name}.1.{p}": v for p, v in zip(parts, normed[0], strict=True)}
            tensors[f"{name}.1.num_batches_tracked"] = torch.tensor(7)
    return tensors


def flownet_pytorch_file(layers, path):
    facts = {"epoch": 300, "arch": "flownets", "best_EPE": 1.951, "div_flow": 20}
    torch.save({**facts, "state_dict": flownet_pytorch_tensors(layers)}, path)


def mmtracking_tensors(layers, prefix):
    def own(name):
        if name == "predict2":
            return "predict_flow.conv"
        for theirs, ours in (("predict", "predict_flow"), ("up", "upsample_flow")):
            if name.startswith(theirs):
                return f"{ours}{name.removeprefix(theirs)}.conv"
        if name.startswith("deconv"):
            return f"{name}.conv"
        return f"{name[:5]}.{1 if name.endswith('_1') else 0}.conv"

    return {f"{prefix}{name}": value for name, value in named(layers, own).items()}


def mxnet_arrays(layers, scale):
    order = {"predict6": 1, "predict5": 2, "predict4": 3, "predict3": 4, "predict2": 5}

    def own(name):
        if name.startswith("predict"):
            return f"arg:Convolution{order[name]}"
        if name.startswith("up"):
            return f"arg:upsample_flow{int(name[2]) + 1}to{name[2]}"
        return "arg:flow_conv1" if name == "conv1" else f"arg:{name}"

    tensors = named({**layers, "Convolution5_scale": scale}, own, "_")
    return {name: value.numpy() for name, value in tensors.items()}


def write_mxnet(arrays, path, version=1):
    path.write_bytes(params_bytes(arrays, version))
