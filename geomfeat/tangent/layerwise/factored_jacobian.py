"""The Jacobian of few outputs of a large network as factors of each weight: its kernel and its products J' a.

Rows of a large network's Jacobian do not fit into memory, and every J' a by autograd is a forward and a backward pass.
Factors (inputs and gradients at the outputs of every layer) do fit, and give J J' and any number of J' a by matrix
products. They are the same numbers, see `structured`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomfeat.memory import block_bytes
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.tangent.jacobians._memory_budget import BUDGET, saved_bytes, shapes_of
from geomfeat.tangent.jacobians.rows import JacobianRows
from geomfeat.tangent.layerwise.coverage import CoveragePlan, parameter_group
from geomfeat.tangent.layerwise.outer_factors import Outer, Rows, Where
from geomfeat.tangent.layerwise.scaled_factors import AnyFactors, Scaled
from geomfeat.tangent.layerwise.structured_kernel import Changed, structured, structured_at

logger = logging.getLogger(__name__)
MOST = 4 * BUDGET  # bytes of factors and activations held at once
CHECKED, REST = "factored jacobian", "factored jacobian, without a rule"


@dataclass(frozen=True, eq=False)
class FactoredJacobian:
    """Jacobian rows (n k, p) of k outputs, or sums of outputs, of n samples.

    Attributes:
        f: the network. n, k: row i * k + c is the gradient of output c of sample i.
        factors: of each weight. biases: place of a weight -> that of the bias whose gradients its factor holds too.
    """

    f: Functional
    n: int
    k: int
    factors: AnyFactors
    biases: Mapping[Where, Where]

    def kernel_by_module(self) -> dict[str, Tensor]:
        """Module -> (n k, n k) kernel J J' of its own parameters, which sum to the whole one."""
        grams: dict[str, Tensor] = {}
        for (name, _), factor in self.factors.items():
            new = torch.zeros(self.n * self.k, self.n * self.k, dtype=self.f.dtype, device=self.f.device)
            gram = grams.setdefault(parameter_group(name), new)
            part = torch.zeros_like(gram)
            factor.add(part.view(self.n, self.k, self.n, self.k), factor, symmetric=True)  # pyright: ignore
            gram += _whole(part, self.n, self.k)
        return grams

    def kernel(self) -> Tensor:
        """(n k, n k) J J'."""
        return torch.stack(list(self.kernel_by_module().values())).sum(0)

    def pulled(self, coefficients: Tensor) -> dict[str, Tensor]:
        """J' a for a (n, k): parameter -> sum over samples and outputs of a times the gradients."""
        a = coefficients.to(self.f.device, self.f.dtype).reshape(self.n, self.k)
        rows = torch.nonzero(a.any(1)).flatten()
        out: dict[str, Tensor] = {}
        for where, factor in self.factors.items():
            strides = where[1][2]
            some = factor if len(rows) == self.n else factor.take(rows)
            g = some.combined(a[rows], flipped=len(strides) == 2 and strides[0] < strides[1])
            if isinstance(factor, Outer | Scaled) and factor.with_bias:
                self._put(out, self.biases[where], g[..., -1])
                g = g[..., :-1]
            self._put(out, where, g)
        return {name: out[name] if name in out else torch.zeros_like(value) for name, value in self.f.theta.items()}

    def _put(self, out: dict[str, Tensor], where: Where, g: Tensor) -> None:
        name, (offset, shape, strides) = where
        value, g = self.f.theta[name], g.reshape(shape)
        whole = name not in out and g.numel() == value.numel()
        if whole and g.stride() == strides:
            out[name] = g.as_strided(value.shape, value.stride(), g.storage_offset())
            return
        base = out.setdefault(name, torch.empty_like(value) if whole else torch.zeros_like(value))
        # `where` gives places in the parameter's own memory, whose layout these keep for dense tensors.
        place = base.as_strided(shape, strides, base.storage_offset() + offset)
        place.copy_(g) if whole else place.add_(g)


def factored_jacobian(f: Functional, inputs: Any, cotangents: Tensor) -> FactoredJacobian | None:
    """The rows of the outputs `cotangents`' f; None where rules cover too few parameters, or factors are too large.

    What the rules say is verified by plain gradients for the first weights, and for networks whose path depends on the
    data for all; at other weights (`Functional.at`) the operations are compared only. Parameters without a rule have
    their rows as they are, if these are small.

    Args:
        inputs: n samples. cotangents: (C, k), or (n, C, k) for outputs of each sample's own.
    """
    inputs, k = f.inputs(inputs), cotangents.shape[-1]
    n = n_samples(inputs)
    key = CHECKED, shapes_of(take(inputs, slice(0, 1)))
    known = f.known.get(key)
    engine = structured(f, inputs) if known is None else structured_at(f, *known)
    if engine is None:
        return None
    factors_of = n * (saved_bytes(f, inputs)[0] + k * engine.plan.delta_bytes)
    if factors_of > block_bytes(MOST, f.device) or not rest_fits(f, engine.plan, n, k):
        return None
    try:
        factors = engine(inputs, cotangents.to(f.device, f.dtype), checked=known is None)
    except Changed as difference:
        logger.info("no factored Jacobian: the layers' rules do not hold for all samples (%s)", difference)
        return None
    f.known[key] = engine.plan, engine.fixed_path
    if engine.rest is not None:
        engine.rest.known.update(f.known.get(REST, {}))
        factors |= _rows(engine.rest, inputs, cotangents)
        f.known[REST] = engine.rest.known
    return FactoredJacobian(f, n, k, {where: factor.trimmed() for where, factor in factors.items()}, engine.biases)


def share_rules(f: Functional, other: Functional) -> None:
    """Let what was verified of a network hold for the same one after training, whose operations are still compared."""
    for key, known in f.known.items():
        if key == REST or (isinstance(key, tuple) and key[0] == CHECKED):
            other.known.setdefault(key, known)
    other.shorter.update(f.shorter)


def rest_fits(f: Functional, known: CoveragePlan, n: int, k: int) -> bool:
    """Whether the rows (n k) of the parameters that no rule of a plan covers take little memory."""
    rest = sum(value.numel() for name, value in f.theta.items() if name not in known.covered)
    return n * k * rest * f.dtype.itemsize <= block_bytes(BUDGET, f.device)


def _rows(rest: Functional, inputs: Any, cotangents: Tensor) -> dict[Where, Rows]:
    """Gradients in the few parameters that no rule covers."""
    engine = JacobianRows(rest, inputs)
    rows = engine(inputs, cotangents).view(n_samples(inputs), -1, rest.n_parameters)
    return {
        (name, (0, tuple(value.shape), value.stride())): Rows(rows[:, :, engine.slices[name]])
        for name, value in rest.theta.items()
    }


def _whole(part: Tensor, n: int, k: int) -> Tensor:
    """A symmetric kernel of which only the blocks on and above the diagonal are filled."""
    blocks = part.view(n, k, n, k)
    above = torch.ones(n, n, dtype=torch.bool, device=part.device).triu()[:, None, :, None]
    upper = torch.where(above, blocks, 0)
    own = torch.where(torch.eye(n, dtype=torch.bool, device=part.device)[:, None, :, None], blocks, 0)
    return (upper + upper.permute(2, 3, 0, 1) - own).reshape(n * k, n * k)
