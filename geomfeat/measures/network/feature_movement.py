"""How far the features of every layer moved, relative to their initial size."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from geomfeat.geometry.similarity import relative_change
from geomfeat.location.padding import may_pack, valid_positions, without_padding
from geomfeat.measures.network._probe_samples import attempted
from geomfeat.models.nested_inputs import as_inputs
from geomfeat.models.readouts.token_masks import valid_tokens
from geomfeat.numerics import WORKING, jackknife_stderr
from geomfeat.registry import Quantity, measure
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Estimate


@measure(
    source="Chizat, Oyallon and Bach 2019, section 1; Karkada 2024, section 3 (movement of hidden representations)",
    quantities={"relative": Quantity((0, inf), "", "higher = features moved more; 0 = lazy")},
    needs={"init"},
    min_samples=2,
)
def feature_movement(pair: SnapshotPair) -> dict[str, dict[str, Estimate]]:
    """|h_T - h_0| / |h_0| of every hidden layer on the same inputs, and the geometric mean over layers (layer "").

    log10 of it is the movement M of a layer; log10 of the geometric mean is M averaged over layers. A layer that did
    not move at all therefore makes the mean 0. Padding, by the attention mask of the inputs or by packed sequences in
    the network, is no feature. Standard errors are jackknives over samples, the mean's a joint one.

    >>> import torch
    >>> from geomfeat.types import Snapshot
    >>> import copy
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> after = copy.deepcopy(net)
    >>> _ = after[0].requires_grad_(False).weight.mul_(3), after[0].bias.mul_(3)
    >>> pair = SnapshotPair(Snapshot(net, "init"), Snapshot(after), torch.eye(4, 2), layers=('0',))
    >>> round(feature_movement(pair)["0"]["relative"].value, 5)
    2.0
    """
    if not pair.layers and not pair.initial_reps:
        return {"": {"relative": _geometric_mean([], 0)}}
    packs = may_pack(pair.initial.model)
    valid = valid_positions(pair.f_initial, pair.inputs) if packs else valid_tokens(as_inputs(pair.inputs))
    rows: dict[str, dict[str, Estimate]] = {}
    moved: list[tuple[Tensor, Tensor]] = []
    for layer, old in pair.before.items():
        new = pair.after.get(layer)
        old, new = without_padding(old, valid), None if new is None else without_padding(new, valid)
        if new is None:
            estimate = Estimate.failed(f"layer {layer!r} has no features at the trained snapshot: extract both alike")
        else:
            estimate = attempted(lambda new=new, old=old: relative_change(new.x, old.x))
            if estimate.ok:
                difference = new.x.to(WORKING) - old.x.to(WORKING)
                moved.append((difference.square().sum(1), old.x.to(WORKING).square().sum(1)))
        rows[layer] = {"relative": estimate}
    return {"": {"relative": _geometric_mean(moved, len(rows))}, **rows}


def _geometric_mean(moved: list[tuple[Tensor, Tensor]], n_layers: int) -> Estimate:
    if not moved:
        return Estimate.failed("no hidden layer has features to compare: choose layers that fire on these inputs")
    left_out = n_layers - len(moved)
    note = f"{left_out} of {n_layers} layers left out: they have no relative change" if left_out else ""
    logs = torch.stack([(m.sum() / s.sum()).log() / 2 for m, s in moved])
    value = float(logs.mean().exp())
    same_samples = len({len(m) for m, _ in moved}) == 1
    if value == 0 or not same_samples:
        return Estimate(value, None, True, note)
    without = torch.stack([((m.sum() - m) / (s.sum() - s)).log() / 2 for m, s in moved]).mean(0).exp()
    usable = len(without) >= 6 and bool(torch.isfinite(without).all())
    return Estimate(value, jackknife_stderr(without) if usable else None, True, note)
