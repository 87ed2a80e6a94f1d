"""How fast the variance of a layer falls from direction to direction."""

from __future__ import annotations

from math import inf

from geomfeat import geometry
from geomfeat.registry import Quantity, measure
from geomfeat.types import Estimate, Representation


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
    spread = geometry.spread_of(rep)
    fit = geometry.power_law(spread, first=first, last=last)
    turned = spread.turned()
    sampling = geometry.group_jackknife(
        lambda rows: geometry.power_law(turned.take(rows), first=fit.first, last=fit.last).exponent, rep.n
    )
    return {
        "exponent": Estimate(fit.exponent, max(fit.stderr, sampling or 0.0)),
        "r2": Estimate(fit.r2),
        "first_rank": Estimate(fit.first),
        "last_rank": Estimate(fit.last),
    }
