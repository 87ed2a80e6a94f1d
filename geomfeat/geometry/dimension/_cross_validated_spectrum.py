"""Cross-validated principal components: how much signal each direction carries, without the noise of the trials.

Stringer, Pachitariu, Steinmetz, Carandini & Harris 2019 (Nature 571, 361; Methods, cross-validated PCA). Directions u_k
are the principal components of one half of the trials of every stimulus; with centred means m, m' of the two halves,

    lambda_k = sum_i (u_k . m_i) (u_k . m'_i) / (n - 1)

is the variance that the halves share along u_k. Noise is independent between the halves, so that it adds nothing in
expectation; without it lambda are the eigenvalues of the signal. Directions found from noisy trials are turned away
from those of the signal: late eigenvalues read low where there is little signal to find them with.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.eigenspectrum import NoVariance, PowerLaw, fit_power_law, ranks_to_fit
from geomfeat.numerics import as_tensor, jackknife_stderr, require_finite, stream
from geomfeat.precision import Spread, precision_of

# Stimuli are left out in so many parts, for errors.
PARTS = 20


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidatedSpectrum(PlottableResult):
    """Variance of the signal along the principal components of other trials.

    Attributes:
        rank: 1, 2, ... variance: lambda over their sum, may be negative where there is no signal. variance_se: over
            stimuli (jackknife). power_law: the fit; exponent_se: error of its exponent over stimuli, NaN where unknown.
        n_trials, n_stimuli: of the data. n_splits: halvings of the trials that were averaged.

    `to_frame()`: one row for each rank: rank, variance, variance_se, and the exponent with its error.
    """

    rank: tuple[int, ...]
    variance: Float[Tensor, "m"]
    variance_se: Float[Tensor, "m"]
    power_law: PowerLaw
    exponent_se: float
    n_trials: int
    n_stimuli: int
    n_splits: int

    def _columns(self) -> dict[str, Any]:
        m = len(self.rank)
        return {
            "rank": list(self.rank), "variance": self.variance.tolist(), "variance_se": self.variance_se.tolist(),
            "exponent": [self.power_law.exponent] * m, "exponent_se": [self.exponent_se] * m,
        }  # fmt: skip

    def _chart(self) -> Plot:
        seen = (self.variance > 0).cpu()
        return line_chart(
            f"cross-validated spectrum, exponent {self.power_law.exponent:.2f} ± {self.exponent_se:.1g}", "rank",
            "share of the signal's variance", [r for r, s in zip(self.rank, seen, strict=True) if s],
            self.variance[seen], log_x=True, log_y=True,
        )  # fmt: skip

    def __str__(self) -> str:
        fit = self.power_law
        return (
            f"Cross-validated spectrum of {self.n_stimuli} stimuli, {self.n_trials} trials each: exponent "
            f"{fit.exponent:.3g} ± {self.exponent_se:.2g} over stimuli, ranks {fit.first} to {fit.last}, "
            f"r2 {fit.r2:.2f}"
        )

    __repr__ = __str__


def cross_validated_spectrum(
    x: Any, *, first: int | None = None, last: int | None = None, n_splits: int = 10, seed: int = 0
) -> CrossValidatedSpectrum:
    """Spectrum of the signal by cross-validated PCA, with the exponent of its power law.

    Args:
        x: (trials, stimuli, units), trials of different noise (repeats, runs) in the same order of stimuli.
        first, last: ranks to fit; default 5 % to 50 % of them, up to the last before any that is not positive.
        n_splits: how many random halvings of the trials to average, each in both directions; two trials have one.
        seed: of the halvings.

    Raises BadInput for other shapes, NaN, fewer than 2 trials or 6 stimuli, or too few ranks with signal to fit;
    NoVariance if all entries are equal.

    >>> noise = torch.Generator().manual_seed(0)
    >>> scales = torch.arange(1, 101, dtype=torch.float64) ** -0.5                         # eigenvalues 1 / k
    >>> signal = torch.randn(400, 100, generator=noise, dtype=torch.float64) * scales
    >>> trials = signal + 0.1 * torch.randn(2, 400, 100, generator=noise, dtype=torch.float64)
    >>> 0.8 < cross_validated_spectrum(trials).power_law.exponent < 1.2
    True
    """
    precision, x = precision_of(x), as_tensor(x, "x")
    if x.ndim != 3 or 0 in x.shape:
        raise BadInput(f"x must be (trials, stimuli, units), got shape {tuple(x.shape)}")
    require_finite(x, "x")
    spread = Spread.of(x.flatten(0, 1), precision)
    if not spread.varies:
        raise NoVariance("all trials of all stimuli are equal: no signal; check the recording")
    centred, rounding = spread.x.reshape(x.shape), spread.of_directions
    return spectrum_of_centred(centred, rounding, first=first, last=last, n_splits=n_splits, seed=seed)


def spectrum_of_centred(
    x: Float[Tensor, "trials n d"], rounding: float, *, first: int | None, last: int | None, n_splits: int, seed: int
) -> CrossValidatedSpectrum:
    """The same of centred trials; `rounding`: how large a singular value of all of them can be of nothing else."""
    n_trials, n, d = x.shape
    if n_trials < 2 or n < 6:
        raise BadInput(f"{n_trials} trials of {n} stimuli: cross-validated PCA needs at least 2 trials of 6 stimuli")
    if int(n_splits) != n_splits or n_splits < 1:
        raise BadInput(f"n_splits={n_splits}: give a whole number of halvings, at least 1")
    # In coordinates of the trials' span, which has no more directions than trials.
    turned = torch.linalg.qr(x.flatten(0, 1).T, mode="r")[1].T if d > n_trials * n else x
    work = turned.reshape(n_trials, n, -1)
    splits = _halvings(n_trials, n_splits if n_trials > 2 else 1, seed)
    products = shared_products(work, splits)
    whole = products.sum(0)
    ranks = _ranks(whole, rounding**2 / (n - 1), first, last)
    fit = fit_power_law(whole, *ranks)
    rows = torch.arange(n, device=products.device) % min(PARTS, n)
    # With the directions of all stimuli: to first order they do not move a variance, and taken anew they would turn
    # among those of nearly the same variance, which is no error of the spectrum.
    parts = torch.stack([whole - products[rows == part].sum(0) for part in range(min(PARTS, n))])
    shares = parts / parts.sum(1, keepdim=True)
    errors = ((len(parts) - 1) / len(parts) * (shares - shares.mean(0)).square().sum(0)).sqrt()
    usable = bool((parts[:, ranks[0] - 1 : ranks[1]] > 0).all())
    error = jackknife_stderr([fit_power_law(part, *ranks).exponent for part in parts]) if usable else float("nan")
    return CrossValidatedSpectrum(
        tuple(range(1, len(whole) + 1)), whole / whole.sum(), errors, fit, error, n_trials, n, len(splits)
    )


def shared_products(x: Float[Tensor, "trials n d"], splits: list[tuple[Tensor, Tensor]]) -> Float[Tensor, "n m"]:
    """What each stimulus adds to each lambda_k of the head of this file: the mean of both directions of all splits."""
    n = x.shape[1]
    total = torch.zeros(n, min(n - 1, x.shape[2]), dtype=x.dtype, device=x.device)
    for split in splits:
        halves = [x[half].mean(0) for half in split]
        halves = [half - half.mean(0) for half in halves]
        for train, test in (halves, halves[::-1]):
            directions = torch.linalg.svd(train, full_matrices=False)[2][: total.shape[1]]
            total += (train @ directions.T) * (test @ directions.T) / (n - 1)
    return total / (2 * len(splits))


def _halvings(n_trials: int, n_splits: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    half = n_trials // 2
    orders = [torch.randperm(n_trials, generator=stream(seed, "cross-validated PCA", i)) for i in range(n_splits)]
    return [(order[:half], order[half:]) for order in orders]


def _ranks(variance: Tensor, rounding: float, first: int | None, last: int | None) -> tuple[int, int]:
    """The ranks to fit: those asked for, or the usual ones up to where the signal ends: at 0, or at rounding."""
    begin, end = ranks_to_fit(len(variance), first, last)
    empty = torch.nonzero(variance[begin - 1 : end] <= rounding)[:, 0]
    if len(empty) and last is None:
        end = begin - 1 + int(empty[0])
    if end - begin < 4 or bool((variance[begin - 1 : end] <= rounding).any()):
        raise BadInput(
            f"the signal ends at rank {begin - 1 + (int(empty[0]) if len(empty) else 0)} of {len(variance)}: fewer "
            "than 5 ranks with signal to fit (more trials or stimuli, or other first= and last=)"
        )
    return begin, end
