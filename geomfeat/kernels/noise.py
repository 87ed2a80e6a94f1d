"""Noise precision between units, for Mahalanobis and crossnobis distances: from residuals, shrunk or diagonal."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.kernels.rdm import condition_means, levels_of
from geomfeat.numerics import WORKING, as_tensor, require_finite, safe_eigh
from geomfeat.types import Representation

ESTIMATORS = ("shrinkage_diagonal", "shrinkage_identity", "sample", "variances")


def condition_residuals(x: Any, conditions: Any, runs: Any = None) -> tuple[Tensor, int]:
    """Samples minus the mean of their condition (of their condition in their run), and the degrees of freedom left.

    These are samples minus the number of means taken away; conditions and runs as for `rdm`.

    >>> left, dof = condition_residuals([[0.0], [2.0], [5.0], [5.0]], ["a", "a", "b", "b"])
    >>> left[:, 0].tolist(), dof
    ([-1.0, 1.0, 0.0, 0.0], 2)
    """
    data = as_tensor(x.x if isinstance(x, Representation) else x, "x", WORKING)
    if data.ndim != 2 or 0 in data.shape:
        raise BadInput(f"x must be (samples, units), got shape {tuple(data.shape)}")
    require_finite(data, "x")
    levels, index = levels_of(conditions, data, "conditions")
    if runs is not None:
        index = levels_of(runs, data, "runs")[1] * len(levels) + index
    _, index = index.unique(return_inverse=True)
    count = int(index.max()) + 1
    return data - condition_means(data, index, count)[index], len(data) - count


def noise_precision(residuals: Any, *, estimator: str = "shrinkage_diagonal", dof: int | None = None) -> Tensor:
    """Inverse of the noise covariance S of the units, estimated from residuals.

    Args:
        residuals: (n, d), e.g. of `condition_residuals` or a regression; used as they are: no mean is removed.
        estimator: "shrinkage_diagonal": correlations shrunk towards 0 by the best share (Schaefer & Strimmer 2005,
            table 1, target D, on correlations); "shrinkage_identity": S shrunk towards its mean variance times the
            identity (Ledoit & Wolf 2004, section 3.3); "sample": S itself; "variances": no correlations at all.
        dof: degrees of freedom, S = R'R / dof: n minus the number of means or regressors fitted. Default n - 1.

    Returns (d, d), or (d,) for "variances"; both fit `rdm(precision=)`.

    Raises BadInput for a singular covariance: too few degrees of freedom for "sample", units without noise.

    >>> r = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0])
    >>> [round(v, 1) for v in noise_precision(r, estimator="variances").tolist()]
    [1.1, 0.2]
    """
    if estimator not in ESTIMATORS:
        raise BadInput(f"estimator={estimator!r}: use one of {', '.join(map(repr, ESTIMATORS))}")
    r = as_tensor(residuals, "residuals", WORKING)
    if r.ndim != 2 or 0 in r.shape:
        raise BadInput(f"residuals must be (samples, units), got shape {tuple(r.shape)}")
    require_finite(r, "residuals")
    dof = len(r) - 1 if dof is None else dof
    if dof < 1:
        raise BadInput(f"{len(r)} residuals leave {dof} degrees of freedom: give repeated samples of the conditions")
    variance = r.square().sum(0) / dof
    silent = int((variance <= 0).sum())
    if silent and estimator != "shrinkage_identity":
        raise BadInput(f"{silent} of {r.shape[1]} units have no noise, so S is singular: leave them out")
    if estimator == "variances":
        return 1 / variance
    makers = {"shrinkage_diagonal": _towards_diagonal, "shrinkage_identity": _towards_identity, "sample": _sample}
    return _inverse(makers[estimator](r, dof), dof)


def _inverse(covariance: Tensor, dof: int) -> Tensor:
    values, vectors = safe_eigh(covariance)
    if not float(values[0]) > 1e-12 * float(values[-1]):
        raise BadInput(
            f"the noise covariance of {len(values)} units from {dof} degrees of freedom is singular: use "
            "estimator='shrinkage_diagonal', more samples, or fewer units"
        )
    return (vectors / values) @ vectors.T


def _sample(r: Float[Tensor, "n d"], dof: int) -> Float[Tensor, "d d"]:
    return r.T @ r / dof


def _towards_diagonal(r: Float[Tensor, "n d"], dof: int) -> Float[Tensor, "d d"]:
    """(1 - l) S off the diagonal, l = sum Var(r_ij) / sum r_ij^2 over i != j. With standardised residuals w_k =
    x_ki x_kj: r_ij = sum_k w_k / dof and Var(r_ij) = n / dof^2 times the variance of w_k over samples."""
    n = len(r)
    unit = r / (r.square().sum(0) / dof).sqrt()
    products = unit.T @ unit
    spread = (unit.square().T @ unit.square() - products.square() / n) / max(n - 1, 1)
    off = ~torch.eye(r.shape[1], dtype=torch.bool, device=r.device)
    signal = float(products[off].square().sum())
    share = min(1.0, max(0.0, n * float(spread[off].sum()) / signal)) if signal > 0 else 1.0
    covariance = _sample(r, dof)
    return torch.where(off, (1 - share) * covariance, covariance)


def _towards_identity(r: Float[Tensor, "n d"], dof: int) -> Float[Tensor, "d d"]:
    """(b^2 m I + (a^2 - b^2) S) / a^2 on S = R'R / n, with m = tr S / d, a^2 = |S - m I|^2, b^2 the smaller of a^2 and
    sum_k |x_k x_k' - S|^2 / n^2; then rescaled to the degrees of freedom."""
    n, d = r.shape
    sample = r.T @ r / n
    size = float(sample.diagonal().mean())
    identity = size * torch.eye(d, dtype=r.dtype, device=r.device)
    total = float((sample - identity).square().sum())
    noise = (float(r.square().sum(1).square().sum()) / n - float(sample.square().sum())) / n
    share = min(1.0, noise / total) if total > 0 else 1.0
    return (share * identity + (1 - share) * sample) * (n / dof)
