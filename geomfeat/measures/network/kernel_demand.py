"""How far the learned change exceeds the largest one for which the tangent kernel stays put."""

from __future__ import annotations

import math
from math import inf

import torch

from geomfeat.errors import BadInput, CheckpointMismatch, OutOfMemory
from geomfeat.location.kernel_demand import demand_on_target, kernel_demand as demand_on_kernel
from geomfeat.measures.network._probe_samples import affordable, trained_parameters
from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.numerics import WORKING
from geomfeat.regimes.linearization.response import respond
from geomfeat.registry import Quantity, measure
from geomfeat.snapshots import SnapshotPair
from geomfeat.tangent import ntk, vjp
from geomfeat.types import Estimate

QUANTITIES = {
    "demand": Quantity((-inf, inf), "decades", "<< 0: the kernel stays put, as in a model linear in its weights"),
    "on_target": Quantity((-inf, inf), "decades", "the same of the part of the kernel that acts on the change"),
}
ROWS, FEWEST = 512, 8  # of the kernel, n * C, which is formed some seven times
SHARES = (0.01, 0.1)  # of the change, left where the responses of the two demands stop


@measure(
    source="Chizat, Oyallon and Bach 2019, section 1.2 (its criterion, measured instead of bounded): this package",
    quantities=QUANTITIES,
    needs={"init", "gradients"},
    min_samples=2,
    by_default=False,
)
def kernel_demand(pair: SnapshotPair, probes: int = 128) -> dict[str, dict[str, Estimate]]:
    """kappa and kappa_a, the demands on the tangent kernel, of the whole network (layer "").

    Of all trainable parameters at equal rates, on at most `probes` samples, fewer with many outputs. A location has the
    same numbers in the coordinates of an optimizer, of the parameters that moved, with intervals: see `locate`.

    >>> import torch
    >>> from geomfeat.types import Snapshot
    >>> net, after = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    >>> pair = SnapshotPair(Snapshot(net, "init"), Snapshot(after), torch.eye(4, 2), layers=())
    >>> kernel_demand(pair)[""]["demand"].note
    'the kernel cannot change along the linear response: the network is linear in its weights'
    """
    try:
        return {"": _measured(pair, probes)}
    except (BadInput, CheckpointMismatch, OutOfMemory) as error:
        return {"": {name: Estimate.failed(str(error)) for name in QUANTITIES}}


def _measured(pair: SnapshotPair, probes: int) -> dict[str, Estimate]:
    f, after = pair.f_initial, pair.f_trained
    trained_parameters(pair)  # names and shapes must be those of the start
    inputs, note = affordable(pair, probes)
    inputs = f.inputs(inputs)
    with torch.no_grad():
        before = f(f.theta, take(inputs, slice(0, 1)))
    n = min(n_samples(inputs), max(FEWEST, ROWS // before.shape[1]))
    if n < n_samples(inputs):
        inputs, note = take(inputs, torch.arange(n) * n_samples(inputs) // n), f"{n} probes, evenly spread"
    with torch.no_grad():
        change = (after(after.theta, inputs) - f(f.theta, inputs)).to(WORKING)
    if not change.any():
        raise BadInput("the outputs did not change, so nothing was demanded of the kernel")
    kernel = ntk(f, inputs, outputs="full").gram.to(WORKING)
    near, far = (r.coefficients.reshape(change.shape) for r in respond(kernel, change.flatten(), SHARES))
    demand = demand_on_kernel(f, inputs, vjp(f, inputs, near), start=kernel).demand
    on_target = demand_on_target(f, inputs, vjp(f, inputs, far), far).demand
    return {"demand": _finite(demand, note), "on_target": _finite(on_target, note)}


def _finite(value: float, note: str) -> Estimate:
    if math.isfinite(value):
        return Estimate(value, note=note)
    return Estimate.failed("the kernel cannot change along the linear response: the network is linear in its weights")
