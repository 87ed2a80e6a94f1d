"""How many directions carry the variance of a layer, from the spectrum of its covariance."""

from __future__ import annotations

from math import inf, isfinite

import torch

from geomfeat import geometry
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.distinct_samples import population_participation_ratio
from geomfeat.geometry.dimension.eigenspectrum import power_law_with_error
from geomfeat.registry import Quantity, measure
from geomfeat.statistics.repeated_samples import repeats_once
from geomfeat.types import Estimate, Representation

ESTIMATORS = ("unbiased", "wishart")
# Groups that a product of distinct samples takes.
FOUR = 4
PERCENT = (80, 90, 95, 99)


@measure(
    source="Roy and Vetterli 2007, on eigenvalues of the covariance",
    bounds=(1, inf),
    unit="dimensions",
    direction="higher = variance spread more evenly; counts weak directions more than the participation ratio",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
)
def effective_rank(rep: Representation) -> Estimate:
    """exp of the entropy of the covariance eigenvalues' shares.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(effective_rank(Representation(x)).value, 9)
    2.0
    """
    return geometry.effective_rank(rep)


@measure(
    source="Gao et al. 2017 (bioRxiv 214262), eq. 5",
    bounds=(1, inf),
    unit="dimensions",
    direction="higher = variance in more directions; biased low unless n is many times the value",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
)
def participation_ratio(rep: Representation) -> Estimate:
    """Participation ratio of the sample covariance, (sum l)^2 / sum l^2: biased low by finite n.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(participation_ratio(Representation(x)).value, 9)
    2.0
    """
    return geometry.participation_ratio(rep)


@measure(
    source="Wishart moments (Gaussian rows), or U-statistics over distinct samples (Song et al. 2012, eq. 5)",
    bounds=(-inf, inf),
    unit="dimensions",
    direction="higher = variance in more directions; an estimate of the population's value, hence not bounded by n",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order"},
    min_samples=4,
)
def participation_ratio_corrected(rep: Representation, *, estimator: str = "unbiased") -> Estimate:
    """Participation ratio of the population that the samples come from.

    Copies of a sample within a group count once, and the note counts others.

    estimator: "unbiased" (rows of any distribution; with four groups or more, samples of different groups alone, since
    those of a group are not independent) or "wishart" (exact moments for independent Gaussian rows, less noisy there,
    at least 1; too low for heavy tails, such as samples that differ in their gain, and for correlated samples).

    >>> import torch
    >>> x = torch.randn(30, 50, generator=torch.Generator().manual_seed(0))
    >>> 35 < participation_ratio_corrected(Representation(x)).value < 65     # 50 in the population
    True
    """
    if estimator not in ESTIMATORS:
        raise BadInput(f"estimator={estimator!r}: use one of {', '.join(map(repr, ESTIMATORS))}")
    [rep], note = repeats_once(rep)
    few = rep.groups is not None and len(torch.unique(rep.groups)) < FOUR
    groups = None if few else rep.groups
    if few and estimator == "unbiased":
        said = f"fewer than {FOUR} groups: samples of a group are taken as independent"
        note = "; ".join(filter(None, (note, said)))

    value, error = population_participation_ratio(rep, groups, gaussian=estimator == "wishart")
    if not isfinite(value) or value <= 0:
        return Estimate.failed(
            f"{rep.n} samples are too few: their covariance is as even as noise would make it; give more samples"
        )
    return Estimate(value, error, note=note)


@measure(
    source="Jolliffe 2002 (Principal Component Analysis), section 6.1.1",
    quantities={
        f"percent_{p}": Quantity((1, inf), "components", f"higher = more directions needed for {p} % of the variance")
        for p in PERCENT
    },
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    by_default=False,
)
def pca_components(rep: Representation) -> dict[str, Estimate]:
    """Fewest principal components that hold 80, 90, 95 and 99 % of the variance: low where samples are few.

    >>> import torch
    >>> x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> [int(found.value) for found in pca_components(Representation(x)).values()]
    [1, 2, 2, 2]
    """
    spread = geometry.spread_of(rep)
    counts = [geometry.components_for_variance(spread, p / 100) for p in PERCENT]
    return {f"percent_{p}": Estimate(count) for p, count in zip(PERCENT, counts, strict=True)}


@measure(
    source="Stringer et al. 2019 (Nature 571, 361), fig. 2",
    quantities={
        "exponent": Quantity((0, inf), "", "higher = faster decay, fewer directions matter"),
        "r2": Quantity((0, 1), "", "near 1 = the decay is a power law over the fitted ranks"),
        "first_rank": Quantity((1, inf), "rank", ""),
        "last_rank": Quantity((5, inf), "rank", ""),
    },
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=6,
)
def power_law_exponent(
    rep: Representation, *, first: int | None = None, last: int | None = None
) -> dict[str, Estimate]:
    """Exponent a of l_k ~ k^-a, with its fit range and R^2.

    The error is the larger of the fit's and the jackknife's over samples. first, last: ranks to fit (default 5 % to
    50 % of the eigenvalues).

    >>> import torch
    >>> x = torch.diag(torch.arange(1, 101) ** -0.5)                    # eigenvalues 1/k
    >>> abs(power_law_exponent(Representation(torch.cat([x, -x])))["exponent"].value - 1) < 1e-5
    True
    """
    fit, sampling = power_law_with_error(rep, first=first, last=last)
    return {
        "exponent": Estimate(fit.exponent, max(fit.stderr, sampling or 0.0)),
        "r2": Estimate(fit.r2),
        "first_rank": Estimate(fit.first),
        "last_rank": Estimate(fit.last),
    }


@measure(
    source="Garrido et al. 2023 (ICML), eq. 1: singular values, not centred; and of centred samples",
    quantities={
        "uncentred": Quantity(
            (1, inf), "dimensions", "higher = singular values more even; as published, with the mean"
        ),
        "centred": Quantity((1, inf), "dimensions", "higher = singular values of the centred samples more even"),
    },
    invariant_to={"rotation", "scale", "sample order", "unit order", "duplication"},
    by_default=False,
)
def rankme(rep: Representation) -> dict[str, Estimate]:
    """exp of the entropy of the singular values' shares: as published (with the mean), and of centred samples.

    `effective_rank` is that of the eigenvalues, which are the squares, of centred samples.

    >>> import torch
    >>> round(rankme(Representation(torch.eye(3)))["uncentred"].value, 9)
    3.0
    """
    return {"uncentred": geometry.rankme(rep), "centred": geometry.rankme(rep, center=True)}


@measure(
    source="Rudelson and Vershynin 2007, section 1",
    bounds=(1, inf),
    unit="dimensions",
    direction="higher = variance less concentrated in the leading direction",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
)
def stable_rank(rep: Representation) -> Estimate:
    """Total variance over that of the leading direction, sum l / max l.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(stable_rank(Representation(x)).value, 9)
    2.0
    """
    return geometry.stable_rank(rep)
