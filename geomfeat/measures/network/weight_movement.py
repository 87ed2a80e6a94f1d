"""How far the weights of every layer moved, relative to their initial size."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.measures.network._probe_samples import attempted
from geomfeat.models.effective_weights import effective_weights, inside_parametrization
from geomfeat.models.functional import unwrapped
from geomfeat.numerics import WORKING
from geomfeat.registry import Quantity, measure
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Estimate

Weights = dict[str, dict[str, Tensor]]


@measure(
    source="Karkada 2024, section 3 (spectral norms of weight updates); Chizat, Oyallon and Bach 2019 (Frobenius)",
    quantities={
        "spectral": Quantity((0, inf), "", "higher = weights moved more; lazy < .2, rich >= .8"),
        "frobenius": Quantity((0, inf), "", "higher = weights moved more; 0 = lazy"),
    },
    needs={"init"},
    min_samples=1,
)
def weight_movement(pair: SnapshotPair) -> dict[str, dict[str, Estimate]]:
    """Spectral |DW|_2 / |W0|_2 and Frobenius |Dw| / |w0| of every module that itself has parameters.

    Spectral: a convolution kernel as the matrix (out, in k k), a gain vector without a matrix beside it as a diagonal
    matrix; of several matrices (LSTM, attention) the one that moved most, named in the note. Frobenius: all of the
    module's own parameters together. Layer "" is the whole network: Frobenius over all its weights, and spectral
    the geometric mean over the modules with weight matrices. A weight that is made of others (weight norm, spectral
    norm, parametrizations) counts as what the module computes with.

    >>> import torch
    >>> from geomfeat.types import Snapshot
    >>> import copy
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> after = copy.deepcopy(net)
    >>> _ = after[0].requires_grad_(False).weight.mul_(3), after[0].bias.mul_(3)
    >>> pair = SnapshotPair(Snapshot(net, "init"), Snapshot(after), torch.eye(4, 2), layers=('0',))
    >>> round(weight_movement(pair)["0"]["spectral"].value, 5)
    2.0
    """
    old, new = own_weights(pair.initial.model), own_weights(pair.trained.model)
    wrong = [name for name in {**old, **new} if _shapes(old.get(name)) != _shapes(new.get(name))]
    if wrong or not old:
        what = f"the snapshots differ in the parameters of {wrong[:5]}" if wrong else "the model has no parameters"
        failed = Estimate.failed(f"{what}: give two checkpoints of one model with weights")
        return {"": {"spectral": failed, "frobenius": failed}}
    rows = {
        layer: {
            "spectral": attempted(lambda l=layer: _spectral(old[l], new[l])),
            "frobenius": attempted(lambda l=layer: _frobenius(old[l], new[l])),
        }
        for layer in old
    }
    return {"": {"spectral": _mean(rows, old), "frobenius": attempted(lambda: _whole(pair, old, new))}, **rows}


def own_weights(model: nn.Module) -> Weights:
    """Module name -> its own parameters by name; one that is made of others as the weight that results.

    Parameters of the model itself are listed under their own name, as in `geomfeat.tangent.parameter_group`.
    """
    out: dict[str, dict[str, Tensor]] = {}
    for name, module in unwrapped(model).named_modules():
        if inside_parametrization(name):
            continue
        for key, value in effective_weights(module).items():
            out.setdefault(name or key, {})[key] = value.to(torch.complex128 if value.is_complex() else WORKING)
    return out


def spectral_norm(weight: Tensor) -> float:
    """Largest singular value of a weight as a matrix (out, everything else); of a vector as a diagonal matrix."""
    if weight.ndim < 2:
        return float(weight.abs().max()) if weight.numel() else 0.0
    matrix = weight.flatten(1)
    gram = matrix @ matrix.mH if matrix.shape[0] <= matrix.shape[1] else matrix.mH @ matrix
    # The largest eigenvalue of the smaller Gram matrix is exact to rounding, and far cheaper than all singular values.
    return float(torch.linalg.eigvalsh(gram)[-1].clamp_min(0).sqrt())


def _shapes(weights: dict[str, Tensor] | None) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in (weights or {}).items()}


def _spectral(old: dict[str, Tensor], new: dict[str, Tensor]) -> Estimate:
    matrices = [k for k, v in old.items() if v.ndim >= 2] or [k for k in old if "bias" not in k] or list(old)
    ratios = {}
    for key in matrices:
        size = spectral_norm(old[key])
        if size > 0:
            ratios[key] = spectral_norm(new[key] - old[key]) / size
    if not ratios:
        raise BadInput(f"{', '.join(matrices)} start at zero: relative movement is undefined")
    most = max(ratios, key=lambda key: ratios[key])
    return Estimate(ratios[most], note=f"{most}, of {len(matrices)} matrices the most moved" if matrices[1:] else "")


def _frobenius(old: Mapping[Any, Tensor], new: Mapping[Any, Tensor]) -> Estimate:
    moved = sum(float((new[k] - old[k]).abs().square().sum()) for k in old)
    size = sum(float(v.abs().square().sum()) for v in old.values())
    if not size > 0:
        raise BadInput(f"{', '.join(map(str, old))} start at zero: relative movement is undefined")
    return Estimate((moved / size) ** 0.5)


def _whole(pair: SnapshotPair, old: Weights, new: Weights) -> Estimate:
    """Frobenius over all weights, a shared one once."""
    again = _shared(pair.initial.model)
    both = [{(layer, k): v for layer, own in w.items() for k, v in own.items()} for w in (old, new)]
    before, after = ({place: v for place, v in w.items() if place not in again} for w in both)
    return _frobenius(before, after)


def _shared(model: nn.Module) -> set[tuple[str, str]]:
    """(layer, name) of parameters that a module before holds already."""
    seen, again = set[int](), set[tuple[str, str]]()
    for name, module in unwrapped(model).named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                again.add((name or key, key))
            seen.add(id(parameter))
    return again


def _mean(rows: dict[str, dict[str, Estimate]], old: dict[str, dict[str, Tensor]]) -> Estimate:
    layers = [layer for layer, own in old.items() if any(v.ndim >= 2 for v in own.values())]
    values = torch.tensor([rows[layer]["spectral"].value for layer in layers if rows[layer]["spectral"].ok])
    if not len(values):
        return Estimate.failed("no module has a weight matrix that starts away from zero")
    return Estimate(float(values.to(WORKING).log().mean().exp()))
