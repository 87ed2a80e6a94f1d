"""How many directions carry the variance of a layer, corrected for the number of samples."""

from __future__ import annotations

from math import inf, isfinite

from geomfeat import geometry
from geomfeat.errors import BadInput
from geomfeat.registry import measure
from geomfeat.statistics.repeated_samples import repeats_once
from geomfeat.types import Estimate, Representation

ESTIMATORS = ("wishart", "unbiased")


@measure(
    source="Wishart moments (Gaussian rows), or U-statistics over distinct samples (Song et al. 2012, eq. 5)",
    bounds=(-inf, inf),
    unit="dimensions",
    direction="higher = variance in more directions; an estimate of the population's value, hence not bounded by n",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order"},
    min_samples=4,
)
def participation_ratio_corrected(rep: Representation, *, estimator: str = "wishart") -> Estimate:
    """Participation ratio of the population that the samples come from.

    Copies of a sample within a group count once, and the note counts others.

    estimator: "wishart" (exact moments for Gaussian rows; at least 1) or "unbiased" (no Gaussian assumption, noisier).

    >>> import torch
    >>> x = torch.randn(30, 50, generator=torch.Generator().manual_seed(0))
    >>> 35 < participation_ratio_corrected(Representation(x)).value < 65     # 50 in the population
    True
    """
    if estimator not in ESTIMATORS:
        raise BadInput(f"estimator={estimator!r}: use one of {', '.join(map(repr, ESTIMATORS))}")
    function = geometry.participation_ratio_wishart if estimator == "wishart" else geometry.participation_ratio_unbiased
    [rep], note = repeats_once(rep)
    spread = geometry.spread_of(rep)
    value = function(spread)
    if not isfinite(value) or value <= 0:
        return Estimate.failed(
            f"{rep.n} samples are too few: their covariance is as even as noise would make it; give more samples"
        )
    turned = spread.turned()
    return Estimate(value, geometry.group_jackknife(lambda rows: function(turned.take(rows)), rep.n), note=note)
