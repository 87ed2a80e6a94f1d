"""A forward pass read as uses of parameters, and the gradients at their outputs collected into factors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomfeat.models.functional import Functional
from geomfeat.tangent.layerwise.autograd_graph import Use, uses
from geomfeat.tangent.layerwise.outer_factors import Outer, Region, Rows, Where
from geomfeat.tangent.layerwise.rules import OuterTerm, Term, operation, term
from geomfeat.tangent.layerwise.rules_elementwise import ElementwiseTerm
from geomfeat.tangent.layerwise.sample_axis import SampleAxis
from geomfeat.tangent.layerwise.tied_factors import Factor, Tied

Factors = dict[Where, Factor]


@dataclass(frozen=True)
class Planned:
    """One use: the part of the parameter, the operation, the number of its input, and where its samples are.

    A weight may stand for its layer's bias too (`with_bias`), which is then `merged` with it, by its place:
    (a.a' + 1)(delta.delta').
    """

    where: Where
    operation: str
    position: int
    samples: SampleAxis
    with_bias: bool = False
    merged: Where | None = None


@dataclass(frozen=True, eq=False)
class Pass:
    """A forward pass: outputs, and the uses with their terms."""

    theta: dict[str, Tensor]
    outputs: Tensor
    found: list[tuple[Use, Term | None]]

    def deltas(self, cotangents: Tensor, terms: Sequence[tuple[Use, Term]]) -> list[Tensor]:
        """Gradients of <outputs, cotangents> at the outputs of the uses, as their terms want them."""
        nodes = list(dict.fromkeys(use.node for use, _ in terms))
        edges = [torch.autograd.graph.GradientEdge(node, 0) for node in nodes]
        # As a number: torch would import a library of symbols, half a second, to compare the shapes of a tensor's.
        with torch.enable_grad():
            seen = (self.outputs * cotangents).sum()
        grads = torch.autograd.grad(seen, edges, retain_graph=True, allow_unused=True)
        at = dict(zip(nodes, grads, strict=True))
        return [t.oriented(self._zeros(use.node) if at[use.node] is None else at[use.node]) for use, t in terms]

    def _zeros(self, node: Any) -> Tensor:
        return self.outputs.new_zeros(node._input_metadata[0].shape)

    def shape(self, node: Any) -> Tensor:
        """A tensor of the shape of a node's output, without the memory."""
        return self.outputs.new_empty(()).expand(node._input_metadata[0].shape)


def forward(f: Functional, inputs: Any) -> Pass:
    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
    with torch.enable_grad():
        outputs = f(theta, inputs)
    found = uses(outputs, theta) if outputs.requires_grad else []
    return Pass(theta, outputs, [(use, term(use)) for use in found])


def signature(use: Use) -> tuple[str, str, int]:
    return use.parameter, operation(use), use.position


def where_of(use: Use, found: Term, f: Functional) -> Where:
    """The part of the parameter that a use reads, dimensions of size one left out."""
    weight, base = found.weight, f.theta[use.parameter]
    kept = [i for i, size in enumerate(weight.shape) if size != 1]
    shape, strides = tuple(weight.shape[i] for i in kept), tuple(weight.stride(i) for i in kept)
    return use.parameter, (int(weight.storage_offset()) - int(base.storage_offset()), shape, strides)


def differing(plain: dict[str, Tensor], factors: Factors, weights: Tensor) -> set[str]:
    """The parameters whose plain gradient is not the weighted sum of the samples' gradients for the first output."""
    eps = torch.finfo(weights.dtype).eps
    # A gradient that is zero but for rounding (a bias that shifts all keys of an attention) has no digits to compare.
    rounding = 64 * eps * max((float(g.abs().max()) for g in plain.values()), default=0.0)
    found = set[str]()
    for name, g in plain.items():  # one after the other, for large networks
        left = g.clone()
        for (parameter, (offset, shape, strides)), factor in factors.items():
            if parameter == name:
                place = left.as_strided(shape, strides, left.storage_offset() + offset)
                place.sub_(factor.total(weights).view(shape))
        if not left.abs_().max() <= max(eps**0.6 * float(g.abs().max()), rounding):
            found.add(name)
    return found


class Collected:
    """Gathers the deltas of all uses, output by output, and joins the uses of one part of a parameter."""

    def __init__(self, planned: Sequence[Planned], terms: Sequence[Term], k: int):
        self.uses, self.k = list(zip(planned, terms, strict=True)), k
        self.unmerged = [i for i, p in enumerate(planned) if not p.merged]
        self.deltas: list[Tensor] = []

    def put(self, column: int, deltas: Sequence[Tensor]) -> None:
        """The gradients at the outputs of the uses, for one output of the network."""
        parts = [self.uses[i][1].deltas(deltas[i], self.uses[i][0].samples) for i in self.unmerged]
        if not self.deltas:
            self.deltas = [part.new_empty(part.shape[0], self.k, *part.shape[1:]) for part in parts]
        for stacked, part in zip(self.deltas, parts, strict=True):
            stacked[:, column] = part

    def factors(self) -> Factors:
        """One factor a part: outer products side by side, gradients summed."""
        uses_of: dict[Where, list[Rows | Outer]] = {}
        for (p, t), d in zip([self.uses[i] for i in self.unmerged], self.deltas, strict=True):
            uses_of.setdefault(p.where, []).append(Rows(d) if isinstance(t, ElementwiseTerm) else _outer(t, p, d))
        return _tied({where: _joined(parts) for where, parts in uses_of.items()})


def same_entries(region: Region) -> Region:
    """A part of a parameter with its dimensions in the order of memory: equal for a matrix and its transpose.

    >>> same_entries((0, (3, 2), (1, 3))) == same_entries((0, (2, 3), (3, 1)))
    True
    """
    offset, shape, strides = region
    pairs = sorted(zip(strides, shape, strict=True), reverse=True)
    return offset, tuple(size for _, size in pairs), tuple(stride for stride, _ in pairs)


def _tied(factors: Mapping[Where, Rows | Outer]) -> Factors:
    """With the uses of a matrix and of its transpose as one factor, in the place of the first."""
    found: Factors = {}
    places: dict[Where, Where] = {}
    for where, factor in factors.items():
        entries = where[0], same_entries(where[1])
        before = found.get(places.setdefault(entries, where))
        if isinstance(before, Outer) and isinstance(factor, Outer):
            found[places[entries]] = Tied(before, factor)
        else:
            found[where] = factor
    return found


def _outer(t: OuterTerm, p: Planned, d: Tensor) -> Outer:
    width = t.weight.numel() // (d.shape[2] * d.shape[3])

    def inputs() -> Tensor:
        a = t.inputs(p.samples)
        return torch.cat([a, torch.ones_like(a[:, :, :1])], 2) if p.with_bias else a

    return Outer(((inputs, d),), width + p.with_bias, p.with_bias)


def _joined(factors: list[Rows | Outer]) -> Rows | Outer:
    first = factors[0]
    if isinstance(first, Outer):
        return Outer(tuple(x for f in factors if isinstance(f, Outer) for x in f.parts), first.width, first.with_bias)
    return first if len(factors) == 1 else Rows(torch.stack([f.g for f in factors if isinstance(f, Rows)]).sum(0))
