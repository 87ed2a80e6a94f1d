"""How many modes of adjacent linear layers are lazy and how many rich, from the trained weights alone."""

from __future__ import annotations

from math import exp, inf, log
from statistics import fmean

from torch import Tensor

from geomfeat.measures.network._adjacent_layers import adjacent_linear_layers
from geomfeat.regimes.linear_networks import mode_regimes
from geomfeat.regimes.linear_networks.mode_regime import LARGEST
from geomfeat.registry import Quantity, measure
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Estimate


@measure(
    source="Tu, Aranguri and Jacot 2024, section 2 (threshold sigma^2 w of a singular value), read without the start",
    quantities={
        "strongest": Quantity((0, inf), "", "higher = strongest mode richer; lazy < 1/3, rich > 3"),
        "rich": Quantity((0, 1), "share of squared strength", "higher = more of the map is in rich modes"),
        "lazy": Quantity((0, 1), "share of squared strength", "higher = more of the map is in lazy modes"),
    },
    min_samples=1,
    by_default=False,
)
def mode_regime(pair: SnapshotPair) -> dict[str, dict[str, Estimate]]:
    """Regimes of the modes of W2 W1 for adjacent linear layers: rho of the strongest, shares in rich and lazy modes.

    Reads the trained weights only. A row is named after the first layer of its pair; two layers are adjacent when they
    follow one another in the order of the modules and their sizes fit. Assumes small independent random weights of one
    size at the start, no weight decay, and nothing nonlinear between the two; where an activation stands there, the
    note says so and the numbers describe the weights only. Layer "" averages over the pairs (rho geometrically).

    >>> import torch
    >>> from geomfeat.types import Snapshot
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 1, bias=False))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.eye(2)), net[1].weight.copy_(torch.eye(1, 2))
    >>> pair = SnapshotPair(Snapshot(net, "init"), Snapshot(net), torch.eye(4, 2))
    >>> mode_regime(pair)["0"]["rich"].value
    1.0
    """
    found_pairs = adjacent_linear_layers(pair.trained.model)
    rows = {name: _row(two.first, two.second, two.description) for name, two in found_pairs.items()}
    found = [row for row in rows.values() if row["strongest"].ok]
    if not found:
        why = "all pairs are zero" if rows else "no two linear layers follow one another with sizes that fit"
        return {"": _failed(f"{why}: modes need two trained linear layers, W2 W1"), **rows}
    whole = {
        # A mean of logarithms; strengths of kept modes are above zero.
        "strongest": Estimate(exp(fmean(log(row["strongest"].value) for row in found))),
        **{name: Estimate(fmean(row[name].value for row in found)) for name in ("rich", "lazy")},
    }
    return {"": whole, **rows}


def _row(first: Tensor, second: Tensor, note: str) -> dict[str, Estimate]:
    modes = mode_regimes(first, second)
    if not len(modes.rho):
        return _failed(f"{note}: the product of the two weights is zero, so it has no modes; train the network first")
    share = modes.strengths.square() / modes.strengths.square().sum()
    top = float(modes.rho[0])
    most = "; at or above what rounding leaves" if top >= LARGEST else ""
    return {
        "strongest": Estimate(top, note=note + most),
        "rich": Estimate(float(share[modes.rich].sum().clamp_max(1)), note=note),
        "lazy": Estimate(float(share[modes.lazy].sum().clamp_max(1)), note=note),
    }


def _failed(note: str) -> dict[str, Estimate]:
    return {name: Estimate.failed(note) for name in ("strongest", "rich", "lazy")}
