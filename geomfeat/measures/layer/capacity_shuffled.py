"""The control for capacity: what the same points give to classes that mean nothing."""

from __future__ import annotations

from math import inf, isfinite

from geomfeat import geometry
from geomfeat.registry import Quantity, measure
from geomfeat.statistics.group_errors import errors_over_draws
from geomfeat.types import Estimate, Representation

QUANTITIES = {
    "capacity": Quantity((0, inf), "classes per dimension", "value for shuffled labels; true classes lie above"),
    "dimension": Quantity((0, inf), "dimensions", "value for shuffled labels"),
    "radius": Quantity((0, inf), "centre norms", "value for shuffled labels"),
    "center_alignment": Quantity((0, 1), "|cos|", "value for shuffled labels: a floor for this layer"),
    "axis_alignment": Quantity((0, 1), "|cos|", "value for shuffled labels: a floor for this layer"),
    "center_axis_alignment": Quantity((0, 1), "|cos|", "value for shuffled labels: a floor for this layer"),
}

FILLED = "shuffled classes fill the layer: t lies inside its cone in every draw; use more units or fewer samples"
UNDEFINED = "too few shuffled classes with moving anchors in the same draws: raise n_draws, or give more units"


@measure(
    source="Chou, Le, Wang and Chung 2025 (arXiv 2503.18114), with labels permuted over the points",
    quantities=QUANTITIES,
    invariant_to={"duplication", "scale"},
    needs={"labels"},
    stochastic=True,
    by_default=False,
)
def capacity_shuffled(
    rep: Representation,
    *,
    n_draws: int = 50,
    dichotomies: str = "random",
    center: str | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Capacity, dimension, radius and alignments after the labels were shuffled over the points (a control).

    Directions and signs are the first of those that `capacity` uses. A quarter of its draws is enough for a floor.

    >>> import torch
    >>> x, labels = torch.eye(12), torch.arange(12) // 3     # any 4 classes of 3 orthonormal points: 2/3
    >>> c = capacity_shuffled(Representation(x, labels), n_draws=400)["capacity"]
    >>> abs(c.value - 2 / 3) < 4 * c.stderr
    True
    """
    found = geometry.shuffled_control(rep, n_draws=n_draws, dichotomies=dichotomies, center=center, seed=seed)
    return errors_over_draws({name: _estimate(found, name) for name in QUANTITIES}, rep)


def _estimate(found: geometry.Capacity, name: str) -> Estimate:
    value, stderr = getattr(found, name), getattr(found, f"{name}_se")
    if not isfinite(value):
        return Estimate.failed(FILLED if found.frac_inside == 1 else "; ".join([UNDEFINED, *found.notes]))
    note = "; ".join(found.notes)
    return Estimate(value, stderr if isfinite(stderr) else None, ok=found.n_uncertified == 0, note=note)
