"""How far training broke what gradient flow conserves between adjacent linear layers, and the pair's lambda."""

from __future__ import annotations

import torch

from geomfeat.errors import BadInput
from geomfeat.measures.network._adjacent_layers import AdjacentLayers, adjacent_linear_layers
from geomfeat.measures.network._probe_samples import attempted
from geomfeat.regimes.linear_networks import layer_balance
from geomfeat.registry import Quantity, measure
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Estimate


@measure(
    source="Domine et al. 2024, definition 2.1 (lambda-balanced weights); conserved by gradient flow, Saxe et al. 2014",
    quantities={"drift": Quantity((0, 1), "", "higher = balance broken by large steps, noise or decay; 0 = conserved")},
    needs={"init"},
    min_samples=1,
    by_default=False,
)
def balance_drift(pair: SnapshotPair) -> dict[str, dict[str, Estimate]]:
    """Change of B = W2'W2 - W1 W1' of adjacent torch.nn.Linear layers, relative to the weights of both snapshots.

    |B(T) - B(0)| / sum over snapshots of (|W2'W2| + |W1 W1'|), Frobenius, under the lower layer's name. The note gives
    lambda, the mean of B's diagonal, before and after, and the residual |B - lambda I| / (|W2'W2| + |W1 W1'|): 0 = the
    exact theory of two-layer linear networks holds. Adjacent = one after the other among the model's modules, with
    widths that chain and no other weights between; a nonlinearity between conserves the diagonal of B only if it is
    homogeneous. Layer "" is the mean over pairs.

    >>> import copy
    >>> from geomfeat.types import Snapshot
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    >>> _ = [torch.nn.init.eye_(layer.weight) for layer in net]
    >>> after = copy.deepcopy(net)
    >>> _ = after[1].requires_grad_(False).weight.mul_(2)
    >>> row = balance_drift(SnapshotPair(Snapshot(net, "init"), Snapshot(after), torch.eye(2)))["0"]["drift"]
    >>> round(row.value, 4), row.note
    (0.4286, 'with 1: lambda 0 -> 3, residual 0.00 -> 0.00')
    """
    old, new = (adjacent_linear_layers(snapshot.model) for snapshot in (pair.initial, pair.trained))
    if not old or old.keys() != new.keys():
        what = "the snapshots have different layers" if old else "no two adjacent torch.nn.Linear layers share a width"
        remedy = "pass weights to geomfeat.regimes.linear_networks.balance.layer_balance by hand"
        return {"": {"drift": Estimate.failed(f"{what}: {remedy}")}}
    rows = {name: {"drift": attempted(lambda name=name: _drift(old[name], new[name]))} for name in old}
    good = [row["drift"].value for row in rows.values() if row["drift"].ok]
    whole = (
        Estimate(sum(good) / len(good), note=f"mean over {len(good)} pairs of layers")
        if good
        else Estimate.failed("no pair of layers has a drift: see the notes of the layers' own rows")
    )
    return {"": {"drift": whole}, **rows}


def _drift(old: AdjacentLayers, new: AdjacentLayers) -> Estimate:
    if (old.first.shape, old.second.shape) != (new.first.shape, new.second.shape):
        raise BadInput("the snapshots differ in the shapes of the weights: give two checkpoints of one model")
    before, after = (layer_balance(two.first, two.second) for two in (old, new))
    grams = [(two.second.mT @ two.second, two.first @ two.first.mT) for two in (old, new)]
    size = sum(float(upper.norm() + lower.norm()) for upper, lower in grams)
    if not size > 0:
        raise BadInput("both layers are zero in both snapshots: their balance is undefined")
    was, became = (upper - lower for upper, lower in grams)
    note = (
        f"with {new.upper}: lambda {before.value:.3g} -> {after.value:.3g}, "
        f"residual {before.residual:.2f} -> {after.residual:.2f}"
    )
    return Estimate(float(torch.linalg.matrix_norm(became - was)) / size, note=note)
