"""A forward pass read as uses of parameters, and the gradients at their outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomfeat.models.functional import Functional
from geomfeat.tangent.layerwise.autograd_graph import Use, uses
from geomfeat.tangent.layerwise.outer_factors import Where
from geomfeat.tangent.layerwise.rules import Term, operation, term
from geomfeat.tangent.layerwise.sample_axis import SampleAxis
from geomfeat.tangent.layerwise.tied_factors import Factor

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
    largest = {name: _largest(g) for name, g in plain.items()}
    # A gradient that is zero but for rounding (a bias that shifts all keys of an attention) has no digits to compare.
    rounding = 64 * eps * max(largest.values(), default=0.0)
    found = set[str]()
    for name, g in plain.items():  # one after the other, for large networks
        left = g.clone()
        for (parameter, (offset, shape, strides)), factor in factors.items():
            if parameter == name:
                place = left.as_strided(shape, strides, left.storage_offset() + offset)
                place.sub_(factor.total(weights).view(shape))
        if not _largest(left) <= max(eps**0.6 * largest[name], rounding):
            found.add(name)
    return found


def _largest(x: Tensor) -> float:
    """The largest absolute value, NaN where there is one; without a second tensor of the size of a large weight."""
    low, high = torch.aminmax(x)
    return float(torch.maximum(-low, high))
