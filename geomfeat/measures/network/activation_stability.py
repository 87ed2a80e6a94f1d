"""The share of ReLU gates that training left as they were."""

from __future__ import annotations

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.location.padding import mean_of_samples
from geomfeat.measures.network._probe_samples import affordable, noted, trained_parameters
from geomfeat.measures.network._relu_gates import open_gates
from geomfeat.models.nested_inputs import batches, n_samples
from geomfeat.numerics import WORKING
from geomfeat.registry import Quantity, measure
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Estimate

Agreement = dict[str, tuple[Tensor, bool]]


@measure(
    source="Chou et al. 2025, supplement (activation stability); Chizat, Oyallon and Bach 2019, section 3",
    quantities={"stability": Quantity((0, 1), "", "1 = no gate flipped (lazy), .5 = as if redrawn")},
    needs={"init"},
)
def activation_stability(pair: SnapshotPair, probes: int = 512) -> dict[str, dict[str, Estimate]]:
    """mean[1(h > 0) = 1(h_0 > 0)] over the inputs h of ReLU-like gates, for each layer and (layer "") their mean.

    The rule: every call of a ReLU-like function (ReLU, ReLU6, leaky, P-, R-ReLU, ELU, CELU, SELU, GELU, SiLU,
    hard-swish, Mish; as a module or as a plain call) is a gate, and belongs to the layer of `pair.layers` that fired
    last before it. So h is the true pre-activation, after normalisation and residual sums. A layer without a gate
    after it (a read-out, or the layers of a tanh network) is a failed row. Padding, by masks among the inputs or by the
    lengths of packed sequences in the network, has no gates. The standard error is over samples.

    >>> import torch
    >>> from geomfeat.types import Snapshot
    >>> import copy
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> after = copy.deepcopy(net)
    >>> _ = after[0].requires_grad_(False).weight.mul_(3), after[0].bias.mul_(3)
    >>> pair = SnapshotPair(Snapshot(net, "init"), Snapshot(after), torch.eye(4, 2), layers=('0',))
    >>> activation_stability(pair)["0"]["stability"].value
    1.0
    """
    try:
        inputs, note = affordable(pair, probes)
        agreement = _agreement(pair, inputs)
    except BadInput as error:
        return {"": {"stability": Estimate.failed(str(error))}}
    if not agreement:
        none = "the network calls no ReLU-like function after these layers, so it has no gates: use feature_movement"
        return {layer: {"stability": Estimate.failed(none)} for layer in ("", *pair.layers)}
    rows = {layer: {"stability": _row(agreement.get(layer), note)} for layer in pair.layers}
    return {"": {"stability": noted(_mean(list(agreement.values())), note)}, **rows}


def _agreement(pair: SnapshotPair, inputs: object) -> Agreement:
    """Layer -> (agreement per sample (n,), True), or per batch where a gate's first dimension is not the sample."""
    trained_parameters(pair)
    parts: dict[str, list[Tensor]] = {}
    by_sample: dict[str, bool] = {}
    for _, x in batches(pair.f_initial.inputs(inputs), 64):
        gates, valid = open_gates(pair.f_initial, x, pair.layers)
        n, same = n_samples(x), dict[str, list[tuple[Tensor, Tensor]]]()
        for (layer, old), (other, new) in zip(gates, open_gates(pair.f_trained, x, pair.layers)[0], strict=False):
            if layer != other or old.shape != new.shape:
                raise BadInput("the two snapshots call different gates for the same inputs: stability is undefined")
            equal = (old == new).to(WORKING)
            found = mean_of_samples(equal, n, valid)
            by_sample[layer] = by_sample.get(layer, True) and found is not None
            if found is None:
                found = equal.mean().expand(n), equal.new_full((n,), equal.numel() / n)
            same.setdefault(layer, []).append(found)
        for layer, means in same.items():
            units = torch.stack([count for _, count in means]).sum(0)
            total = torch.stack([mean * count for mean, count in means]).sum(0)
            # A sample that is all padding has no gates.
            parts.setdefault(layer, []).append(torch.where(units > 0, total / units, torch.nan))
    return {layer: (torch.cat(values), by_sample[layer]) for layer, values in parts.items() if layer}


def _row(agreement: tuple[Tensor, bool] | None, note: str) -> Estimate:
    if agreement is None:
        return Estimate.failed("no ReLU-like gate follows this layer before the next: it has no activation pattern")
    return noted(_mean([agreement]), note)


def _mean(agreements: list[tuple[Tensor, bool]]) -> Estimate:
    """Mean over layers and samples, with the standard error over samples."""
    values = torch.stack([each for each, _ in agreements])
    values = values[:, ~values.isnan().any(0)].mean(0)
    if not len(values):
        return Estimate.failed("every sample is padding throughout, so no gate counts: check the mask of the inputs")
    known = all(aligned for _, aligned in agreements) and len(values) > 1
    return Estimate(float(values.mean()), float(values.std() / len(values) ** 0.5) if known else None)
