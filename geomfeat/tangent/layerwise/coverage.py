"""Which parameters the rules cover, found and verified on a few samples before anything is computed by them."""

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geomfeat.memory import is_out_of_memory
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.numerics import stream
from geomfeat.tangent.jacobians.gradients import differentiable_recurrence, plain_gradient
from geomfeat.tangent.layerwise.autograd_graph import Use
from geomfeat.tangent.layerwise.collected_factors import Collected, same_entries
from geomfeat.tangent.layerwise.forward_pass import (
    Pass,
    Planned,
    differing,
    forward,
    signature,
    where_of,
)
from geomfeat.tangent.layerwise.outer_factors import Region, Where
from geomfeat.tangent.layerwise.rules import Term
from geomfeat.tangent.layerwise.rules_elementwise import ElementwiseTerm
from geomfeat.tangent.layerwise.rules_embedding import EmbeddingTerm
from geomfeat.tangent.layerwise.sample_axis import SampleAxis, sample_axes

logger = logging.getLogger(__name__)


def parameter_group(name: str) -> str:
    """The module that owns a parameter; the parameter's own name where that is the model itself.

    A parameter under torch.nn.utils.parametrize belongs to the module that it parametrises.

    >>> parameter_group("encoder.fc1.weight"), parameter_group("class_token")
    ('encoder.fc1', 'class_token')
    """
    owner, _, _ = name.partition(".parametrizations.") if ".parametrizations." in name else name.rpartition(".")
    return owner or name


@dataclass(frozen=True)
class CoveragePlan:
    """The uses that rules cover, the parameters covered wholly, and bytes of deltas for a sample and an output."""

    uses: tuple[Planned, ...]
    covered: frozenset[str]
    delta_bytes: int


NOTHING = CoveragePlan((), frozenset(), 0)


def plan(f: Functional, inputs: Any) -> CoveragePlan:
    """Find the uses of all parameters on a few samples, and verify what the rules say of them.

    Passes of two and three samples show which axis of every operation holds the samples, one sample's gradient shows
    their order.
    A parameter is covered when every use of it has a rule and the weighted sum of the samples' gradients by the rules
    equals the plain gradient.
    """
    n = n_samples(inputs)
    try:
        with differentiable_recurrence(f):
            small, large = (
                forward(f, take(inputs, torch.tensor(rows, device=f.device)))
                for rows in ([0, n - 1], [0, n // 2, n - 1])
            )
            if [signature(u) for u, _ in small.found] != [signature(u) for u, _ in large.found]:
                return NOTHING
            return _planned(f, small, large)
    # Whatever the model cannot do in small batches, it may do sample by sample.
    except (RuntimeError, ValueError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        logger.info("no structured tangent kernel: the model fails on batches of two and three (%s)", error)
        return NOTHING


def _planned(f: Functional, small: Pass, large: Pass) -> CoveragePlan:
    uncovered = {use.parameter for passed in (small, large) for use, t in passed.found if t is None}
    few, many = ([(u, t) for u, t in p.found if t is not None and u.parameter not in uncovered] for p in (small, large))
    if not many:
        return NOTHING
    draws = torch.randn(3, large.outputs.shape[1], generator=stream(0, "ntk plan"), dtype=f.dtype).to(f.device)
    chosen = torch.tensor([0.0, 1.0, 0.0], dtype=f.dtype, device=f.device)[:, None]
    shapes = [tuple(d.shape) for d in small.deltas(draws[:2], few)]
    alone = large.deltas(draws * chosen, many)
    axes = _axes(few, many, shapes, alone)
    found: list[tuple[tuple[Use, Term], Planned]] = []
    parts: dict[str, dict[Region, set[Any]]] = {}
    for use, t in many:
        samples = axes.get(use.node)
        if samples is None or (isinstance(t, ElementwiseTerm) and t.shape[samples.axis] != 1):
            uncovered.add(use.parameter)
            continue
        p = Planned(where_of(use, t, f), *signature(use)[1:], samples)
        kind = (isinstance(t, ElementwiseTerm), getattr(t, "groups", 1), isinstance(t, EmbeddingTerm))
        parts.setdefault(use.parameter, {}).setdefault(p.where[1], set()).add(kind)
        found.append(((use, t), p))
    uncovered |= {name for name, regions in parts.items() if not _disjoint(regions)}
    kept = [(pair, p) for pair, p in found if p.where[0] not in uncovered]
    wrong = _wrong(f, large, kept, draws, [name for name in f.theta if name not in uncovered])
    uncovered |= wrong
    kept = [(pair, p) for pair, p in kept if p.where[0] not in wrong]
    size = {id(u.node): d.numel() * d.element_size() // 3 for (u, _), d in zip(many, alone, strict=True)}
    return CoveragePlan(
        _merged(kept),
        frozenset(f.theta) - uncovered,
        sum({u.node: size[id(u.node)] for (u, _), _ in kept}.values()),
    )


def _axes(
    few: list[tuple[Use, Term]], many: list[tuple[Use, Term]], shapes: list[tuple[int, ...]], alone: list[Tensor]
) -> dict[Any, SampleAxis]:
    """Operation -> the axis of its samples, where that is clear.

    A read-out of the last position gives gradients at one position of each sample, which may fit both orders of samples
    and positions. The inputs of a product then decide, which the first and last sample have in both passes; operations
    that only add to such a product's result have the axis of the product.
    """
    found: dict[Any, list[SampleAxis]] = {}
    for (_, small), (use, large), two, three in zip(few, many, shapes, alone, strict=True):
        axes = [s for s in sample_axes(two, three, 1) if _keeps_inputs(small, large, s)]
        before = found.get(use.node)
        found[use.node] = axes if before is None else [s for s in before if s in axes]
    return {node: axes[0] for node, axes in found.items() if len(axes) == 1}


def _keeps_inputs(small: Term, large: Term, samples: SampleAxis) -> bool:
    """Whether the first and last sample have the same inputs in a pass of two samples and in one of three."""
    if isinstance(small, ElementwiseTerm) or isinstance(large, ElementwiseTerm):
        return True
    two, three = small.inputs(samples), large.inputs(samples)[[0, 2]]
    near = torch.finfo(three.dtype).eps ** 0.5 if three.is_floating_point() else 0
    return bool((two - three).abs().max() <= near * three.abs().max())


def _merged(kept: list[tuple[tuple[Use, Term], Planned]]) -> tuple[Planned, ...]:
    """The uses in order; biases that are added wherever their own layer's weight multiplies go with the weight."""
    nodes: dict[str, list[Any]] = {}
    for (use, _), _ in kept:
        nodes.setdefault(use.parameter, []).append(use.node)
    weights = {
        use.node: p.where
        for (use, t), p in kept
        if p.operation in ("AddmmBackward", "ConvolutionBackward") and not isinstance(t, ElementwiseTerm)
    }
    pairs: dict[Where, Where] = {}
    for (use, t), p in kept:
        weight = weights.get(use.node)
        if (
            weight is None
            or not isinstance(t, ElementwiseTerm)
            or use.scale != 1
            or parameter_group(weight[0]) != parameter_group(use.parameter)
        ):
            continue
        theirs, own = nodes[weight[0]], nodes[use.parameter]
        if set(theirs) == set(own) and len(theirs) == len(own):
            pairs[p.where] = weight
    with_bias = set(pairs.values())
    return tuple(replace(p, with_bias=p.where in with_bias, merged=pairs.get(p.where)) for _, p in kept)


def _disjoint(regions: Mapping[Region, set[Any]]) -> bool:
    """Whether parts of a parameter have nothing in common, and each is used in one way only.

    A matrix and its transpose are one part, where both are used in products or look-ups.
    """
    entries: dict[Region, list[Region]] = {}
    for region in regions:
        entries.setdefault(same_entries(region), []).append(region)
    spans = sorted((r[0], r[0] + sum((s - 1) * t for s, t in zip(r[1], r[2], strict=True))) for r in entries)
    apart = all(first[1] < second[0] for first, second in itertools.pairwise(spans))
    both_ways = [r for same in entries.values() if len(same) > 1 for r in same]
    products = all(kind[:2] == (False, 1) for r in both_ways for kind in regions[r])
    return apart and products and all(len(kinds) == 1 for kinds in regions.values())


def _wrong(
    f: Functional, passed: Pass, kept: list[tuple[tuple[Use, Term], Planned]], draws: Tensor, names: list[str]
) -> set[str]:
    """The parameters whose gradient by the rules is not the plain gradient."""
    plain = plain_gradient((passed.outputs * draws).sum(), {n: passed.theta[n] for n in names}, retain_graph=True)
    # Weights that the backward pass does not see, so that a gradient in the place of another sample's shows.
    weights = torch.tensor([1.0, 2.0, 4.0], dtype=f.dtype, device=f.device)
    terms = [pair for pair, _ in kept]
    collected = Collected([p for _, p in kept], [t for _, t in terms], 1)
    collected.put(0, passed.deltas(draws / weights[:, None], terms))
    wrong = differing(plain, collected.factors(), weights)
    if wrong:
        logger.info("the rules do not give the gradients of %s: using the Jacobian", sorted(wrong))
    return wrong
