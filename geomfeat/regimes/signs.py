"""Two classes written as -1 and +1 for a network with one output: values to fit, right where the signs agree."""

from torch import Tensor

from geomfeat.numerics import WORKING


def are_signs(targets: Tensor, n_outputs: int) -> bool:
    """Whether targets (n,) or (n, 1) are all -1 or +1, for a network with one output.

    >>> import torch
    >>> [are_signs(torch.tensor(y), outputs) for y, outputs in (([1, -1], 1), ([1, -1], 2), ([1, 0], 1))]
    [True, False, False]
    """
    return n_outputs == 1 and targets.numel() == targets.shape[0] and bool(((targets == 1) | (targets == -1)).all())


def as_values(targets: Tensor, n_outputs: int) -> Tensor:
    """The targets, or where they are -1 and +1 for one output, the values (n, 1) in floating point.

    >>> import torch
    >>> as_values(torch.tensor([1, -1]), 1).tolist(), as_values(torch.tensor([1, 0]), 2).tolist()
    ([[1.0], [-1.0]], [1, 0])
    """
    if not are_signs(targets, n_outputs):
        return targets
    return targets.reshape(-1, 1).to(targets.dtype if targets.is_floating_point() else WORKING)


def share_right(outputs: Tensor, targets: Tensor) -> float:
    """Share of samples whose largest output is their class, or, for -1 and +1, whose output has their sign.

    >>> import torch
    >>> share_right(torch.tensor([[0.3], [-2.0], [0.1]]), torch.tensor([1, -1, -1]))
    0.6666666666666666
    """
    targets = targets.to(outputs.device)
    if are_signs(targets, outputs.shape[1]):
        right = outputs[:, 0].sign() == targets.reshape(-1)
    else:
        right = outputs.argmax(1) == targets
    return float(right.double().mean())
