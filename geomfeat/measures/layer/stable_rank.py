"""How many times the leading direction's variance a layer has."""

from __future__ import annotations

from math import inf

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


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
    spread = geometry.spread_of(rep)
    turned = spread.turned()
    stderr = geometry.group_jackknife(lambda rows: geometry.stable_rank(turned.take(rows)), rep.n)
    return Estimate(geometry.stable_rank(spread), stderr)
