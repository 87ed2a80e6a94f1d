"""How many directions carry the variance of a layer, by entropy."""

from __future__ import annotations

from math import inf

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


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
    spread = geometry.spread_of(rep)
    turned = spread.turned()
    stderr = geometry.group_jackknife(lambda rows: geometry.effective_rank(turned.take(rows)), rep.n)
    return Estimate(geometry.effective_rank(spread), stderr)
