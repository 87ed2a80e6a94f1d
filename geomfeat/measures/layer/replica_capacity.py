"""The older mean-field account of class capacity, for comparison with what was published with it."""

from __future__ import annotations

from math import inf, isfinite

from geomfeat import geometry
from geomfeat.registry import Quantity, measure
from geomfeat.statistics.group_errors import errors_over_draws
from geomfeat.types import Estimate, Representation

QUANTITIES = {
    "capacity": Quantity((0, inf), "classes per dimension", "higher = classes easier to separate linearly"),
    "radius": Quantity((0, inf), "centre norms", "lower = easier to separate"),
    "dimension": Quantity((0, inf), "dimensions", "lower = easier to separate"),
    "center_correlation": Quantity((0, 1), "|cos|", "lower = nearer to what the theory assumes"),
}


@measure(
    source="Chung, Lee and Sompolinsky 2018 (PRX 8 031003); Cohen et al. 2020 (Nat. Commun. 11 746)",
    quantities=QUANTITIES,
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    needs={"labels"},
    stochastic=True,
    by_default=False,
)
def replica_capacity(
    rep: Representation,
    *,
    kappa: float = 0.0,
    n_draws: int = 200,
    center_rank: int | str | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Mean-field capacity of the classes one by one, with anchor radius, dimension and the correlation of the centres.

    kappa: margin; center_rank: shared directions of the centres to remove first (None, "auto" or a number). Classes
    interact in `capacity` (GLUE) alone: here each counts as if the centres of the others were random.

    >>> import torch
    >>> x, labels = torch.eye(20), torch.arange(20)                       # single points
    >>> c = replica_capacity(Representation(x, labels))["capacity"]
    >>> abs(c.value - 2) < 4 * c.stderr
    True
    """
    found = geometry.replica_capacity(rep, kappa=kappa, n_draws=n_draws, center_rank=center_rank, seed=seed)
    note = "; ".join(found.notes)
    errors = {"capacity": found.capacity_se, "radius": found.radius_se, "dimension": found.dimension_se}
    out = {}
    for name in QUANTITIES:
        value, stderr = getattr(found, name), errors.get(name)
        usable = stderr if stderr is not None and isfinite(stderr) else None
        failed = note or "no draw met any class: raise n_draws"
        whole = found.n_uncertified == 0
        out[name] = Estimate(value, usable, whole, note) if isfinite(value) else Estimate.failed(failed)
    return errors_over_draws(out, rep)
