"""Distances between the shapes of two representations: what remains after the best rotation of one onto the other.

Williams, Kunz, Kornblith & Linderman 2021, section 2. Columns are centred; the smaller representation is padded with
zeros. Whitened in part first, with singular values s of the centred features,
    s -> c (alpha s + 1 - alpha),    c such that the total variance stays,
so that alpha = 1 compares under rotations and alpha = 0 under all invertible linear maps. For alpha between, the unit
of the features matters: s of a large layer is far above 1, which leaves little of the whitening.

The distance is the norm of the residual itself: |A|^2 + |B|^2 - 2 |A'B|_* would lose the digits of small ones.
"""

from math import asin

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.eigenspectrum import NoVariance, reduced, spread_of
from geomfeat.geometry.similarity._validation import with_error
from geomfeat.precision import Spread
from geomfeat.types import Estimate, Points, Representation


def shape_distance(a: Points, b: Points, *, alpha: float = 1.0) -> Estimate:
    """min over rotations Q of |A Q - B| (Frobenius) of the centred features, in their own unit, at least 0: a metric.

    With alpha = 1 the size-and-shape distance of Procrustes analysis. Grows with the number of samples, as their root.
    With its error. Raises BadInput for other numbers of samples, alpha outside 0..1, and alpha = 0 where it is
    meaningless.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> round(shape_distance(x, 2 * x.flip(1)), 6)  # |x| = 2
    2.0
    """
    _check(alpha)
    return with_error(lambda a, b: Estimate(_distance(a, b, alpha)), a, b)


def shape_angle(a: Points, b: Points, *, alpha: float = 1.0) -> Estimate:
    """Angle arccos |A'B|_* (nuclear norm) of the centred features, each of norm 1, in 0..pi/2 radians: a metric.

    (Williams et al. 2021, eq. 6.) With its error. Raises BadInput as `shape_distance` does, and NoVariance for a
    constant layer.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> round(shape_angle(x, 2 * x.flip(1)), 6)
    0.0
    """
    _check(alpha)
    return with_error(lambda a, b: Estimate(2 * asin(min(1.0, 0.5 * _unit_distance(a, b, alpha)))), a, b)


def procrustes_distance(a: Points, b: Points) -> Estimate:
    """Orthogonal Procrustes distance sqrt(2 - 2 |A'B|_*) of the centred features, each of norm 1: a metric.

    In 0..sqrt(2) (Ding, Denain & Steinhardt 2021, section 3, who give its square). The chord of `shape_angle`;
    `shape_distance` keeps the sizes. With its error. Raises BadInput as they do.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> round(procrustes_distance(x, x[:, :1]), 4)  # sqrt(2 - 2 sqrt(5/8))
    0.6472
    """
    return with_error(lambda a, b: Estimate(_unit_distance(a, b, 1.0)), a, b)


def partly_whitened(layer: Representation, alpha: float) -> Float[Tensor, "n r"]:
    """Coordinates, in the span of the centred features, of what alpha leaves of them (see the module)."""
    spread = spread_of(layer)
    if alpha == 1:
        return reduced(spread.x) * spread.unit
    u, s, _ = torch.linalg.svd(spread.x, full_matrices=False)
    kept = s > spread.of_directions
    u, s = u[:, kept], s[kept]
    if not len(s):
        raise NoVariance("every direction of the features may be rounding (a mean far above the spread?)")
    if alpha == 0 and len(s) >= layer.n - 1:
        raise BadInput(
            f"the features span all {layer.n} samples, so whitened they equal any others: "
            "pass more samples than features, or alpha above 0"
        )
    mixed = alpha * s * spread.unit + (1 - alpha)
    return u * mixed * (s.norm() * spread.unit / _norm(mixed))


def _distance(a: Representation, b: Representation, alpha: float) -> float:
    if alpha == 1:
        left, right = (Spread.of(x.x, x.precision) for x in (a, b))
        size = max(left.unit, right.unit)
        return _residual(left.x * (left.unit / size), right.x * (right.unit / size)) * size
    left, right = partly_whitened(a, alpha), partly_whitened(b, alpha)
    size = max(float(_norm(left)), float(_norm(right)))
    return _residual(left / size, right / size) * size


def _unit_distance(a: Representation, b: Representation, alpha: float) -> float:
    left, right = (spread_of(x).x if alpha == 1 else partly_whitened(x, alpha) for x in (a, b))
    return _residual(left / _norm(left), right / _norm(right))


def _norm(x: Tensor) -> Tensor:
    """Frobenius norm of what is not zero everywhere, whose squares may be out of range."""
    largest = x.abs().max()
    return largest * (x / largest).norm()


def _residual(a: Tensor, b: Tensor) -> float:
    """min |A Q - B| over orthogonal Q, of centred features."""
    a, b = reduced(a), reduced(b)
    width = max(a.shape[1], b.shape[1])
    a, b = (torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in (a, b))
    u, _, vh = torch.linalg.svd(a.T @ b)
    return float((a @ (u @ vh) - b).norm())


def _check(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise BadInput(f"alpha={alpha} must be from 0 (whitened) to 1 (as they are)")
