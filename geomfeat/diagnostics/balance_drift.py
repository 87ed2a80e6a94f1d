"""How far training broke what gradient flow conserves between adjacent linear layers, and the pair's lambda."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from geomfeat.diagnostics._probes import attempted
from geomfeat.diagnostics.pair import SnapshotPair
from geomfeat.errors import BadInput
from geomfeat.models.functional import unwrapped
from geomfeat.numerics import WORKING
from geomfeat.regimes.linear_balance import layer_balance
from geomfeat.registry import Quantity, measure
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

    |B(T) - B(0)| / sum over snapshots of (|W2'W2| + |W1 W1'|), Frobenius, under the lower layer's name. The note tells
    lambda, the mean of B's diagonal, before and after, and the residual |B - lambda I| / (|W2'W2| + |W1 W1'|): 0 = the
    exact theory of two-layer linear networks holds. Adjacent = one after the other among the model's modules, with
    widths that chain; a nonlinearity between conserves the diagonal of B only if it is homogeneous. Layer "" is the
    mean over pairs.

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
    old, new = linear_pairs(pair.initial.model), linear_pairs(pair.trained.model)
    if not old or old.keys() != new.keys():
        what = "the snapshots have different layers" if old else "no two adjacent torch.nn.Linear layers share a width"
        return {
            "": {
                "drift": Estimate.failed(
                    f"{what}: pass weights to geomfeat.regimes.linear_balance.layer_balance by hand"
                )
            }
        }
    rows = {lower: {"drift": attempted(lambda k=(lower, upper): _drift(k[1], old[k], new[k]))} for lower, upper in old}
    good = [row["drift"].value for row in rows.values() if row["drift"].ok]
    whole = (
        Estimate(sum(good) / len(good), note=f"mean over {len(good)} pairs of layers")
        if good
        else Estimate.failed("no pair of layers has a drift: see the notes of the layers' own rows")
    )
    return {"": {"drift": whole}, **rows}


def linear_pairs(model: nn.Module) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    """(lower, upper) names -> float64 weights of linear modules that follow one another with widths that chain."""
    layers = [(name, m) for name, m in unwrapped(model).named_modules() if isinstance(m, nn.Linear)]
    return {
        (lower, upper): (w1.weight.detach().to(WORKING), w2.weight.detach().to(WORKING))
        for (lower, w1), (upper, w2) in pairwise(layers)
        if w2.in_features == w1.out_features
    }


def _drift(upper: str, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> Estimate:
    if [w.shape for w in old] != [w.shape for w in new]:
        raise BadInput("the snapshots differ in the shapes of the weights: give two checkpoints of one model")
    before, after = (layer_balance(*weights) for weights in (old, new))
    size = sum(float((w2.mT @ w2).norm() + (w1 @ w1.mT).norm()) for w1, w2 in (old, new))
    if not size > 0:
        raise BadInput("both layers are zero in both snapshots: there is no balance to compare")
    (a1, a2), (b1, b2) = old, new
    change = torch.linalg.matrix_norm((b2.mT @ b2 - b1 @ b1.mT) - (a2.mT @ a2 - a1 @ a1.mT))
    note = (
        f"with {upper}: lambda {before.value:.3g} -> {after.value:.3g}, "
        f"residual {before.residual:.2f} -> {after.residual:.2f}"
    )
    return Estimate(float(change) / size, note=note)
