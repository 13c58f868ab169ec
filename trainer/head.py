"""The task network of a model that is trained further for other classes or anchors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dff_edge.trainer.models.task_head import TaskHead

_MOST_NAMES = 12  # in a line of the log


def fit_head(
    head: TaskHead, tensors: dict[str, Tensor], before: Sequence[str], classes: Sequence[str]
) -> list[str]:
    """Fit the weights of a task network to another one of the same features.

    Classes keep their weights by name, whatever their numbers are, and so does a background; others
    start as in ``head``. A layer of another number of anchors or bins starts as in ``head``.

    Args:
        head: the network that they are for, with its weights at the start.
        tensors: of the other network; changed in place.
        before: its classes.
        classes: those of ``head``.

    Returns:
        The names of the layers that start anew as a whole.
    """
    fresh = head.state_dict()
    for layer, ahead in head.class_layers.items():
        for name in (f"{layer}.weight", f"{layer}.bias"):
            groups = len(fresh[name]) // (ahead + len(classes))
            is_same = tensors[name].shape[1:] == fresh[name].shape[1:]
            if not is_same or len(tensors[name]) != groups * (ahead + len(before)):
                continue  # of other features, or of another number of bins
            # (groups, classes, ...), the order of ``RfcnMaps.class_maps``.
            found = tensors[name].unflatten(0, (groups, ahead + len(before)))
            fitted = fresh[name].clone().unflatten(0, (groups, ahead + len(classes)))
            fitted[:, :ahead] = found[:, :ahead]
            for number, one in enumerate(classes):
                if one in before:
                    fitted[:, ahead + number] = found[:, ahead + list(before).index(one)]
            tensors[name] = fitted.flatten(0, 1)
    other = [name for name in fresh if name in tensors and tensors[name].shape != fresh[name].shape]
    anew = sorted(
        {name.partition(".")[0] for name in other if _has_features_of(name, fresh, tensors)}
    )
    for layer in anew:
        for name in (f"{layer}.weight", f"{layer}.bias"):
            tensors[name] = fresh[name]
    return anew


def _has_features_of(name: str, fresh: dict[str, Tensor], tensors: dict[str, Tensor]) -> bool:
    """Return whether a layer of another shape reads the same features: else it is an error."""
    weight = f"{name.partition('.')[0]}.weight"
    return fresh[weight].shape[1:] == tensors[weight].shape[1:]


def told(before: Sequence[str], classes: Sequence[str], anew: Sequence[str]) -> str:
    """Return what is kept of a model, and what is new."""
    kept = [name for name in classes if name in before]
    new = [name for name in classes if name not in before]
    left = [name for name in before if name not in classes]
    text = "its feature and flow network are kept"
    if not new and not left and not anew:
        return f"{text}, and its head"
    text += f"; of its head {_listed(kept)}, new {_listed(new)}"
    if left:
        text += f", left out {_listed(left)}"
    if anew:
        text += f"; {', '.join(anew)} start anew, for their anchors or bins are others"
    return text


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "no class"
    some = ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
    return f"{len(names)} {'class' if len(names) == 1 else 'classes'} ({some})"
