"""The BatchNorm policy of the paper's recipe: statistics and affine stay fixed.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715; the reference code sets
    ``use_global_stats`` everywhere and holds gamma and beta fixed.
Differs from the paper: nothing. From-scratch training does not use this.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class _FrozenBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that stays in evaluation mode when its owner starts training."""

    def train(self, mode: bool = True) -> _FrozenBatchNorm2d:
        super().train(False)
        return self


def freeze_batch_norm(module: nn.Module) -> int:
    """Freeze every BatchNorm below ``module`` permanently.

    Running statistics are used and no longer updated, also after
    ``module.train()``; weight and bias get no gradient. Names in the state dict
    do not change.

    Args:
        module: changed in place.

    Returns:
        The number of frozen layers.
    """
    frozen = 0
    for layer in module.modules():
        # Not BatchNorm2d alone: after a stage on several GPUs lightning leaves another kind.
        if isinstance(layer, _BatchNorm):
            # The class is changed rather than the layer replaced, so that optimisers
            # and parents that hold the layer go on holding the same one.
            layer.__class__ = _FrozenBatchNorm2d
            layer.requires_grad_(False)
            layer.eval()
            frozen += 1
    return frozen
