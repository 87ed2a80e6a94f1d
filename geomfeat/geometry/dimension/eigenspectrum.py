"""How the variance of a point cloud is spread over directions.

`lambda` are the eigenvalues of the centred sample covariance (n samples, d features). Every number here ignores scale,
and leaves out what may be rounding of the precision that the points came in.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.leave_out_spectra import GROUPS, LeaveOut, NoVariance, jackknife, left_out, spread_of
from geomfeat.numerics import WORKING, jackknife_stderr
from geomfeat.precision import Spread
from geomfeat.statistics.group_errors import errors_over_groups, errors_wanted
from geomfeat.types import Estimate, Points, Representation, as_layer, as_points

# Shares of the variance closer than this are equal, whatever the precision of the points.
EQUAL_SHARES = 1e-12


def covariance_spectrum(x: Points | Spread) -> Float[Tensor, "m"]:
    """Eigenvalues of the covariance of x over the largest one: descending, 1 first, those at rounding level left out.

    Raises NoVariance (a BadInput) if all points coincide.

    >>> covariance_spectrum(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).tolist()
    [1.0]
    """
    return _spectrum(spread_of(x))


def participation_ratio(x: Points) -> Estimate:
    """(sum lambda)^2 / sum lambda^2 of the sample covariance, in 1..min(n - 1, d) (Gao et al. 2017, eq. 5).

    With its error. Biased low: n samples of a true 50 read 16 at n = 25. See `participation_ratio_wishart`.

    >>> round(participation_ratio(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 12)
    2.0
    """

    def over_samples(layer: Representation) -> Estimate:
        one = left_out(layer)
        trace, square, _ = _moments(one)
        without = None if not errors_wanted() or one.moments is None else [m.trace**2 / m.square for m in one.moments]
        return Estimate(trace**2 / square, jackknife(without))

    return errors_over_groups(over_samples, [as_layer(x)], {})


def participation_ratio_wishart(x: Points | Spread | LeaveOut) -> float:
    """Participation ratio of the population, for Gaussian rows; at least 1, infinite where n is far too small.

    With nu = n - 1 the sample covariance S of Gaussian rows has (Wishart moments)
        E tr S^2   = (1 + 1/nu) tr C^2 + (tr C)^2 / nu
        E (tr S)^2 = (tr C)^2 + (2/nu) tr C^2
    Solving the pair gives both population moments without bias; their ratio has a bias of higher order only.

    >>> x = torch.randn(50, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> participation_ratio(x) < 30 < 40 < participation_ratio_wishart(x) < 60
    True
    """
    one = x if isinstance(x, LeaveOut) else LeaveOut(spread_of(x))
    trace, trace_of_square, off = _moments(one)
    return wishart_ratio(one.spread.x.shape[0], trace, trace_of_square, off)


def wishart_ratio(n: int, trace: float, trace_of_square: float, off: float = 0.0) -> float:
    """The same from tr S and tr S^2, S the scatter of n centred points; infinite where nothing above `off` is left."""
    nu = n - 1
    # Wishart moments: E tr(S)^2 = tr(C)^2 + 2/nu tr(C^2) and E tr(S^2) = (1 + 1/nu) tr(C^2) + tr(C)^2 / nu, solved for
    # tr(C)^2 and tr(C^2) up to a common factor.
    square_of_trace = (nu + 1) / nu * trace**2 - 2 / nu * trace_of_square
    square = trace_of_square - trace**2 / nu
    return square_of_trace / square if square > off else float("inf")


def effective_rank(x: Points) -> Estimate:
    """exp of the entropy of lambda / sum lambda, in 1..min(n - 1, d) (Roy & Vetterli 2007, on covariance eigenvalues).

    >>> round(effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 12)
    2.0
    """
    return _of_spectrum(_exp_entropy, x)


def stable_rank(x: Points) -> Estimate:
    """sum lambda / max lambda = |X|_F^2 / |X|_2^2 of the centred points, in 1..min(n - 1, d).

    Rudelson & Vershynin 2007, sec. 1.

    >>> round(stable_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 12)
    2.0
    """
    return _of_spectrum(lambda values: float(values.sum()), x)  # the largest is 1


def components_for_variance(x: Points | Spread, share: float) -> int:
    """Fewest principal components that hold a share of the variance, in 1..min(n - 1, d) (Jolliffe 2002, sec. 6.1.1).

    Raises BadInput unless 0 < share <= 1, NoVariance if all points coincide.

    >>> components_for_variance(torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), 0.8)
    1
    """
    if not 0 < share <= 1:
        raise BadInput(f"share={share}: the share of the variance is in (0, 1], such as 0.9")
    spread = spread_of(x)
    held = _spectrum(spread).cumsum(0)
    # A share that is reached exactly must not be missed by rounding: of the squares, twice that of the entries.
    off = max(EQUAL_SHARES, 2 * float(spread.of_entry / torch.linalg.matrix_norm(spread.x)))
    return int((held < share * held[-1] * (1 - off)).sum()) + 1


def rankme(x: Points, *, center: bool = False) -> Estimate:
    """exp of the entropy of the SINGULAR values over their sum, in 1..min(n, d) (Garrido et al. 2023, eq. 1).

    Not centred by default, as published. Three numbers go by names like this one, and differ by factors:
    `rankme(x)`; `rankme(x, center=True)`, mostly higher, since the mean is one large singular value; and
    `effective_rank(x)`, of squared singular values of centred points, lower, since squares weigh the large ones more.

    >>> round(rankme(torch.eye(3)), 12)
    3.0
    """

    def over_samples(layer: Representation) -> Estimate:
        turned = layer.with_(x=reduced(layer.x)) if errors_wanted() else layer
        error = group_jackknife(lambda rows: _rankme(turned.take(rows), center), layer.n)
        return Estimate(_rankme(layer, center), error)

    return errors_over_groups(over_samples, [as_layer(x)], {})


@dataclass(frozen=True)
class PowerLaw(BaseResult):
    """lambda_k ~ k^-exponent over ranks first..last (1 is the largest), by least squares on logarithms.

    stderr: of the slope if the residuals were independent; neighbouring eigenvalues are not, so it is a lower bound.
    r2: share of the variance of log lambda that the line explains.
    """

    exponent: float
    stderr: float
    r2: float
    first: int
    last: int


def spectrum_of(one: LeaveOut) -> Float[Tensor, "m"]:
    """As `covariance_spectrum`, from the singular values that all numbers of a layer share."""
    return _above_rounding(one.singular_values, one.spread)


def power_law(x: Points | Spread, *, first: int | None = None, last: int | None = None) -> PowerLaw:
    """Exponent of the eigenvalue decay (Stringer et al. 2019), with its fit range and quality.

    Args:
        first, last: ranks to fit. By default 5 % to 50 % of the eigenvalues above rounding level: the first ones are
            single directions of the task, and sampling bends the tail down.

    Raises BadInput if fewer than 5 ranks are left, NoVariance if all points coincide.

    >>> k = torch.arange(1, 101, dtype=torch.float64)
    >>> x = torch.diag(k ** -0.6)
    >>> 1.1 < power_law(torch.cat([x, -x])).exponent < 1.3
    True
    """
    values = covariance_spectrum(x)
    return fit_power_law(values, *ranks_to_fit(len(values), first, last))


def power_law_with_error(
    x: Points, *, first: int | None = None, last: int | None = None
) -> tuple[PowerLaw, float | None]:
    """`power_law` and the error of its exponent by a jackknife over tenths of the samples, at the ranks of the whole.

    Raises as `power_law`.
    """
    layer = as_layer(x)
    one = left_out(layer)
    values = spectrum_of(one)
    fit = fit_power_law(values, *ranks_to_fit(len(values), first, last))
    if not errors_wanted() or one.eigenvalues is None:
        return fit, None
    if min(len(v) for v in one.eigenvalues) >= fit.last:
        return fit, jackknife([fit_power_law(v, fit.first, fit.last).exponent for v in one.eigenvalues])
    # Ranks so small that products of the points have lost them: from the points themselves.
    turned = one.spread.turned()
    again = lambda rows: power_law(turned.take(rows), first=fit.first, last=fit.last).exponent  # noqa: E731
    return fit, group_jackknife(again, layer.n)


def ranks_to_fit(count: int, first: int | None, last: int | None) -> tuple[int, int]:
    """First and last rank of a power law over `count` eigenvalues; BadInput for fewer than 5 ranks."""
    # Leading ranks do not follow the law, and the last ones are lowered by the finite number of samples.
    first = max(1, round(0.05 * count)) if first is None else first
    last = max(first + 4, count // 2) if last is None else last
    if first < 1 or last - first < 4 or last > count:
        raise BadInput(
            f"a power law over ranks {first}..{last} of {count} eigenvalues: need at least 5 ranks among them "
            "(more samples or units, or other first= and last=)"
        )
    return first, last


def fit_power_law(values: Float[Tensor, "m"], first: int, last: int) -> PowerLaw:
    """The law of the eigenvalues of ranks first..last, which must be above 0."""
    ranks = np.log(np.arange(first, last + 1))
    logs = np.log(values[first - 1 : last].cpu().numpy())
    spread = np.square(ranks - ranks.mean()).sum()
    slope = float((ranks - ranks.mean()) @ logs / spread)
    residual = float(np.square(logs - logs.mean() - slope * (ranks - ranks.mean())).sum())
    total = float(np.square(logs - logs.mean()).sum())
    stderr = float(np.sqrt(residual / (len(ranks) - 2) / spread))
    return PowerLaw(-slope, stderr, 1 - residual / total if total > 0 else 1.0, first, last)


def reduced(x: Points) -> Float[Tensor, "n r"]:
    """The same points, turned into their own span: r = min(n, d) coordinates with the same inner products.

    >>> x = torch.randn(3, 7, dtype=torch.float64)
    >>> torch.allclose(reduced(x) @ reduced(x).T, x @ x.T)
    True
    """
    x = as_points(x)
    x = x.to(WORKING)
    return x if x.shape[1] <= x.shape[0] else torch.linalg.qr(x.T, mode="r")[1].T


def group_jackknife(statistic: Callable[[Tensor], float], n: int, groups: int = GROUPS) -> float | None:
    """Standard error of statistic(rows), with every groups-th of the n rows left out in turn; None where that fails.

    Raises nothing for parts of the data that are degenerate although the whole is not: they give None.

    >>> x = torch.arange(40, dtype=torch.float64)
    >>> abs(group_jackknife(lambda rows: float(x[rows].mean()), 40, 40) - float(x.std()) / 40**0.5) < 1e-12
    True
    """
    if not errors_wanted():
        return None
    groups = min(groups, n)
    rows = torch.arange(n)
    try:
        values = [float(statistic(rows[rows % groups != g])) for g in range(groups)]
    except BadInput:
        return None
    out = jackknife_stderr(values)
    return out if np.isfinite(out) else None


def _of_spectrum(value: Callable[[Tensor], float], x: Points) -> Estimate:
    """A number of the spectrum with its error: over groups of the samples where there are any, else over samples."""

    def over_samples(layer: Representation) -> Estimate:
        one = left_out(layer)
        values = spectrum_of(one)
        without = None if not errors_wanted() or one.eigenvalues is None else [value(v) for v in one.eigenvalues]
        return Estimate(value(values), jackknife(without))

    return errors_over_groups(over_samples, [as_layer(x)], {})


def _rankme(layer: Representation, center: bool) -> float:
    if not bool(layer.x.any()):
        raise NoVariance("every entry is zero: RankMe is not defined; the layer is zero (dead) on these inputs")
    spread = spread_of(layer) if center else Spread.of(layer.x, layer.precision)
    values = torch.linalg.svdvals(spread.x if center else layer.x.to(WORKING) / spread.unit)
    own = max(layer.x.shape) * torch.finfo(WORKING).eps * values[0]
    return _exp_entropy(values[values > max(spread.of_directions, float(own))])


def _spectrum(spread: Spread) -> Float[Tensor, "m"]:
    return _above_rounding(torch.linalg.svdvals(spread.x), spread)


def _above_rounding(values: Float[Tensor, "r"], spread: Spread) -> Float[Tensor, "m"]:
    values = values[values > spread.of_directions]
    if not len(values):
        raise NoVariance(
            "every direction of the points may be rounding (a mean far above their spread?): take the mean off before "
            "the features are rounded, or compute them in a wider precision"
        )
    return (values / values[0]).square()


def _moments(one: LeaveOut) -> tuple[float, float, float]:
    """tr S and tr S^2 (S up to a factor); and by how much rounding can change tr S^2."""
    trace, square = float(one.product.diagonal().sum()), float(one.product.square().sum())
    off = max(EQUAL_SHARES, 4 * one.spread.of_entry / trace**0.5)
    return trace, square, off * square


def _exp_entropy(values: Tensor) -> float:
    share = values / values.sum()
    return float(torch.exp(-(share * share.log()).sum()))
