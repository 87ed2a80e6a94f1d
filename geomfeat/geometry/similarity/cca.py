"""Canonical correlations of two representations, and the averages of them that are in use.

With orthonormal bases Q_a, Q_b (n, r) of the centred features, the canonical correlations are the singular values of
Q_a' Q_b. Features that span all samples (rank n - 1, where copies of a sample count once) correlate perfectly with any
others, which is an error here; and if r_a + r_b > n - 1, then r_a + r_b - (n - 1) of the correlations are 1 whatever
the data: `n_trivial` counts them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.eigenspectrum import NoVariance, spread_of
from geomfeat.geometry.similarity._validation import same_samples, with_error
from geomfeat.numerics import WORKING
from geomfeat.precision import Spread
from geomfeat.statistics.copies import copies_of
from geomfeat.types import Estimate, Points, Representation

LEAST = 3  # samples
# Error of a cosine from float64 products. A larger angle between variates is none of rounding.
COSINE_ROUNDINGS, LARGEST_ANGLE = 64 * torch.finfo(WORKING).eps, 1e-3


@dataclass(frozen=True, eq=False)
class CanonicalCorrelations(PlottableResult):
    """values: correlations in 0..1, descending. variates: (n, k) those of a, orthonormal. n_trivial: see the module.

    `to_frame()`: one row for each correlation: values, n_trivial.
    """

    values: Tensor
    variates: Tensor
    n_trivial: int

    _rows = ("values",)

    def _chart(self) -> Plot:
        ranks = range(1, len(self.values) + 1)
        return line_chart("canonical correlations", "rank", "correlation", ranks, self.values)


def canonical_correlations(a: Points, b: Points) -> CanonicalCorrelations:
    """All min(rank a, rank b) canonical correlations (Hotelling 1936), by QR-like bases and one SVD.

    Directions below rounding of the features' precision are left out. Raises BadInput for other numbers of samples, for
    features that span all samples (n <= d), and NoVariance for a constant layer.

    >>> x = torch.tensor([[1.0], [2.0], [3.0], [5.0]])
    >>> [round(float(r), 6) for r in canonical_correlations(x, 3 - 2 * x).values]
    [1.0]
    """
    a, b = same_samples(a, b)
    different = [_different(side) for side in (a, b)]
    left, right = _span(a, "a", different=different[0]), _span(b, "b", different=different[1])
    # Copies of each other in both are one sample.
    return _between(left, right, a.n if a.n in different else _different(a, b))


def cca_mean(a: Points, b: Points) -> Estimate:
    """Mean canonical correlation, in 0..1 (Raghu et al. 2017; "CCA rho-bar" of Kornblith et al. 2019, table 1).

    With its error, and a note on trivial correlations. Raises BadInput as `canonical_correlations` does.

    >>> x = torch.tensor([[1.0], [2.0], [3.0], [5.0]])
    >>> round(cca_mean(x, -x), 6)
    1.0
    """
    return with_error(lambda a, b: _noted(canonical_correlations(a, b), torch.mean), a, b, LEAST)


def cca_mean_squared(a: Points, b: Points) -> Estimate:
    """Mean squared canonical correlation, in 0..1 ("CCA R^2" of Kornblith et al. 2019, table 1).

    With its error, and a note on trivial correlations. Raises BadInput as `canonical_correlations` does.

    >>> x = torch.tensor([[1.0], [2.0], [3.0], [5.0]])
    >>> round(cca_mean_squared(x, -x), 6)
    1.0
    """
    return with_error(lambda a, b: _noted(canonical_correlations(a, b), lambda r: r.square().mean()), a, b, LEAST)


def svcca(a: Points, b: Points, *, variance: float = 0.99, n_components: int | None = None) -> Estimate:
    """Mean canonical correlation of leading principal components, in 0..1 (Raghu et al. 2017, section 2.1).

    Args:
        variance: the fewest components that hold this share of a layer's variance are kept of it.
        n_components: this many of both instead.

    With its error. Raises BadInput as `canonical_correlations` does, of what is kept.

    >>> x = torch.tensor([[1.0], [2.0], [3.0], [5.0]])
    >>> round(svcca(x, -x), 6)
    1.0
    """
    if not 0 < variance <= 1:
        raise BadInput(f"variance={variance} must be a share above 0, up to 1")
    if n_components is not None and n_components < 1:
        raise BadInput(f"n_components={n_components}: keep at least 1")

    def mean(a: Representation, b: Representation) -> Estimate:
        left = span_of_features(a, "a", variance, n_components)
        right = span_of_features(b, "b", variance, n_components)
        return Estimate(float(_between(left, right, a.n).values.mean()))

    return with_error(mean, a, b, LEAST)


def pwcca(a: Points, b: Points) -> Estimate:
    """Canonical correlations weighted by how much of a they carry, in 0..1; not symmetric (Morcos et al. 2018, eq. 6).

    Weights sum_j |<h_i, a_j>| of a's canonical variates h_i over its centred units a_j: they depend on the units, so a
    rotation of a changes them. Where m correlations are tied (several are 1 as soon as layers share directions), any
    rotation of their variates would do as well: their weights are the mean over all rotations,
    sum_j |P a_j| m E|u_1|, with P the projection on these variates and u on the unit sphere in m dimensions. That is
    the same sum for m = 1. With its error, and a note on trivial correlations. Raises BadInput as
    `canonical_correlations` does.

    >>> x = torch.tensor([[1.0], [2.0], [3.0], [5.0]])
    >>> round(pwcca(x, -x), 6)
    1.0
    """
    return with_error(_pwcca, a, b, LEAST)


def _pwcca(a: Representation, b: Representation) -> Estimate:
    found = canonical_correlations(a, b)
    units = spread_of(a)
    shares = found.variates.T @ units.x
    known = max(_known_to(units, len(found.values)), _known_to(spread_of(b), len(found.values)))
    total = weighted = 0.0
    for group in tied_correlations(found.values, known):
        m = group.stop - group.start
        weight = float(torch.linalg.vector_norm(shares[group], dim=0).sum()) * m * mean_coordinate(m)
        total, weighted = total + weight, weighted + weight * float(found.values[group].mean())
    return _noted(found, lambda _: weighted / total)


def tied_correlations(values: Float[Tensor, "k"], known: float) -> list[slice]:
    """Runs of descending correlations whose angles are nearer to the next than what these are `known` to.

    >>> tied_correlations(torch.tensor([1.0, 1 - 1e-15, 0.5], dtype=torch.float64), 1e-12)
    [slice(0, 2, None), slice(2, 3, None)]
    """
    # Near 1 a cosine in float64 leaves an angle the root of its rounding.
    apart = torch.arccos(values).diff() > max(known, COSINE_ROUNDINGS**0.5)
    ends = [*(torch.nonzero(apart)[:, 0] + 1).tolist(), len(values)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def mean_coordinate(m: int) -> float:
    """E|u_1| of a random point u of the unit sphere in m dimensions.

    >>> mean_coordinate(1), round(mean_coordinate(2) * math.pi, 12)
    (1.0, 2.0)
    """
    # Gamma(m/2) / (sqrt(pi) Gamma((m+1)/2)), by logarithms: gamma itself overflows from m = 343 on.
    return math.exp(math.lgamma(m / 2) - math.lgamma((m + 1) / 2)) / math.sqrt(math.pi) if m > 1 else 1.0


def _known_to(spread: Spread, rank: int) -> float:
    """Angle by which rounding may turn a direction of typical strength among `rank` of them."""
    return min(LARGEST_ANGLE, spread.of_directions * rank**0.5 / float(torch.linalg.vector_norm(spread.x)))


def span_of_features(
    layer: Representation, name: str, variance: float = 1.0, n_components: int | None = None
) -> Float[Tensor, "n r"]:
    """Orthonormal basis of the leading principal components of the samples; BadInput where it is everything."""
    return _span(layer, name, variance, n_components, _different(layer))


def _different(*layers: Representation) -> int:
    """How many samples are no copies of others in all layers."""
    return len(copies_of(*layers).unique())


def _span(
    layer: Representation, name: str, variance: float = 1.0, n_components: int | None = None, different: int = 0
) -> Float[Tensor, "n r"]:
    """The same of a layer of so many different samples."""
    spread = spread_of(layer)
    u, s, _ = torch.linalg.svd(spread.x, full_matrices=False)
    rank = int((s > spread.of_directions).sum())
    if rank == 0:
        raise NoVariance(f"every direction of {name} may be rounding (a mean far above the spread?): take the mean off")
    if n_components is not None:
        rank = min(rank, n_components)
    elif variance < 1:
        held = s.square().cumsum(0) / s.square().sum()
        rank = min(rank, int((held < variance).sum()) + 1)
    if rank >= different - 1:  # copies of a sample add no direction
        copies = "" if different == layer.n else f", {different} of them different"
        raise BadInput(
            f"{name} has {rank} directions on {layer.n} samples{copies}, so it predicts everything perfectly: "
            "pass more samples than features, or keep fewer principal components (svcca)"
        )
    return u[:, :rank]


def _noted(found: CanonicalCorrelations, mean: Callable[[Tensor], Tensor | float]) -> Estimate:
    trivial = found.n_trivial
    note = f"{trivial} of the correlations are 1 whatever the data: give more samples" if trivial else ""
    return Estimate(float(mean(found.values)), note=note)


def _between(left: Tensor, right: Tensor, n: int) -> CanonicalCorrelations:
    u, s, _ = torch.linalg.svd(left.T @ right, full_matrices=False)
    # Centred features lie in n - 1 dimensions: subspaces that have more together must intersect.
    trivial = max(0, left.shape[1] + right.shape[1] - (n - 1))
    return CanonicalCorrelations(s.clamp_max(1), left @ u, trivial)
