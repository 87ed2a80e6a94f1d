"""RankMe of a layer, with and without its mean."""

from __future__ import annotations

from math import inf

from geomfeat import geometry
from geomfeat.registry import Quantity, measure
from geomfeat.types import Estimate, Representation


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
    turned = rep.with_(x=geometry.reduced(rep.x))

    def estimate(center: bool) -> Estimate:
        stderr = geometry.group_jackknife(lambda rows: geometry.rankme(turned.take(rows), center=center), rep.n)
        return Estimate(geometry.rankme(rep, center=center), stderr)

    return {"uncentred": estimate(False), "centred": estimate(True)}
