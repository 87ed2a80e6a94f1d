"""The task of a linear network, on whitened inputs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, require_finite, safe_eigh
from geomfeat.precision import precision_of, roundings

# How far x'x / n may be off the identity, of samples in double precision: the loss moves by a share about as large.
WHITE = 1e-6


@dataclass(frozen=True, eq=False)
class LinearTask:
    """A regression task on whitened inputs, E[x x'] = I, with loss E|y - W2 W1 x|^2 / 2.

    Args:
        correlation: (outputs, inputs), E[y x'].
        target_power: E|y|^2; None means that the targets are linear in the inputs, so that the loss can reach 0.
    """

    correlation: Tensor
    target_power: float | None = None

    def __post_init__(self) -> None:
        matrix = require_finite(as_tensor(self.correlation, "correlation", WORKING), "correlation")
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise BadInput(f"correlation must be (outputs, inputs), got {tuple(matrix.shape)}")
        least = float(matrix.square().sum())
        power = least if self.target_power is None else float(self.target_power)
        if not power >= least * (1 - 1e-9):
            raise BadInput(
                f"target_power={power:.4g} is below {least:.4g}, the power that the inputs explain: "
                "give E|y|^2 over the same whitened samples"
            )
        object.__setattr__(self, "correlation", matrix)
        object.__setattr__(self, "target_power", power)

    def loss(self, product: Tensor) -> Tensor:
        """Loss (...) of the network maps `product` (..., outputs, inputs).

        >>> LinearTask(torch.eye(2)).loss(torch.zeros(2, 2)).item()
        1.0
        """
        unexplained = (self.target_power or 0.0) - float(self.correlation.square().sum())
        return 0.5 * (product - self.correlation).square().sum((-2, -1)) + 0.5 * max(unexplained, 0.0)

    def reversed(self) -> "LinearTask":
        """The same inputs with every target's sign turned: reversal learning."""
        return LinearTask(-self.correlation, self.target_power)


def linear_task(x: Tensor, y: Tensor) -> LinearTask:
    """The task of samples `x` (n, inputs), whitened, and targets `y` (n, outputs).

    BadInput where x'x/n is not the identity; `whitened` makes it so.

    >>> task = linear_task(2**0.5 * torch.eye(2), torch.tensor([[1.0], [0.0]]))
    >>> task.correlation.shape
    torch.Size([1, 2])
    """
    known = precision_of(x)
    x, y = (require_finite(as_tensor(v, name, WORKING), name) for v, name in ((x, "x"), (y, "y")))
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or not len(x):
        raise BadInput(f"x and y must be (n, inputs) and (n, outputs), got {tuple(x.shape)} and {tuple(y.shape)}")
    n, d = x.shape
    off = float((x.mT @ x / n - torch.eye(d, dtype=WORKING, device=x.device)).abs().max())
    if off > max(WHITE, roundings(known)[1] * d**0.5):
        raise BadInput(
            f"x is not whitened: x'x/n is off the identity by {off:.2g}, and the exact solution holds for whitened "
            "inputs only: pass whitened(x)"
        )
    return LinearTask(y.mT @ x / n, float(y.square().sum() / n))


def whitened(x: Tensor) -> Tensor:
    """`x` (n, inputs) times the symmetric inverse root of x'x/n, so that x'x/n = I; in float64.

    The mean is not removed: subtract it first where it should not be learned. BadInput when x'x/n is singular.

    >>> x = whitened(torch.tensor([[2.0, 0.0], [0.0, 1.0], [2.0, 1.0]]))
    >>> bool(torch.allclose(x.mT @ x / 3, torch.eye(2, dtype=x.dtype)))
    True
    """
    known = precision_of(x)
    x = require_finite(as_tensor(x, "x", WORKING), "x")
    if x.ndim != 2 or not len(x):
        raise BadInput(f"x must be (n, inputs), got {tuple(x.shape)}")
    values, vectors = safe_eigh(x.mT @ x / len(x))
    # Rounding of the entries by a share of their size gives singular values of about that, and those of Gram matrices
    # are squares.
    of_rounding = (roundings(known)[1] * (1 + (x.shape[1] / len(x)) ** 0.5)) ** 2
    rank = int((values > values[-1] * max(of_rounding, x.shape[1] * torch.finfo(WORKING).eps)).sum())
    if rank < x.shape[1]:
        raise BadInput(
            f"x spans {rank} of its {x.shape[1]} directions, so it cannot be whitened: "
            "pass its coordinates in that span, x @ span_basis(x).T"
        )
    return x @ (vectors * values.rsqrt()) @ vectors.mT
