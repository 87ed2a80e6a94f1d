"""Two classes for a network with one output, as two values to fit; and classes that are not numbered from 0.

A sample of two values is right where the output is on its side of the threshold half way between them: of -1 and +1,
where it has the same sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from geomfeat.numerics import WORKING

Levels = tuple[float, float]
Loss = str | Callable[[Tensor, Tensor], Tensor]
SIGNS: Levels = (-1.0, 1.0)
# Share of the spread of two values (or of the entropy of two classes) that outputs explain if they were trained on it.
WELL = 0.5


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


def share_right(
    outputs: Tensor, targets: Tensor, levels: Levels | None = None, threshold: float | None = None
) -> float:
    """Share of samples whose largest output is their class, or, of two values, whose output is on their side.

    Args:
        levels: the two values, where they are known from other samples. threshold: between the outputs of the two;
            default half way between the values.

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
        divided = middle if threshold is None else threshold
        right = (outputs[:, 0] - divided).sign() == (targets.reshape(-1).to(WORKING) - middle).sign()
    return float(right.double().mean())


def threshold_of(outputs: Tensor, targets: Tensor, levels: Levels, loss: Loss | None = None) -> float | None:
    """What divides one output (n, 1) between two values: 0 where it is a logit, half way where it fits the values.

    Args:
        loss: "mse", "cross-entropy" or a function (f, targets), if it is known: where it is equal for both values, they
            are divided. None: by what the outputs show; None is returned where they show neither and it matters.

    >>> y = torch.tensor([0, 1])
    >>> threshold_of(torch.tensor([[-3.0], [2.0]]), y, (0, 1)), threshold_of(torch.tensor([[0.1], [0.9]]), y, (0, 1))
    (0.0, 0.5)
    """
    middle = sum(levels) / 2
    if middle == 0 or loss == "mse":
        return middle
    if loss == "cross-entropy":
        return 0.0
    if callable(loss):
        return min((middle, 0.0), key=lambda at: _imbalance(loss, at, levels, outputs))
    f, upper = outputs[:, 0].to(WORKING), targets.reshape(-1).to(outputs.device) == levels[1]
    values = torch.where(upper, levels[1], levels[0]).to(f)
    explained = 1 - float((f - values).square().mean() / (values - values.mean()).square().mean())
    share = upper.to(f).mean()
    at_random = functional.binary_cross_entropy(share.expand(len(f)), upper.to(f))
    informed = 1 - float(functional.binary_cross_entropy_with_logits(f, upper.to(f)) / at_random)
    if explained > WELL and explained > informed:
        return middle
    if informed > 0 >= explained or informed > WELL > explained:
        return 0.0
    same = bool(((f > 0) == (f > middle)).all())
    return 0.0 if same else None


def _imbalance(loss: Callable[[Tensor, Tensor], Tensor], at: float, levels: Levels, outputs: Tensor) -> float:
    """|loss of one value - loss of the other| for an output; infinite where it is not defined."""
    f = torch.full((1, 1), at, dtype=outputs.dtype)
    low, high = (float(loss(f, torch.full_like(f, value))) for value in levels)
    return abs(high - low) if math.isfinite(high - low) else math.inf


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


def as_classes(targets: Tensor, n_outputs: int) -> Tensor:
    """The targets of all samples as a network with `n_outputs` learns them: classes from 0 on, or values.

    A column (n, 1) of whole numbers is classes (n,) for several outputs, and as many classes as outputs are numbered
    in sorted order.

    >>> as_classes(torch.tensor([[20], [10]]), 2).tolist(), as_classes(torch.tensor([[3], [7]]), 1).tolist()
    ([1, 0], [[3], [7]])
    """
    targets = as_row(targets, n_outputs)
    return numbered(targets, unnumbered(targets, n_outputs))


def as_row(targets: Tensor, n_outputs: int) -> Tensor:
    """A column (n, 1) of whole numbers as classes (n,), for several outputs; other targets as they are."""
    column = targets.ndim == 2 and targets.shape[1] == 1 and not targets.is_floating_point()
    return targets[:, 0] if column and n_outputs > 1 else targets
