"""The losses of training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dff_edge.trainer.data.pairs import IGNORED

_LEAST_VARIANCE = 1e-6  # of a channel that is the same everywhere
_SMOOTH = 1e-6  # squared cells; the root of 0 has no gradient


def segmentation_loss(
    scores: Tensor, labels: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Compute the softmax loss per pixel, the mean over the pixels that count.

    Scores are interpolated as in decoding (half-pixel centres), so that training uses the
    results that users get.

    Args:
        scores: ``(N, K, h, w)``.
        labels: integer ``(N, H, W)``, 0..K-1, or 255 for pixels that do not count.
        class_weights: ``(K,)``, or None for equal weights.

    Returns:
        A scalar; 0 where no pixel counts.
    """
    full = functional.interpolate(
        scores, size=labels.shape[-2:], mode="bilinear", align_corners=False
    )
    counts = labels != IGNORED
    if class_weights is not None:
        counts &= class_weights[torch.where(counts, labels, 0).long()] > 0
    if not counts.any():  # the mean over nothing would be NaN
        return full.sum() * 0
    return functional.cross_entropy(full, labels.long(), class_weights, ignore_index=IGNORED)


def score_divergence(scores: Tensor, target: Tensor) -> Tensor:
    """Compute the Kullback-Leibler divergence of two score maps' softmax, the mean over cells.

    Args:
        scores: ``(N, K, h, w)``, trained.
        target: the same, what they should become.
    """
    wanted = functional.log_softmax(target.float(), dim=1)
    found = functional.log_softmax(scores.float(), dim=1)
    return (wanted.exp() * (wanted - found)).sum(dim=1).mean()


def unexplained_variance(maps: Tensor, target: Tensor) -> Tensor:
    """Compute the squared error of maps over the variance of what they should be.

    Each channel counts alike, whatever its unit. Where most cells are background, as of sky,
    variance and loss are mostly of the cells of objects.

    Args:
        maps: ``(N, C, h, w)``, trained.
        target: the same, what they should become.

    Returns:
        A scalar, the mean over the channels: 0 where the maps are right, 1 for the target's means.
    """
    wanted, found = target.float(), maps.float()
    variance, _ = torch.var_mean(wanted, dim=(0, 2, 3), correction=0)
    error = (found - wanted).square().mean(dim=(0, 2, 3))
    return (error / (variance + _LEAST_VARIANCE)).mean()


def flow_loss(predictions: list[Tensor], truth: Tensor) -> Tensor:
    """Compute the multi-scale end-point error, the mean over scales of |M - M_true|.

    All scales count alike, and in each all of its known cells. (FlowNet's weights, per cell,
    are 1 at the three coarsest scales, 2 and 4 at the finer ones.)

    Args:
        predictions: flows ``(N, 2, h_n, w_n)`` in feature cells, coarse to fine.
        truth: ``(N, 2, h, w)`` in feature cells; cells with NaN do not count.

    Returns:
        A scalar, in feature cells; 0 where no cell counts.
    """
    losses = []
    for prediction in predictions:
        squared, is_known = _squared_error(prediction, truth)
        errors = (squared + _SMOOTH).sqrt() * is_known
        losses.append(errors.sum() / is_known.sum().clamp(min=1))
    return torch.stack(losses).mean()


def end_point_error(flow: Tensor, truth: Tensor) -> Tensor:
    """Compute the mean |M - M_true| in feature cells of ``flow`` ``(N, 2, h, w)`` at its size.

    Args:
        flow: in feature cells.
        truth: ``(N, 2, h', w')`` in feature cells; cells with NaN do not count.

    Returns:
        A scalar; 0 where no cell counts.
    """
    errors = end_point_errors(flow, truth)
    return errors.sum() / max(errors.numel(), 1)


def end_point_errors(flow: Tensor, truth: Tensor) -> Tensor:
    """Compute |M - M_true| of each known cell, ``(n,)`` in feature cells.

    Arguments are those of ``end_point_error``.
    """
    squared, is_known = _squared_error(flow, truth)
    return squared[is_known].sqrt()


def _squared_error(flow: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared error ``(N, h, w)`` at the size of the flow, and where it is known.

    Unknown cells are removed before the arithmetic: NaN times zero would still make every
    gradient NaN.
    """
    height, width = flow.shape[-2:]
    target = functional.adaptive_avg_pool2d(truth, (height, width))
    is_known = torch.isfinite(target).all(dim=1)
    error = torch.where(is_known[:, None], flow - target, 0.0)
    return error.square().sum(dim=1), is_known
