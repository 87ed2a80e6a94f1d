"""The factors of tangent kernels, weight by weight, without Jacobians.

One forward pass of a tile of samples and one backward pass per output give, for every use of every parameter that a
rule covers, its inputs and the gradients at its outputs, for all samples at once (Novak et al. 2022, section 3.3).
What a rule says is not taken on trust: see `plan`, and `Structured._check` for every tile.
"""

import warnings
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from geomfeat.memory import is_out_of_memory
from geomfeat.models.forward_passes.recomputed_blocks import recomputed_blocks
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import batches, map_inputs, n_samples, take
from geomfeat.numerics import stream
from geomfeat.tangent.jacobians.derivative_checks import require_callable
from geomfeat.tangent.jacobians.gradients import differentiable_recurrence, plain_gradient
from geomfeat.tangent.layerwise.collected_factors import Collected
from geomfeat.tangent.layerwise.coverage import CoveragePlan, plan
from geomfeat.tangent.layerwise.forward_pass import Factors, Pass, differing, forward, signature, where_of
from geomfeat.tangent.layerwise.outer_factors import Where
from geomfeat.tangent.layerwise.scaled_factors import AnyFactors, scaled_factors

CHECKED = 4  # samples of every tile whose gradients by the rules are compared with plain ones


class Changed(Exception):
    """The model did something else in this batch than in the probes, so its rules do not hold."""


def structured(f: Functional, inputs: Any) -> "Structured | None":
    """What rules can compute of a network's tangent kernel; None where that is nothing."""
    require_callable(f, inputs)
    if recomputed_blocks(f.model):
        return None  # rules keep what enters every layer, for which there is no room
    # A factor would stand between a parameter and its uses; the rules' gradients are multiplied by it afterwards.
    own = f.unscaled()
    whole = plan(own, inputs)
    if not whole.uses:
        return None
    others = {name for name in f.theta if name not in whole.covered}
    if not others:
        return Structured(f, None, whole, _vectorises(own, inputs))
    part, rest = _in(f, own, whole.covered), _in(f, own, others)
    # Planned anew, since the graph without the other parameters may be walked in another order.
    again = plan(part.unscaled(), inputs)
    return Structured(part, rest, again, _vectorises(part, inputs)) if again.uses else None


def structured_at(f: Functional, known: CoveragePlan, fixed_path: bool) -> "Structured":
    """The same with a plan that was made at other weights."""
    others = [name for name in f.theta if name not in known.covered]
    if not others:
        return Structured(f, None, known, fixed_path)
    own = f.unscaled()
    return Structured(_in(f, own, known.covered), _in(f, own, others), known, fixed_path)


def _in(f: Functional, own: Functional, names: Collection[str]) -> Functional:
    """The network in these of its parameters; the others are fixed, as in `own`, which has no scale."""
    fixed = {name: value for name, value in own.theta.items() if name not in names}
    theta = {name: value for name, value in f.theta.items() if name in names}
    scale = {name: value for name, value in f.scale.items() if name in names}
    return replace(f, theta=theta, fixed={**f.fixed, **fixed}, scale=scale)


class Structured:
    """Computes the factors of tiles of one network, as planned.

    Attributes:
        f: the network in its covered parameters, unscaled. rest: in the others, for the Jacobian; None for none.
        scale: of the covered parameters, see `Functional`.
        fixed_path: whether the model takes the same path for all samples.
    """

    def __init__(self, f: Functional, rest: Functional | None, whole: CoveragePlan, fixed_path: bool):
        self.f, self.rest, self.plan, self.fixed_path = f.unscaled(), rest, whole, fixed_path
        self.scale = f.scale
        self.formed: set[int] | None = None  # see `Collected`; the same for all tiles, which meet each other

    def __call__(self, inputs: Any, cotangents: Tensor, *, checked: bool = True) -> AnyFactors:
        """Factors of the samples `inputs` for the outputs `cotangents`' f, (C, k) or for each sample (n, C, k).

        With `checked=False` the gradients of these samples are known to be right, at other weights: their shapes and
        operations are compared only.

        Raises Changed when the model computes something else on these samples than on those of the plan.
        """
        n, k = n_samples(inputs), cotangents.shape[-1]
        if n == 1:  # alone, a sample may take a shorter path (no transposition to undo, nothing to broadcast)
            both = cotangents if cotangents.ndim == 2 else cotangents.expand(2, -1, -1)
            twice = self(take(inputs, torch.tensor([0, 0], device=self.f.device)), both, checked=checked)
            return {where: factor.take(slice(0, 1)) for where, factor in twice.items()}
        with differentiable_recurrence(self.f):
            passed = forward(self.f, inputs)
            terms = [(u, t) for u, t in passed.found if t is not None]
            now = [(where_of(u, t, self.f), *signature(u)[1:]) for u, t in terms]
            if len(terms) != len(passed.found) or now != [(p.where, p.operation, p.position) for p in self.plan.uses]:
                raise Changed("other operations")
            collected = Collected(self.plan.uses, [t for _, t in terms], k, self.formed)
            for c in range(k):
                collected.put(c, passed.deltas(cotangents[..., c].expand(n, -1), terms))
            factors, self.formed = collected.factors(), collected.formed
            self._require_same_shapes(passed)
            if checked or not self.fixed_path:
                self._check(inputs, passed, factors, cotangents[..., 0].expand(n, -1))
        return scaled_factors(factors, self.scale, self.f.theta, self.biases)

    @property
    def biases(self) -> dict[Where, Where]:
        """Place of a weight -> that of the bias whose gradients its factor holds too."""
        return {p.merged: p.where for p in self.plan.uses if p.merged is not None}

    def _require_same_shapes(self, passed: Pass) -> None:
        n = passed.outputs.shape[0]
        for (use, t), p in zip(passed.found, self.plan.uses, strict=True):
            if t is not None and not p.samples.fits(tuple(t.oriented(passed.shape(use.node)).shape), n):
                raise Changed("other shapes")

    def _check(self, inputs: Any, passed: Pass, factors: Factors, column: Tensor) -> None:
        """Ask some samples alone; all of them where the model may choose its path by the data."""
        n, device = passed.outputs.shape[0], self.f.device
        near = torch.finfo(self.f.dtype).eps ** 0.6
        if not self.fixed_path:
            with torch.no_grad():
                alone = torch.cat([self.f(self.f.theta, one) for _, one in batches(inputs, 1)])
            if not (alone - passed.outputs).abs().max() <= near * alone.abs().max():
                raise Changed("other outputs than sample by sample")
        rows = torch.randperm(n, generator=stream(0, "ntk check", n))[:CHECKED].to(device)
        weights = 2.0 ** torch.arange(len(rows), dtype=self.f.dtype, device=device)
        again = forward(self.f, take(inputs, rows))
        plain = plain_gradient((again.outputs * column[rows]).sum(1) @ weights, again.theta)
        merged = {p.where[0] for p in self.plan.uses if p.merged is not None}
        some = {where: factor.take(rows) for where, factor in factors.items()}
        if differing({name: g for name, g in plain.items() if name not in merged}, some, weights):
            raise Changed("other gradients than sample by sample")


def _vectorises(f: Functional, inputs: Any) -> bool:
    """Whether torch.func can batch the model, which excludes a path chosen by the data."""
    two = take(inputs, torch.tensor([0, n_samples(inputs) - 1], device=f.device))
    leaves: list[Tensor] = []
    map_inputs(two, lambda t: leaves.append(t) or t)

    def one(*sample: Tensor) -> Tensor:
        queue = iter(sample)
        return f(f.theta, map_inputs(two, lambda _: next(queue).unsqueeze(0)))[0]

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that it loops over operations without a batching rule
        try:
            torch.func.vmap(one)(*leaves)
        except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
            if is_out_of_memory(error):
                raise
            return False
    return True
