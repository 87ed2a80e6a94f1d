"""Two classes for a network with one output, as two values to fit; and classes that are not numbered from 0.

A sample of two values is right where the output is on its side of the threshold half way between them: of -1 and +1,
where it has the same sign.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geomfeat.numerics import WORKING

Levels = tuple[float, float]
SIGNS: Levels = (-1.0, 1.0)


def two_levels(targets: Tensor, n_outputs: int) -> Levels | None:
    """The two values, in order, of targets (n,) or (n, 1) for a network with one output, or None.

    >>> [two_levels(torch.tensor(y), outputs) for y, outputs in (([1, -1], 1), ([0, 2], 1), ([0, 1], 2))]
    [(-1.0, 1.0), (0.0, 2.0), None]
    """
    if n_outputs != 1 or targets.numel() != targets.shape[0]:
        return None
    values = targets.unique().tolist()
    if values and set(values) <= {-1, 1}:
        return SIGNS
    return (float(values[0]), float(values[1])) if len(values) == 2 else None


def are_signs(targets: Tensor, n_outputs: int) -> bool:
    """Whether targets (n,) or (n, 1) are all -1 or +1, for a network with one output.

    >>> [are_signs(torch.tensor(y), outputs) for y, outputs in (([1, -1], 1), ([1, -1], 2), ([1, 0], 1))]
    [True, False, False]
    """
    return two_levels(targets, n_outputs) == SIGNS


def as_values(targets: Tensor, n_outputs: int, levels: Levels | None = None) -> Tensor:
    """The targets, or where they are two values for one output, these (n, 1) in floating point.

    Args:
        levels: the two values, where they are known from other samples.

    >>> as_values(torch.tensor([1, -1]), 1).tolist(), as_values(torch.tensor([1, 0]), 2).tolist()
    ([[1.0], [-1.0]], [1, 0])
    """
    if (levels or two_levels(targets, n_outputs)) is None:
        return targets
    return targets.reshape(-1, 1).to(targets.dtype if targets.is_floating_point() else WORKING)


def share_right(outputs: Tensor, targets: Tensor, levels: Levels | None = None) -> float:
    """Share of samples whose largest output is their class, or, of two values, whose output is on their side.

    Args:
        levels: the two values, where they are known from other samples.

    >>> share_right(torch.tensor([[0.3], [-2.0], [0.1]]), torch.tensor([1, -1, -1]))
    0.6666666666666666
    >>> share_right(torch.tensor([[0.3], [-2.0], [0.7]]), torch.tensor([1, 0, 1]))
    0.6666666666666666
    """
    targets = targets.to(outputs.device)
    levels = levels or two_levels(targets, outputs.shape[1])
    if levels is None:
        right = outputs.argmax(1) == targets
    else:
        middle = sum(levels) / 2
        right = (outputs[:, 0] - middle).sign() == (targets.reshape(-1).to(WORKING) - middle).sign()
    return float(right.double().mean())


def unnumbered(targets: Tensor, n_outputs: int) -> Tensor | None:
    """The classes in sorted order, where integers (n,) are as many classes as outputs but not 0..C-1; else None.

    >>> unnumbered(torch.tensor([20, 10, 20]), 2), unnumbered(torch.tensor([0, 1]), 2)
    (tensor([10, 20]), None)
    """
    if targets.ndim != 1 or targets.is_floating_point() or n_outputs < 2:
        return None
    classes = targets.unique()
    outside = len(classes) == n_outputs and (int(classes[0]) != 0 or int(classes[-1]) != n_outputs - 1)
    return classes if outside else None


def numbered(targets: Tensor, classes: Tensor | None) -> Tensor:
    """Integer targets (n,) numbered by the sorted `classes`; as they are where there are none, or for other targets.

    A target that is none of the classes becomes -1, which is no class.

    >>> numbered(torch.tensor([20, 10, 30]), torch.tensor([10, 20])).tolist()
    [1, 0, -1]
    """
    if classes is None or targets.ndim != 1 or targets.is_floating_point():
        return targets
    matches = targets[:, None] == classes.to(targets.device)
    return torch.where(matches.any(1), matches.long().argmax(1), -1)
