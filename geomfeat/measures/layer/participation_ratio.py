"""How many directions carry the variance of a layer, as sampled."""

from __future__ import annotations

from math import inf

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


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
    spread = geometry.spread_of(rep)
    turned = spread.turned()
    stderr = geometry.group_jackknife(lambda rows: geometry.participation_ratio(turned.take(rows)), rep.n)
    return Estimate(geometry.participation_ratio(spread), stderr)
