"""The factors of tangent kernels, weight by weight, without Jacobians.

One forward pass of a tile of samples and one backward pass per output give, for every use of every parameter that a
rule covers, its inputs and the gradients at its outputs, for all samples at once (Novak et al. 2022, section 3.3).
What a rule says is not taken on trust: see `plan`, and `Structured._check` for every tile.
"""

import itertools
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geomfeat.kernels._memory import is_out_of_memory
from geomfeat.kernels.jacobians import differentiable_recurrence, plain_gradient
from geomfeat.kernels.ntk.factors import Factors, Outer, Region, Rows, Where
from geomfeat.kernels.ntk.graph import Use, uses
from geomfeat.kernels.ntk.rules import OuterTerm, Term, operation, term
from geomfeat.kernels.ntk.rules_elementwise import ElementwiseTerm
from geomfeat.kernels.ntk.samples import SampleAxis, sample_axis
from geomfeat.models.functional import Functional, batches, map_inputs, n_samples, take
from geomfeat.numerics import stream

logger = logging.getLogger(__name__)


class Changed(Exception):
    """The model did something else in this batch than in the probes, so its rules do not hold."""


@dataclass(frozen=True)
class Planned:
    """One use: the part of the parameter, the operation, the number of its input, and where its samples are."""

    where: Where
    operation: str
    position: int
    samples: SampleAxis


@dataclass(frozen=True, eq=False)
class _Pass:
    """A forward pass: outputs, and the uses with their terms."""

    theta: dict[str, Tensor]
    outputs: Tensor
    found: list[tuple[Use, Term | None]]

    def deltas(self, cotangents: Tensor, terms: Sequence[tuple[Use, Term]]) -> list[Tensor]:
        """Gradients of <outputs, cotangents> at the outputs of the uses, as their terms want them."""
        nodes = list(dict.fromkeys(use.node for use, _ in terms))
        edges = [torch.autograd.graph.GradientEdge(node, 0) for node in nodes]
        grads = torch.autograd.grad(self.outputs, edges, cotangents, retain_graph=True, allow_unused=True)
        at = dict(zip(nodes, grads, strict=True))
        return [t.oriented(self._zeros(use.node) if at[use.node] is None else at[use.node]) for use, t in terms]

    def _zeros(self, node: Any) -> Tensor:
        return self.outputs.new_zeros(node._input_metadata[0].shape)


def _forward(f: Functional, inputs: Any) -> _Pass:
    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
    with torch.enable_grad():
        outputs = f(theta, inputs)
    found = uses(outputs, theta) if outputs.requires_grad else []
    return _Pass(theta, outputs, [(use, term(use)) for use in found])


def _signature(use: Use) -> tuple[str, str, int]:
    return use.parameter, operation(use), use.position


def _where(use: Use, found: Term, f: Functional) -> Where:
    """The part of the parameter that a use reads, dimensions of size one left out."""
    weight, base = found.weight, f.theta[use.parameter]
    kept = [i for i, size in enumerate(weight.shape) if size != 1]
    shape, strides = tuple(weight.shape[i] for i in kept), tuple(weight.stride(i) for i in kept)
    return use.parameter, (int(weight.storage_offset()) - int(base.storage_offset()), shape, strides)


def structured(f: Functional, inputs: Any) -> "Structured | None":
    """What rules can compute of a network's tangent kernel; None where that is nothing."""
    whole = plan(f, inputs)
    if not whole.uses:
        return None
    if whole.covered == set(f.theta):
        return Structured(f, None, whole)
    theta = {name: value for name, value in f.theta.items() if name in whole.covered}
    others = {name: value for name, value in f.theta.items() if name not in whole.covered}
    part = replace(f, theta=theta, fixed={**f.fixed, **others})
    # Planned anew, since the graph without the other parameters may be walked in another order.
    again = plan(part, inputs)
    return Structured(part, replace(f, theta=others, fixed={**f.fixed, **theta}), again) if again.uses else None


@dataclass(frozen=True)
class Plan:
    """The uses that rules cover, the parameters covered wholly, and bytes of deltas for a sample and an output."""

    uses: tuple[Planned, ...]
    covered: frozenset[str]
    delta_bytes: int


NOTHING = Plan((), frozenset(), 0)


def plan(f: Functional, inputs: Any) -> Plan:
    """Find the uses of all parameters on a few samples, and verify what the rules say of them.

    Two and three samples tell which axis of every operation holds the samples, one sample's gradient in which order.
    A parameter is covered when every use of it has a rule and the weighted sum of the samples' gradients by the rules
    equals the plain gradient.
    """
    n = n_samples(inputs)
    try:
        with differentiable_recurrence(f):
            small, large = (
                _forward(f, take(inputs, torch.tensor(rows, device=f.device)))
                for rows in ([0, n - 1], [0, n // 2, n - 1])
            )
            if [_signature(u) for u, _ in small.found] != [_signature(u) for u, _ in large.found]:
                return NOTHING
            return _planned(f, small, large)
    # Whatever the model cannot do in small batches, it may do sample by sample.
    except (RuntimeError, ValueError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        logger.info("no structured tangent kernel: the model fails on batches of two and three (%s)", error)
        return NOTHING


def _planned(f: Functional, small: _Pass, large: _Pass) -> Plan:
    uncovered = {use.parameter for passed in (small, large) for use, t in passed.found if t is None}
    few, many = ([(u, t) for u, t in p.found if t is not None and u.parameter not in uncovered] for p in (small, large))
    if not many:
        return NOTHING
    draws = torch.randn(3, large.outputs.shape[1], generator=stream(0, "ntk plan"), dtype=f.dtype).to(f.device)
    chosen = torch.tensor([0.0, 1.0, 0.0], dtype=f.dtype, device=f.device)[:, None]
    shapes = [tuple(d.shape) for d in small.deltas(draws[:2], few)]
    alone = large.deltas(draws * chosen, many)
    found: list[tuple[tuple[Use, Term], Planned]] = []
    parts: dict[str, dict[Region, set[Any]]] = {}
    for (use, t), two, three in zip(many, shapes, alone, strict=True):
        samples = sample_axis(two, three, 1)
        if samples is None or (isinstance(t, ElementwiseTerm) and t.shape[samples.axis] != 1):
            uncovered.add(use.parameter)
            continue
        p = Planned(_where(use, t, f), *_signature(use)[1:], samples)
        kind = (isinstance(t, ElementwiseTerm), getattr(t, "groups", 1))
        parts.setdefault(use.parameter, {}).setdefault(p.where[1], set()).add(kind)
        found.append(((use, t), p))
    uncovered |= {name for name, regions in parts.items() if not _disjoint(regions)}
    kept = [(pair, p) for pair, p in found if p.where[0] not in uncovered]
    wrong = _wrong(f, large, kept, draws, [name for name in f.theta if name not in uncovered])
    uncovered |= wrong
    kept = [(pair, p) for pair, p in kept if p.where[0] not in wrong]
    size = {id(u.node): d.numel() * d.element_size() // 3 for (u, _), d in zip(many, alone, strict=True)}
    return Plan(
        tuple(p for _, p in kept),
        frozenset(f.theta) - uncovered,
        sum({u.node: size[id(u.node)] for (u, _), _ in kept}.values()),
    )


def _disjoint(regions: Mapping[Region, set[Any]]) -> bool:
    """Whether parts of a parameter have nothing in common, and each is used in one way only."""
    spans = sorted((r[0], r[0] + sum((s - 1) * t for s, t in zip(r[1], r[2], strict=True))) for r in regions)
    apart = all(first[1] < second[0] for first, second in itertools.pairwise(spans))
    return apart and all(len(kinds) == 1 for kinds in regions.values())


def _wrong(
    f: Functional, passed: _Pass, kept: list[tuple[tuple[Use, Term], Planned]], draws: Tensor, names: list[str]
) -> set[str]:
    """The parameters whose gradient by the rules is not the plain gradient."""
    plain = plain_gradient((passed.outputs * draws).sum(), {n: passed.theta[n] for n in names}, retain_graph=True)
    # Weights that the backward pass does not see, so that a gradient in the place of another sample's shows.
    weights = torch.tensor([1.0, 2.0, 4.0], dtype=f.dtype, device=f.device)
    terms = [pair for pair, _ in kept]
    collected = _Collected([p for _, p in kept], [t for _, t in terms], 1)
    collected.put(0, passed.deltas(draws / weights[:, None], terms))
    by_rules = {name: torch.zeros_like(value) for name, value in plain.items()}
    for (name, (offset, shape, strides)), factor in collected.factors().items():
        base = by_rules[name]
        base.as_strided(shape, strides, base.storage_offset() + offset).add_(factor.total(weights).view(shape))
    near = torch.finfo(f.dtype).eps ** 0.6
    wrong = {n for n, g in plain.items() if not (by_rules[n] - g).abs().max() <= near * g.abs().max()}
    if wrong:
        logger.info("the rules do not give the gradients of %s: using the Jacobian", sorted(wrong))
    return wrong


class _Collected:
    """Gathers the deltas of all uses, output by output, and joins the uses of one part of a parameter."""

    def __init__(self, planned: Sequence[Planned], terms: Sequence[Term], k: int):
        self.uses, self.k = list(zip(planned, terms, strict=True)), k
        self.deltas: list[Tensor] = []

    def put(self, column: int, deltas: Sequence[Tensor]) -> None:
        """The gradients at the outputs of the uses, for one output of the network."""
        parts = [t.deltas(d, p.samples) for (p, t), d in zip(self.uses, deltas, strict=True)]
        if not self.deltas:
            self.deltas = [part.new_empty(part.shape[0], self.k, *part.shape[1:]) for part in parts]
        for stacked, part in zip(self.deltas, parts, strict=True):
            stacked[:, column] = part

    def factors(self) -> Factors:
        """One factor a part: outer products side by side, gradients summed."""
        uses_of: dict[Where, list[Rows | Outer]] = {}
        for (p, t), d in zip(self.uses, self.deltas, strict=True):
            uses_of.setdefault(p.where, []).append(Rows(d) if isinstance(t, ElementwiseTerm) else _outer(t, p, d))
        return {where: _joined(parts) for where, parts in uses_of.items()}


def _outer(t: OuterTerm, p: Planned, d: Tensor) -> Outer:
    return Outer(((lambda: t.inputs(p.samples), d),), t.weight.numel() // (d.shape[2] * d.shape[3]))


def _joined(factors: list[Rows | Outer]) -> Rows | Outer:
    first = factors[0]
    if isinstance(first, Outer):
        return Outer(tuple(x for f in factors if isinstance(f, Outer) for x in f.parts), first.width)
    return first if len(factors) == 1 else Rows(torch.stack([f.g for f in factors if isinstance(f, Rows)]).sum(0))


class Structured:
    """Computes the factors of tiles of one network, as planned.

    Attributes:
        f: the network in its covered parameters. rest: in the others, for the Jacobian; None where there are none.
    """

    def __init__(self, f: Functional, rest: Functional | None, whole: Plan):
        self.f, self.rest, self.plan = f, rest, whole

    def __call__(self, inputs: Any, cotangents: Tensor) -> Factors:
        """Factors of the samples `inputs` for the outputs `cotangents`' f, (C, k).

        Raises Changed when the model computes something else on these samples than on those of the plan.
        """
        n, k = n_samples(inputs), cotangents.shape[1]
        if n == 1:  # alone, a sample may take a shorter path (no transposition to undo, nothing to broadcast)
            twice = self(take(inputs, torch.tensor([0, 0], device=self.f.device)), cotangents)
            return {where: factor.take(slice(0, 1)) for where, factor in twice.items()}
        with differentiable_recurrence(self.f):
            passed = _forward(self.f, inputs)
            terms = [(u, t) for u, t in passed.found if t is not None]
            now = [(_where(u, t, self.f), *_signature(u)[1:]) for u, t in terms]
            if len(terms) != len(passed.found) or now != [(p.where, p.operation, p.position) for p in self.plan.uses]:
                raise Changed("other operations")
            if not _as_alone(self.f, inputs, passed.outputs.detach()):
                raise Changed("other outputs than sample by sample")
            collected = _Collected(self.plan.uses, [t for _, t in terms], k)
            for c in range(k):
                deltas = passed.deltas(cotangents[:, c].expand(n, -1), terms)
                if c == 0:
                    self._check(passed, terms, deltas, cotangents[:, 0])
                collected.put(c, deltas)
        return collected.factors()

    def _check(self, passed: _Pass, terms: list[tuple[Use, Term]], first: list[Tensor], column: Tensor) -> None:
        """Every sample's gradient must scale with its own cotangent, else it is another sample's."""
        n = passed.outputs.shape[0]
        powers = torch.randint(0, 8, (n,), generator=stream(0, "ntk check", n))
        scale = (2.0**powers).to(first[0])
        near = torch.finfo(first[0].dtype).eps ** 0.6
        scaled = passed.deltas(column * scale[:, None], terms)
        for p, one, other in zip(self.plan.uses, first, scaled, strict=True):
            if not p.samples.fits(tuple(one.shape), n):
                raise Changed("other shapes")
            expected, found = p.samples.split(one), p.samples.split(other)
            expected = expected * scale.view(-1, *(1,) * (expected.ndim - 1))
            if not (found - expected).abs().max() <= near * expected.abs().max():
                raise Changed("other samples")


def _as_alone(f: Functional, inputs: Any, outputs: Tensor) -> bool:
    """Whether every sample of a batch has the outputs that it has alone."""
    leaves: list[Tensor] = []
    map_inputs(inputs, lambda t: leaves.append(t) or t)

    def one(*sample: Tensor) -> Tensor:
        queue = iter(sample)
        return f(f.theta, map_inputs(inputs, lambda _: next(queue).unsqueeze(0)))[0]

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch loops where it has no batching rule
        try:
            alone = torch.func.vmap(one)(*leaves)
        # What cannot be vectorised (recurrence, a path chosen by the data) is asked one by one.
        except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
            if is_out_of_memory(error):
                raise
            alone = torch.cat([f(f.theta, part) for _, part in batches(inputs, 1)])
    near = torch.finfo(f.dtype).eps ** 0.6
    return bool((alone - outputs).abs().max() <= near * outputs.abs().max())
