"""How much of the change of function the initial tangent space does not explain."""

from __future__ import annotations

from math import inf

import torch

from geomfeat.errors import BadInput
from geomfeat.measures.network._probe_samples import affordable, attempted, noted, trained_parameters
from geomfeat.models.nested_inputs import batches
from geomfeat.numerics import jackknife_stderr
from geomfeat.registry import Quantity, measure
from geomfeat.snapshots import SnapshotPair
from geomfeat.tangent import jvp
from geomfeat.types import Estimate


@measure(
    source="Chizat, Oyallon and Bach 2019, eq. 3 (the linearised model); Lee et al. 2019, eq. 4",
    quantities={"gap": Quantity((0, inf), "", "0 = linear in the parameters (lazy); near 1 and beyond = rich")},
    needs={"init", "gradients"},
)
def linearisation_gap(pair: SnapshotPair, probes: int = 512) -> dict[str, dict[str, Estimate]]:
    """|f_T - f_lin| / |f_T - f_0| with f_lin = f_0 + J_0 (theta_T - theta_0), of the whole network (layer "").

    One Jacobian-vector product on at most `probes` samples. The standard error is a jackknife over samples. Buffers
    (running statistics) count as part of f_T and f_0, not of theta: where they changed, the note says so.

    >>> import torch
    >>> from geomfeat.types import Snapshot
    >>> net, after = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)  # linear in its parameters
    >>> pair = SnapshotPair(Snapshot(net, "init"), Snapshot(after), torch.eye(4, 2), layers=())
    >>> linearisation_gap(pair)[""]["gap"].value < 1e-12
    True
    """
    return {"": {"gap": attempted(lambda: _gap(pair, probes))}}


def _gap(pair: SnapshotPair, probes: int) -> Estimate:
    f, new = pair.f_initial, trained_parameters(pair)
    inputs, note = affordable(pair, probes)
    inputs = f.inputs(inputs)
    step = {name: new[name] - value for name, value in f.theta.items()}
    moved_besides = [k for k, v in f.fixed.items() if not torch.equal(v, new[k])]
    besides = f"{len(moved_besides)} buffers or frozen parameters changed too" if moved_besides else ""
    with torch.no_grad():
        change = torch.cat([pair.f_trained(pair.f_trained.theta, x) - f(f.theta, x) for _, x in batches(inputs, 64)])
    residual = change - jvp(f, inputs, step)
    size, left = change.square().sum(1), residual.square().sum(1)
    if not size.sum() > 0:
        if all(not v.any() for v in step.values()):
            return noted(Estimate(0.0), "the parameters did not change", note)
        raise BadInput("the outputs did not change although the parameters did: the linearisation gap is 0/0")
    without = (left.sum() - left).clamp_min(0).div(size.sum() - size).sqrt()
    stderr = jackknife_stderr(without) if len(size) >= 6 and bool(torch.isfinite(without).all()) else None
    return noted(Estimate(float((left.sum() / size.sum()).sqrt()), stderr), note, besides)
