"""Noise precision between units, for Mahalanobis and crossnobis distances: from residuals, shrunk or diagonal."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa.dissimilarity import condition_means, levels_of
from geomfeat.memory import require_memory
from geomfeat.numerics import WORKING, as_tensor, require_finite, safe_eigh
from geomfeat.precision import is_constant, precision_of, roundings
from geomfeat.types import Representation

ESTIMATORS = ("shrinkage_diagonal", "shrinkage_identity", "sample", "variances")


class _ValuesAndDof(NamedTuple):
    values: Tensor
    dof: int


class Residuals(_ValuesAndDof):
    """Residuals (n, d), and the degrees of freedom that the means or regressors taken away have left in them.

    rounding (d,): how far the residuals of each unit are off by the precision the samples came in; None: unknown.
    """

    rounding: Tensor | None

    def __new__(cls, values: Tensor, dof: int, rounding: Tensor | None = None) -> "Residuals":
        """Unpacks as (values, dof)."""
        found = super().__new__(cls, values, dof)
        found.rounding = rounding
        return found


def condition_residuals(x: Any, conditions: Any, runs: Any = None) -> Residuals:
    """Samples minus the mean of their condition (of their condition in their run), and the degrees of freedom left.

    These are samples minus the number of means taken away; conditions and runs as for `rdm`. `noise_precision` takes
    both together. Residuals of a unit that are no more than the rounding of its samples are 0.

    >>> left, dof = condition_residuals([[0.0], [2.0], [5.0], [5.0]], ["a", "a", "b", "b"])
    >>> left[:, 0].tolist(), dof
    ([-1.0, 1.0, 0.0, 0.0], 2)
    """
    precision = x.precision if isinstance(x, Representation) else precision_of(x)
    data = as_tensor(x.x if isinstance(x, Representation) else x, "x", WORKING)
    if data.ndim != 2 or 0 in data.shape:
        raise BadInput(f"x must be (samples, units), got shape {tuple(data.shape)}")
    require_finite(data, "x")
    levels, index = levels_of(conditions, data, "conditions")
    if runs is not None:
        index = levels_of(runs, data, "runs")[1] * len(levels) + index
    _, index = index.unique(return_inverse=True)
    count = int(index.max()) + 1
    left = data - condition_means(data, index, count)[index]
    size, spread = _rms(data), _rms(left)
    silent = is_constant(spread, size, precision)
    of_spread, of_size = roundings(precision)
    return Residuals(torch.where(silent, 0, left), len(data) - count, of_spread * spread + of_size * size)


def noise_precision(residuals: Any, *, estimator: str = "shrinkage_diagonal", dof: int | None = None) -> Tensor:
    """Inverse of the noise covariance S of the units, estimated from residuals.

    Args:
        residuals: `Residuals` of `condition_residuals`, or (n, d), e.g. of a regression; used as they are: no mean is
            removed.
        estimator: "shrinkage_diagonal": correlations shrunk towards 0 by the best share (Schaefer & Strimmer 2005,
            table 1, target D, on correlations); "shrinkage_identity": S shrunk towards its mean variance times the
            identity (Ledoit & Wolf 2004, section 3.3); "sample": S itself; "variances": no correlations at all.
        dof: degrees of freedom, S = R'R / dof: n minus the number of means or regressors fitted. Default those that
            the `Residuals` know; of an array its rank, where n - 1 or more units show it; else n - 1.

    Returns (d, d), or (d,) for "variances"; both fit `rdm(precision=)`.

    Raises BadInput for a singular covariance: too few degrees of freedom for "sample", units without noise, or that
    agree up to rounding; OutOfMemory for more units than fit.

    >>> r = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0])
    >>> [round(v, 1) for v in noise_precision(r, estimator="variances").tolist()]
    [1.1, 0.2]
    """
    if estimator not in ESTIMATORS:
        raise BadInput(f"estimator={estimator!r}: use one of {', '.join(map(repr, ESTIMATORS))}")
    known = residuals.dof if isinstance(residuals, Residuals) else None
    r = as_tensor(residuals.values if isinstance(residuals, Residuals) else residuals, "residuals", WORKING)
    if r.ndim != 2 or 0 in r.shape:
        raise BadInput(f"residuals must be (samples, units), got shape {tuple(r.shape)}")
    require_finite(r, "residuals")
    if isinstance(residuals, Residuals) and residuals.rounding is not None:
        rounding = residuals.rounding.to(r.device)
    else:
        rounding = roundings(precision_of(residuals))[1] * _rms(r)
    if dof is None:
        dof = known if known is not None else _dof(r, rounding)
    if dof < 1:
        raise BadInput(f"{len(r)} residuals leave {dof} degrees of freedom: give repeated samples of the conditions")
    variance = r.square().sum(0) / dof
    # Residuals that are rounding alone are set to 0 where the samples are known; otherwise they count as noise.
    silent = int((variance <= 0).sum())
    if silent and estimator != "shrinkage_identity":
        raise BadInput(f"{silent} of {r.shape[1]} units have no noise, so S is singular: leave them out")
    if estimator == "variances":
        return 1 / variance
    # Covariance, eigenvectors and inverse, each with a copy on the way.
    require_memory(
        48 * r.shape[1] ** 2,
        f"the noise precision of {r.shape[1]} units",
        "use estimator='variances', or fewer units",
        r.device,
    )
    makers = {"shrinkage_diagonal": _towards_diagonal, "shrinkage_identity": _towards_identity, "sample": _sample}
    return _inverse(makers[estimator](r, dof), dof, rounding, len(r))


def noise_precision_by_run(
    x: Any, conditions: Any, runs: Any, *, estimator: str = "shrinkage_diagonal"
) -> dict[Hashable, Tensor]:
    """{run: noise precision from its samples alone}, for noise that differs between runs (`rdm(precision=)`).

    Args:
        x: samples as for `rdm`, with conditions and runs; estimator as for `noise_precision`.

    The degrees of freedom of a run are its samples minus its conditions. Pooled over runs, the better choice where the
    noise is the same in all, it is `noise_precision(condition_residuals(x, conditions, runs))`. Of residuals of a
    regression, give `{run: noise_precision(residuals[run], dof=...)}`. Raises BadInput, with the run, as
    `noise_precision`.

    >>> x = torch.randn(80, 2, generator=torch.Generator().manual_seed(0))
    >>> found = noise_precision_by_run(x, list(range(4)) * 20, [0] * 40 + [1] * 40, estimator="variances")
    >>> {run: precision.shape for run, precision in found.items()}
    {0: torch.Size([2]), 1: torch.Size([2])}
    """
    left = condition_residuals(x, conditions, runs)
    levels, run = levels_of(runs, left.values, "runs")
    _, condition = levels_of(conditions, left.values, "conditions")
    found: dict[Hashable, Tensor] = {}
    for i, level in enumerate(levels):
        mine = run == i
        dof = int(mine.sum()) - len(condition[mine].unique())
        try:
            found[level] = noise_precision(Residuals(left.values[mine], dof, left.rounding), estimator=estimator)
        except BadInput as cause:
            raise BadInput(f"run {level!r}: {cause}; or pool the runs: condition_residuals(..., runs)") from cause
    return found


def _rms(x: Float[Tensor, "n d"]) -> Float[Tensor, "d"]:
    return x.square().mean(0).sqrt()


def _dof(r: Float[Tensor, "n d"], rounding: Float[Tensor, "d"]) -> int:
    """n - 1, or the rank of the residuals where it is less and not for want of units: every mean costs one."""
    n, d = r.shape
    if d < n - 1:
        return n - 1
    sizes = torch.linalg.svdvals(r)
    return min(n - 1, int((sizes > max(n, d) * torch.finfo(WORKING).eps * sizes[0] + _of_rounding(rounding, n)).sum()))


def _of_rounding(rounding: Float[Tensor, "d"], n: int) -> float:
    """Largest singular value of n rows of rounding, as in `precision.Spread`."""
    return float(rounding.max()) * n**0.5 + float(torch.linalg.vector_norm(rounding))


def _inverse(covariance: Tensor, dof: int, rounding: Float[Tensor, "d"], n: int) -> Tensor:
    """Inverse through the correlation matrix, so that units of very different sizes do not make it singular."""
    size = covariance.diagonal().sqrt().clamp_min(torch.finfo(WORKING).tiny)
    values, vectors = safe_eigh(covariance / (size[:, None] * size))
    # The rounding of the decomposition itself; that of the data comes on top of it.
    own = len(values) * torch.finfo(WORKING).eps * float(values[-1])
    if not float(values[0]) > own + _of_rounding(rounding / size, n) ** 2 / n:
        raise BadInput(
            f"the noise covariance of {len(values)} units from {dof} degrees of freedom is singular, as far as the "
            "precision of the data shows: use estimator='shrinkage_diagonal', more samples, or fewer units"
        )
    vectors = vectors / size[:, None]
    return (vectors / values) @ vectors.T


def _sample(r: Float[Tensor, "n d"], dof: int) -> Float[Tensor, "d d"]:
    return r.T @ r / dof


def _towards_diagonal(r: Float[Tensor, "n d"], dof: int) -> Float[Tensor, "d d"]:
    size = (r.square().sum(0) / dof).sqrt()
    return shrunk_correlation(r / size, dof) * (size[:, None] * size)


def shrunk_correlation(unit: Float[Tensor, "*batch n d"], dof: int) -> Float[Tensor, "*batch d d"]:
    """(1 - l) r_ij off the diagonal, l = sum Var(r_ij) / sum r_ij^2 over i != j. With standardised residuals w_k =
    x_ki x_kj: r_ij = sum_k w_k / dof and Var(r_ij) = n / dof^2 times the variance of w_k over samples.

    unit: residuals over their standard deviation, so that their squares sum to dof.
    """
    n, d = unit.shape[-2:]
    products = unit.mT @ unit
    off = ~torch.eye(d, dtype=torch.bool, device=unit.device)
    signal = (products.square() * off).sum((-2, -1))
    # The sum over i != j of x_ki^2 x_kj^2 is (sum_i x_ki^2)^2 less the sum of x_ki^4.
    squares = unit.square()
    mean_squares = (squares.sum(-1).square() - squares.square().sum(-1)).sum(-1)
    spread = (mean_squares - signal / n) / max(n - 1, 1)
    # A ratio of estimates may leave the range of a share; without correlations only the diagonal is there to keep.
    share = (n * spread / torch.where(signal > 0, signal, 1.0)).clamp(0, 1)
    share = torch.where(signal > 0, share, 1.0)[..., None, None]
    correlation = products / dof
    return torch.where(off, (1 - share) * correlation, correlation)


def _towards_identity(r: Float[Tensor, "n d"], dof: int) -> Float[Tensor, "d d"]:
    """(b^2 m I + (a^2 - b^2) S) / a^2 on S = R'R / n, with m = tr S / d, a^2 = |S - m I|^2, b^2 the smaller of a^2 and
    sum_k |x_k x_k' - S|^2 / n^2; then rescaled to the degrees of freedom."""
    n, d = r.shape
    sample = r.T @ r / n
    size = float(sample.diagonal().mean())
    identity = size * torch.eye(d, dtype=r.dtype, device=r.device)
    total = float((sample - identity).square().sum())
    # sum_k |x_k x_k' - S|^2 = sum_k |x_k|^4 - n |S|^2, since S is the mean of the x_k x_k'.
    noise = (float(r.square().sum(1).square().sum()) / n - float(sample.square().sum())) / n
    share = min(1.0, noise / total) if total > 0 else 1.0
    return (share * identity + (1 - share) * sample) * (n / dof)
