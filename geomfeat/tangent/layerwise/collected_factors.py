"""Gradients at the outputs of all uses, collected output by output into one factor for each part of a parameter."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from geomfeat.tangent.layerwise.forward_pass import Factors, Planned
from geomfeat.tangent.layerwise.outer_factors import Outer, Region, Rows, Where, gradients, live_positions
from geomfeat.tangent.layerwise.rules import OuterTerm, Term
from geomfeat.tangent.layerwise.rules_conv import ConvTerm
from geomfeat.tangent.layerwise.rules_elementwise import ElementwiseTerm
from geomfeat.tangent.layerwise.rules_linear import LinearTerm
from geomfeat.tangent.layerwise.tied_factors import Tied


class Collected:
    """Gathers the deltas of all uses, output by output, and joins the uses of one part of a parameter.

    Where a weight has no more inputs than there are positions (the first convolutions of a network for images, long
    contexts), its gradients are smaller than the deltas they are made of: they are formed at once, in their place.
    """

    def __init__(self, planned: Sequence[Planned], terms: Sequence[Term], k: int, formed: set[int] | None = None):
        """`formed`: what was formed for other samples of the network, whose products with these are taken."""
        self.uses, self.k = list(zip(planned, terms, strict=True)), k
        self.unmerged = [i for i, p in enumerate(planned) if not p.merged]
        self.biases = {p.merged: p.where for p in planned if p.merged is not None}
        self.stacked: list[Tensor] = []
        self.formed = formed

    def put(self, column: int, deltas: Sequence[Tensor]) -> None:
        """The gradients at the outputs of the uses, for one output of the network."""
        parts = [self.uses[i][1].deltas(deltas[i], self.uses[i][0].samples) for i in self.unmerged]
        self.formed = self._to_form(parts) if self.formed is None else self.formed
        for at, part in enumerate(parts):
            value = self._gradients(self.unmerged[at], part) if at in self.formed else part
            if len(self.stacked) == at:
                self.stacked.append(value.new_empty(value.shape[0], self.k, *value.shape[1:]))
            self.stacked[at][:, column] = value

    def _to_form(self, parts: Sequence[Tensor]) -> set[int]:
        """The places of those whose gradients are formed: all uses of a part of a parameter, or none."""
        places = [self.uses[i][0].where for i in self.unmerged]
        seen: dict[Where, Where] = {}
        small = dict.fromkeys(places, True)
        for i, where, part in zip(self.unmerged, places, parts, strict=True):
            p, t = self.uses[i]
            # A read-out of the last token leaves most positions without deltas, which are dropped later.
            few = isinstance(t, LinearTerm | ConvTerm) and _width(t, p, part) <= int(live_positions(part).sum())
            small[where] = small[where] and few
            first = seen.setdefault((where[0], same_entries(where[1])), where)
            if first != where:  # a matrix and its transpose have products with each other
                small[first] = small[where] = False
        return {at for at, where in enumerate(places) if small[where]}

    def _gradients(self, i: int, part: Tensor) -> Tensor:
        """(n, groups, out, in) of one use, with the bias's column where there is one."""
        p, t = self.uses[i]
        assert not isinstance(t, ElementwiseTerm), "only outer products are formed"
        outer = _outer(t, p, part[:, None])
        return gradients(outer.inputs(), part[:, None], outer.width)[:, 0]

    def factors(self) -> Factors:
        """One factor a part: outer products side by side, gradients summed."""
        uses_of: dict[Where, list[Rows | Outer]] = {}
        formed = self.formed or set()
        for at, (i, d) in enumerate(zip(self.unmerged, self.stacked, strict=True)):
            p, t = self.uses[i]
            if at in formed and p.with_bias:
                uses_of.setdefault(self.biases[p.where], []).append(Rows(d[..., -1].flatten(2)))
                d = d[..., :-1]
            if at in formed or isinstance(t, ElementwiseTerm):
                uses_of.setdefault(p.where, []).append(Rows(d.flatten(2)))
            else:
                uses_of.setdefault(p.where, []).append(_outer(t, p, d))
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
    def inputs() -> Tensor:
        a = t.inputs(p.samples)
        return torch.cat([a, torch.ones_like(a[:, :, :1])], 2) if p.with_bias else a

    return Outer(((inputs, d),), _width(t, p, d[:, 0]), p.with_bias)


def _width(t: OuterTerm, p: Planned, d: Tensor) -> int:
    """Entries of the inputs of a use, with the 1 of its bias, from deltas (n, groups, out, positions)."""
    return t.weight.numel() // (d.shape[1] * d.shape[2]) + p.with_bias


def _joined(factors: list[Rows | Outer]) -> Rows | Outer:
    first = factors[0]
    if isinstance(first, Outer):
        return Outer(tuple(x for f in factors if isinstance(f, Outer) for x in f.parts), first.width, first.with_bias)
    return first if len(factors) == 1 else Rows(torch.stack([f.g for f in factors if isinstance(f, Rows)]).sum(0))
