"""The correction network: what the key frame cannot tell, read from the current frame.

Warped features know nothing of what came into view after the key frame. A second, small feature
network reads the current frame at a quarter of its size; its scores are added to the task network's
maps of propagated features. On key frames nothing is added.

Source: Jain, Wang and Gonzalez, "Accel: A Corrective Fusion Network for Efficient Semantic
    Segmentation on Video", CVPR 2019, https://arxiv.org/abs/1807.06667, its update branch and score
    fusion.
Differs from it: the branch is smaller and reads a smaller frame; the sum of the two has no
    weights of its own, as both summands have theirs.

Shapes: N batch, M channels of the task network's maps, H x W image, h x w feature map.
"""

from __future__ import annotations

from torch import Tensor, nn

from dff_edge.trainer.models.efficientnet import EfficientNetLite, EfficientNetName
from dff_edge.trainer.models.flow_network import HEAD_STRIDE, spread
from dff_edge.trainer.models.normalize import average_pool_2x2

_STAGES = 5  # of seven: the other two read 3x4 cells of a quarter of 352x480 pixels
_QUARTER_STRIDE = HEAD_STRIDE // 4  # of the network within the quarter-size frame


class CorrectionNetwork(nn.Module):
    """Half-size current frame to what is added to the task network's maps.

    The network is an EfficientNet-Lite without its last two stages, with a pyramid on top. Its
    first convolution is that of a network on quarter-size frames, whose features are at a stride of
    four there, 16 in the frame; the scores of S x S pixels are channels, moved to their places.
    They are multiplied by a gate, one number for each feature cell, which the flow network's last
    maps give, as they give the scale field: a frame close to the key frame has little to correct.
    It starts at ones.

    Args:
        name: the EfficientNet-Lite.
        width: multiplies the kernels of every layer below the neck.
        channels: of the network's features.
        maps: M.
        stride: S, of the model's features.
        gate_kernels: channels of the flow network's last maps.
    """

    input_conv = EfficientNetLite.input_conv

    def __init__(
        self,
        name: EfficientNetName,
        *,
        width: float,
        channels: int,
        maps: int,
        stride: int,
        gate_kernels: int,
    ) -> None:
        super().__init__()
        self.network = EfficientNetLite(
            name,
            width=width,
            channels=channels,
            stride=_QUARTER_STRIDE,
            neck="pyramid",
            stages=_STAGES,
        )
        self.ratio = HEAD_STRIDE // stride
        self.score = nn.Conv2d(channels, maps * self.ratio**2, 1, bias=False)
        nn.init.zeros_(self.score.weight)
        self.gate = nn.Conv2d(gate_kernels, self.ratio**2, 1)
        nn.init.zeros_(self.gate.weight)
        assert self.gate.bias is not None
        nn.init.ones_(self.gate.bias)

    def forward(self, half: Tensor, flow_maps: Tensor | None = None) -> Tensor:
        """Compute the correction of normalised frames.

        Args:
            half: float ``(N, 3, H / 2, W / 2)``, BGR, the current frame.
            flow_maps: ``(N, gate_kernels, H / 16, W / 16)``, what the flow network's heads read;
                None for a gate of one.

        Returns:
            ``(N, M, h, w)``.
        """
        scores = spread(self.score(self.network(average_pool_2x2(half))), self.ratio)
        return scores if flow_maps is None else spread(self.gate(flow_maps), self.ratio) * scores
