"""How many dimensions a random projection needs for the classes to stay linearly separable: by simulation."""

from __future__ import annotations

from math import inf, isfinite

from geomfeat import geometry
from geomfeat.registry import Quantity, measure
from geomfeat.statistics.group_errors import errors_over_draws
from geomfeat.types import Estimate, Representation

QUANTITIES = {
    "capacity": Quantity((0, inf), "classes per dimension", "higher = classes easier to separate linearly"),
    "frac_nonseparable": Quantity((0, 1), "share of dichotomies", "no hyperplane separates them in any dimension"),
}


@measure(
    source="Cohen, Chung, Lee and Sompolinsky 2020 (Nat. Commun. 11, 746), Methods; and bisection",
    quantities=QUANTITIES,
    invariant_to={"rotation", "scale", "sample order", "unit order", "duplication"},
    needs={"labels"},
    stochastic=True,
    by_default=False,
)
def simulated_capacity(
    rep: Representation,
    *,
    bias: bool = False,
    n_trials: int = 30,
    dichotomies: str = "random",
    center: str | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Classes per dimension at which half of the dichotomies stay separable after a random projection.

    dichotomies: "random", "one-vs-rest" or "balanced"; center: None or "global". Its error falls with the square root
    of n_trials. Without a number if most dichotomies are not separable in the layer itself.

    >>> import torch
    >>> found = simulated_capacity(Representation(torch.eye(12), torch.arange(12)))["capacity"]
    >>> abs(found.value - 2) < 4 * found.stderr
    True
    """
    found = geometry.simulated_capacity(
        rep, bias=bias, n_trials=n_trials, dichotomies=dichotomies, center=center, seed=seed
    )
    note = "; ".join(found.notes)
    decided = found.n_undecided == 0
    share = found.frac_nonseparable
    error = (share * (1 - share) / max(1, found.n_trials - found.n_undecided)) ** 0.5
    estimates = {
        "capacity": (
            Estimate(found.capacity, found.capacity_se if isfinite(found.capacity_se) else None, decided, note)
            if isfinite(found.capacity)
            else Estimate.failed(note)
        ),
        "frac_nonseparable": Estimate(share, error, decided, note),
    }
    return errors_over_draws(estimates, rep)
