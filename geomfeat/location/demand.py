"""Demand R by linear response: how far features would have to move for a change of function, were the network linear.

Take a network at theta0 with tangent features J of its outputs on probe inputs, and the change of the outputs that
training made. Run gradient flow of the linearised network until a share e of the change is left
(`regimes/linearization/response.py`); it has moved the parameters by Dtheta_e = J' a_e. For every hidden layer l

    R_l = mean over e of log10( |J_{h_l} Dtheta_e| / |h_l(theta0)| ),     R = mean of R_l over layers,

over nine shares from .001 to .1. With one share alone, R would leap where the part of the change that is hard to learn
passes that share: by 1.9 decades at 1 % left, and by .7 in this mean. Multiplying the outputs by a constant leaves R as
it is: it cancels between J and the change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.location.padding import Padding
from geomfeat.models.functional import Functional, output_matrix
from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.numerics import WORKING
from geomfeat.regimes.linearization.guided_response import GuidedSearch
from geomfeat.regimes.linearization.response import Response, respond, respond_by_products
from geomfeat.tangent import feature_jvp, jvp, ntk, vjp
from geomfeat.tangent.layerwise.factored_jacobian import FactoredJacobian, factored_jacobian

# The kernel is formed up to this many rows n * C and multiplications (rows^2 * parameters); above, products with the
# Jacobian cost less, some thirty for each resample. A formed kernel is diagonalised up to this many rows, and
# multiplied with above.
FORMED_ROWS, FORMED_MULTIPLICATIONS = 2048, 4e11
DIAGONALISED_UP_TO = 512
# Entries of the Jacobian of the projected outputs above which its factors are kept: a product J' a then costs a third.
FACTORED = 1e7
METHODS = ("auto", "kernel", "products")
# Shares of the change that are left when the linear response stops. A third of them gives the same mean within .01
# decades where R is smooth over the shares, in a third of the time.
SHARES = tuple(10 ** (k / 4 - 3) for k in range(9))
FEW_SHARES = SHARES[1::3]
ROUGH = 1e-3  # relative tolerance of the movement of a resample: far below the spread between resamples
MIDDLE = 0.01  # the one share of resamples, where only differences count
# Shares between which R is compared: a network whose change has a hard part asks for far more at the first.
LATE, EARLY = 0.002, 0.05


@dataclass(frozen=True, eq=False)
class LinearisedTask:
    """A network at theta0, probe inputs, and the change of the outputs on them: all that demand depends on.

    Attributes:
        f, inputs: the network and the probes, on its device and in its precision. change: (n, k).
        layers: names of the hidden layers. shares: of the change, left where the flow stops; R is the mean over them.
        gram: (n k, n k) kernel of the outputs, or None to work with kernel-vector products.
        rows: the Jacobian of these outputs as factors, for large networks, else None.
        projection: (C, k) orthonormal columns the outputs were projected on, or None.
        energy: |change| before the projection over |change| after it; movement scales with it.
        frozen: layers that did not move, which are left out of the mean. padding: positions that are no features.
        search: for the responses to the change, where there are very many outputs and a good guess at their kernel.
        few: the same through few directions of these outputs, for what only compares; None where all are as cheap.
        features: of the layers on all probes at theta0, where they are known; responses begin with them.
    """

    f: Functional
    inputs: Any
    change: Tensor
    layers: tuple[str, ...]
    shares: tuple[float, ...]
    gram: Tensor | None
    projection: Tensor | None = None
    energy: float = 1.0
    frozen: frozenset[str] = frozenset()
    padding: Padding | None = None
    rows: FactoredJacobian | None = None
    search: GuidedSearch | None = None
    few: LinearisedTask | None = None
    features: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def n(self) -> int:
        """Number of probes."""
        return self.change.shape[0]

    def towards(self, change: Tensor) -> LinearisedTask:
        """The same network and probes for another change (n, C), seen through the same projection."""
        change = change.to(self.change.device, WORKING)
        if self.projection is None:
            few = None if self.few is None else self.few.towards(change)
            search = None if self.search is None else self.search.towards(change)
            return replace(self, change=change, few=few, search=search)
        kept = change @ self.projection
        return replace(self, change=kept, energy=_energy(change, kept))

    def stopped_at(self, *shares: float) -> LinearisedTask:
        """The same task with these shares left in place of its own."""
        return replace(self, shares=shares)

    @property
    def cheapest(self) -> LinearisedTask:
        """Through few directions of the outputs, where there is such a task, else this one."""
        return self if self.few is None else replace(self.few, shares=self.shares, frozen=self.frozen)

    @property
    def method(self) -> str:
        """ "kernel", "products", or "guided products"."""
        return "kernel" if self.gram is not None else "products" if self.search is None else "guided products"


@dataclass(frozen=True, eq=False)
class Demand:
    """Demand of every layer (decades), their mean, the linear responses behind it, and layers left out of the mean.

    Attributes:
        by_share: share left -> layer -> log10 of the layer's relative movement. responses: one for each share.
        pulled: returns Dtheta of the middle share, name -> tensor; from factors of the Jacobian it is computed at every
            call, since each is as large as the network.
    """

    by_share: Mapping[float, Mapping[str, float]]
    responses: tuple[Response, ...]
    frozen: frozenset[str] = frozenset()
    pulled: Callable[[], Mapping[str, Tensor]] = field(default=dict, repr=False)

    @property
    def layers(self) -> dict[str, float]:
        """R of every layer: mean over the shares."""
        found = list(self.by_share.values())
        return {name: sum(one[name] for one in found) / len(found) for name in found[0]}

    @property
    def richness(self) -> float:
        """R: mean over the layers that can move, and did."""
        return self._mean(self.layers)

    def richness_at(self, share: float) -> float:
        """R of one share, linear in its logarithm between those of `by_share`."""
        known = sorted(self.by_share)
        return float(np.interp(math.log(share), np.log(known), [self._mean(self.by_share[s]) for s in known]))

    @property
    def steepness(self) -> float:
        """By how much R at a share of .002 exceeds R at .05; 0 where it is known at one share only."""
        if len(self.by_share) == 1 or not math.isfinite(self.richness):
            return 0.0
        return self.richness_at(LATE) - self.richness_at(EARLY)

    @property
    def response(self) -> Response:
        """The response at the middle one of the shares."""
        return self.responses[len(self.responses) // 2]

    def _mean(self, layers: Mapping[str, float]) -> float:
        able = [r for name, r in layers.items() if r > -math.inf and name not in self.frozen]
        return sum(able) / len(able) if able else -math.inf


def linearised_task(
    f: Functional,
    inputs: Any,
    change: Tensor,
    layers: Sequence[str],
    *,
    shares: Sequence[float] = SHARES,
    method: str = "auto",
    projections: int | None = None,
    seed: int = 0,
) -> LinearisedTask:
    """Prepare a `LinearisedTask`; the kernel is computed here, once.

    Args:
        change: (n, C) wanted change of the outputs on the n probes. shares: of it, left where the responses stop.
        method: "kernel" forms the (n C, n C) kernel; "products" only multiplies by it (memory of one batch);
            "auto" forms it where that is cheaper (both agree to 1e-4 decades).
        projections: the k leading directions of the change among the outputs in place of all C; the movement is scaled
            up by the share of the change they hold. Cheaper for many outputs, but exact only for few beside the units
            of the last hidden layer (measured with 4: within .05 decades for 100 outputs on 256 units and .08 for 40
            on 64, but up to .3 too high for 300 on 128, .5 for 1000 on 1280): the outputs left out are free to change,
            so hidden layers need not leave them alone. See `through_all_outputs` for a way around it.

    Raises BadInput for no layers, shapes that do not fit, or an unknown method.
    """
    inputs = f.inputs(inputs)
    n = n_samples(inputs)
    if not layers:
        raise BadInput("layers is empty: demand is measured on hidden layers, and this model has none")
    if change.ndim != 2 or change.shape[0] != n:
        raise BadInput(f"change must be (n, C) with n = {n} probes, got {tuple(change.shape)}")
    if method not in METHODS:
        raise BadInput(f"method={method!r}: use one of {', '.join(METHODS)}")
    change, energy, basis, whole = change.to(f.device, WORKING), 1.0, None, f
    c = change.shape[1]
    if projections is not None and not projections >= 1:
        raise BadInput(f"projections must be at least 1, got {projections}")
    if projections is not None and projections < c:
        # The right singular vectors of the change hold most of it in few outputs; random directions would spread it.
        basis = torch.linalg.svd(change, full_matrices=False)[2][:projections].mT
        f = replace(f, readout=partial(_projected, readout=f.readout, basis=basis))
        kept = change @ basis
        change, energy = kept, _energy(change, kept)
    rows, found = change.numel(), None
    # Factors take far less work than rows^2 * parameters, so they come first where they are worth it.
    if method != "products" and basis is not None and rows * f.n_parameters > FACTORED and rows <= FORMED_ROWS:
        found = factored_jacobian(whole, inputs, basis)
    if found is not None:
        gram = found.kernel().to(WORKING)
    else:
        formed = is_formed(rows, f.n_parameters, method)
        gram = ntk(f, inputs, outputs="full").gram.to(WORKING) if formed else None
    return LinearisedTask(f, inputs, change, tuple(layers), tuple(shares), gram, basis, energy, rows=found)


def is_formed(rows: int, n_parameters: int, method: str) -> bool:
    """Whether a kernel of so many rows is formed, as `method` of `linearised_task` says."""
    cheap = rows <= FORMED_ROWS and rows**2 * n_parameters <= FORMED_MULTIPLICATIONS
    return method == "kernel" or (method == "auto" and cheap)


def _energy(whole: Tensor, kept: Tensor) -> float:
    return float(whole.norm() / kept.norm()) if float(kept.norm()) > 0 else 1.0


def _projected(output: Any, inputs: Any, *, readout: Any, basis: Tensor) -> Tensor:
    full = output_matrix(output, inputs, readout)
    return full @ basis.to(full.dtype)


def solve(task: LinearisedTask, weights: Tensor | None = None, rtol: float = 1e-4) -> Demand:
    """Demand with probe i counted `weights[i]` times (default once each): resampling and subsets of the probes.

    A layer that cannot move (its tangent is zero) reads -inf, one that is zero on a part of the probes NaN there.
    `rtol`: of the movement, where products are used.
    """
    weights = torch.ones(task.n, dtype=WORKING) if weights is None else weights.to(WORKING)
    rows = torch.nonzero(weights > 0).flatten()
    # Counting a probe w times is the same as multiplying its rows of J, its change and its features by sqrt(w).
    root = weights[rows].sqrt().to(task.change.device)[:, None]
    inputs = task.inputs if len(rows) == task.n else take(task.inputs, rows.to(task.change.device))
    change = task.change[rows.to(task.change.device)]
    responses = _respond(task, inputs, rows, root, (root * change).flatten(), rtol)
    asked = [_asked(task, inputs, rows, root, response, rough=rtol >= ROUGH) for response in responses]
    by_share = {share: layers for share, (layers, _) in zip(task.shares, asked, strict=True)}
    return Demand(by_share, responses, task.frozen, asked[len(asked) // 2][1])


def _asked(
    task: LinearisedTask, inputs: Any, rows: Tensor, root: Tensor, response: Response, *, rough: bool
) -> tuple[dict[str, float], Callable[[], Mapping[str, Tensor]]]:
    """log10 of every layer's relative movement along one response, and a function that returns Dtheta."""
    cotangent = root * response.coefficients.reshape(len(rows), -1).to(root.device)
    if task.rows is None:
        direction = vjp(task.f, inputs, cotangent)
        pulled: Callable[[], Mapping[str, Tensor]] = lambda: direction  # noqa: E731
    else:
        every = cotangent.new_zeros(task.change.shape)
        every[rows.to(every.device)] = cotangent
        pulled = partial(task.rows.pulled, every)
    known = {name: h[rows.to(h.device)] for name, h in task.features.items()} or None
    # Features are the same whatever is read out; of the whole network more is checked already.
    f = task.f if task.rows is None else task.rows.f
    along = pulled() if task.rows is None else pulled
    moved = feature_jvp(f, inputs, task.layers, along, rough=rough or known is not None, values=known)
    if task.rows is not None and len(rows) == task.n:
        task.features.update({name: h for name, (h, _) in moved.items()})
    layers = {}
    for name, (feature, tangent) in moved.items():
        if task.padding is not None:
            feature, tangent = (task.padding.cleared(name, part, rows) for part in (feature, tangent))
        size = float((root * feature.to(WORKING)).norm())
        if size == 0.0 and len(rows) == task.n:
            raise BadInput(f"layer {name!r} is zero on every probe: leave it out of layers=")
        # Movement is linear in the change, so the movement for the projected change is scaled up to the whole one.
        length = task.energy * float((root * tangent.to(WORKING)).norm())
        layers[name] = math.nan if size == 0.0 else math.log10(length / size) if length > 0 else -math.inf
    return layers, pulled


def responses_of(
    task: LinearisedTask, *shares: float, rows: Tensor | None = None, precise: float | None = None
) -> tuple[Response, ...]:
    """The linear responses to the change on all probes, or on `rows` of them, with these shares of it left.

    `precise`: of a guided search over all probes, see `GuidedSearch`.
    """
    if rows is None:
        rows = torch.arange(task.n, device=task.change.device)
    inputs = task.inputs if len(rows) == task.n else take(task.inputs, rows)
    root = torch.ones(len(rows), 1, dtype=WORKING, device=task.change.device)
    return _respond(task.stopped_at(*shares), inputs, rows.cpu(), root, task.change[rows].flatten(), 1e-4, precise)


def _respond(
    task: LinearisedTask, inputs: Any, rows: Tensor, root: Tensor, change: Tensor, rtol: float,
    precise: float | None = None,
) -> tuple[Response, ...]:  # fmt: skip
    k = task.change.shape[1]

    if task.search is not None and len(rows) == task.n and bool((root == 1).all()):
        return task.search.responses(task.shares, precise)

    def by_derivatives(v: Tensor) -> Tensor:
        pulled = vjp(task.f, inputs, root * v.reshape(-1, k))
        return (root * jvp(task.f, inputs, pulled).to(WORKING)).reshape(v.shape)

    if task.search is not None:
        guess = task.search.guess.restricted(rows.to(root.device), root)
        return GuidedSearch(by_derivatives, change.view(-1, k), guess).responses(task.shares)
    if task.gram is None:
        return respond_by_products(by_derivatives, change, task.shares, rtol=rtol)
    scale = root.expand(-1, k).flatten()
    index = (rows[:, None] * k + torch.arange(k)).flatten().to(task.gram.device)
    gram = task.gram.index_select(0, index).index_select(1, index).mul_(scale[:, None]).mul_(scale)
    if len(index) <= DIAGONALISED_UP_TO:
        return respond(gram, change, task.shares)
    return respond_by_products(lambda v: gram @ v, change, task.shares, rtol=rtol)
