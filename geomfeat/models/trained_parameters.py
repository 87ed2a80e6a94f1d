"""Which parameters training moved, by their values before and after, never by requires_grad."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.models.copying import deep_copy
from geomfeat.models.effective_weights import (  # fmt: skip
    effective_weights,
    fixed_buffers,
    is_reparametrised,
    makers_of,
    normed_by,
    power_iterations,
)
from geomfeat.models.functional import Functional, functional, unwrapped
from geomfeat.precision import precision_of

# Rounding steps by which arithmetic that changes nothing (a scaling and its inverse) may leave full precision off.
STEPS = 4
AT_ONCE = 2**16  # entries that are compared at a time


def differentiable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that could have been trained, floating or complex, by name."""
    named = unwrapped(model).named_parameters()
    return {name: p for name, p in named if p.is_floating_point() or p.is_complex()}


def moved_parameters(before: nn.Module, after: nn.Module) -> frozenset[str]:
    """Names of the parameters of `before` whose values differ in `after`, or that `after` has not in this shape.

    What differs by rounding only did not move: that of a coarser type in which one was saved (bfloat16), whatever it
    was loaded in since, or that of arithmetic. Of weights that are made of other tensors, what is made counts.

    >>> import copy
    >>> start = nn.Linear(2, 1)
    >>> end = copy.deepcopy(start)
    >>> _ = end.requires_grad_(False).bias.add_(1)
    >>> sorted(moved_parameters(start, end))
    ['bias']
    """
    old, new = differentiable(before), {plain_name(name): p for name, p in differentiable(after).items()}
    rounded, rounded_new = _evident_halves(old.values()), _evident_halves(new.values())
    moved = {
        name for name, p in old.items() if _differs(p, new.get(plain_name(name)), rounded, rounded_new)
    }  # fmt: skip
    return frozenset(_by_weights(before, after, moved))


def _by_weights(before: nn.Module, after: nn.Module, moved: set[str]) -> set[str]:
    """The moved parameters, where weights are made of others by what is made of them.

    The length of weight norm's direction makes no difference, and a buffer that parameters are combined with may
    (the base of `orthogonal`). The power iterations of a spectral norm run wherever the network
    does, trained or not.
    """
    twins = {plain_name(name): module for name, module in unwrapped(after).named_modules()}
    moved, known = set(moved), set(differentiable(before))
    for name, module in unwrapped(before).named_modules():
        twin = twins.get(plain_name(name))
        if twin is None or not (is_reparametrised(module) or is_reparametrised(twin)):
            continue
        old, new = effective_weights(module), effective_weights(twin)
        # A weight that is made of others at one moment only is plain at the other.
        for weight, makers in ({made: [made] for made in makers_of(twin)} | makers_of(module)).items():
            if weight not in old:
                continue
            made_of = {f"{name}.{maker}" if name else maker for maker in makers} & known
            if weight in new and not _differs(old[weight], new[weight]):
                moved -= made_of
            # What kept its values although the weight moved was not trained: the base under a low-rank adapter.
            elif not made_of & moved and _differ(fixed_buffers(module, weight), fixed_buffers(twin, weight)):
                moved |= made_of
    return moved


def _differ(old: dict[str, Tensor], new: dict[str, Tensor]) -> bool:
    return old.keys() != new.keys() or any(_differs(old[name], new[name]) for name in old)


def with_iterations_of(model: nn.Module, trained: nn.Module) -> nn.Module:
    """The model, with the power iterations of `trained` in spectral norms of weights that did not move.

    They approach the norm of the same weight wherever the network runs in training mode. Without any, itself.
    """
    old, new = power_iterations(model), power_iterations(trained)
    own = {name: new[name] for name, b in old.items() if name in new and b.shape == new[name].shape}
    if all(torch.equal(old[name], value.to(old[name])) for name, value in own.items()):
        return model
    moved = moved_parameters(model, trained)
    copy = deep_copy(unwrapped(model))
    for name, buffer in power_iterations(copy).items():
        if name in own and not any(maker in moved for maker in normed_by(copy, name)):
            buffer.copy_(own[name])
    return copy


def functional_in(model: nn.Module, names: Collection[str] | None = None, **options: Any) -> Functional:
    """`functional` with the parameters of these names (None: all) as its theta, whatever their requires_grad says.

    >>> frozen = nn.Linear(2, 1).requires_grad_(False)
    >>> list(functional_in(frozen).theta), list(functional_in(frozen, ["bias"]).theta)
    (['weight', 'bias'], ['bias'])
    """
    wanted = None if names is None else {plain_name(name) for name in names}
    with all_trainable(model):
        return functional(model, params=lambda name: wanted is None or plain_name(name) in wanted, **options)


def coarsest(before: nn.Module, after: nn.Module) -> torch.dtype:
    """The coarsest type that a parameter has, or was evidently rounded to.

    A start in float64 often is one in float32, widened; what was trained from it may move by less.
    """
    types = [_rounded_to(p.detach(), ()) for p in differentiable(after).values()]
    for p in differentiable(before).values():
        found = _rounded_to(p.detach(), ())
        types.append(found if torch.finfo(found).bits < 32 else p.dtype)
    return max(types, key=lambda dtype: torch.finfo(dtype).eps)


def plain_name(name: str) -> str:
    """A parameter's name without the wrappers of compiled parts.

    >>> plain_name("0._orig_mod.weight")
    '0.weight'
    """
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def by_names_of(these: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of another copy of a network under the names of `these`: one of both may be compiled.

    >>> by_names_of({"_orig_mod.w": torch.zeros(1)}, {"w": torch.ones(1)})
    {'_orig_mod.w': tensor([1.])}
    """
    plain = {plain_name(name): value for name, value in others.items()}
    return {name: plain[plain_name(name)] for name in these}


def _evident_halves(tensors: Iterable[Tensor]) -> frozenset[torch.dtype]:
    """The half precisions that some of these tensors have, or were evidently widened from."""
    return frozenset(dtype for t in tensors if torch.finfo(dtype := precision_of(t.detach())).bits < 32)


def _rounded_to(x: Tensor, halves: Collection[torch.dtype]) -> torch.dtype:
    """The precision of a parameter; a very small one has that of its neighbours if all its entries fit it."""
    found = precision_of(x)
    if x.is_complex() or torch.finfo(found).bits < 32 or not halves or bool((x == x.round()).all()):
        return x.dtype if x.is_complex() else found
    fitting = [half for half in halves if torch.equal(x.to(half).to(x.dtype), x)]
    return max(fitting, key=lambda dtype: torch.finfo(dtype).eps, default=found)


def _differs(
    old: Tensor,
    new: Tensor | None,
    old_halves: Collection[torch.dtype] = (),
    new_halves: Collection[torch.dtype] = (),
) -> bool:
    """Whether two tensors differ by more than rounding.

    Numbers that were saved in half precision were rounded once, so others that round to them are the same. Through two
    half precisions they may end one step apart, and those of arithmetic a few.
    """
    if new is None or old.shape != new.shape:
        return True
    old, new = old.detach(), new.detach().to(old.device)
    if torch.equal(old, new):
        return False
    if not (old.is_floating_point() or old.is_complex()):
        return True
    types = _rounded_to(old, old_halves), _rounded_to(new, new_halves)
    if torch.finfo(types[0]).bits >= 32:
        # A start in float64 often is one in float32, widened; what was trained from it may move by less.
        types = old.dtype, types[1]
    coarse, steps = max(types, key=lambda dtype: torch.finfo(dtype).eps), STEPS
    if torch.finfo(coarse).bits < 32 and not coarse.is_complex:
        old, new = old.to(coarse), new.to(coarse)
        steps = int(types[0] != types[1] and all(torch.finfo(t).bits < 32 for t in types))
    wide = torch.promote_types(torch.promote_types(old.dtype, new.dtype), torch.float64)
    # Mostly the first entries tell.
    for one, other in zip(*(whole.reshape(-1).split(AT_ONCE) for whole in (old, new)), strict=True):
        a, b = one.to(wide), other.to(wide)
        size = torch.maximum(a.abs(), b.abs()).clamp_min(torch.finfo(coarse).tiny)
        if not bool(((a - b).abs() <= steps * torch.finfo(coarse).eps * size).all()):
            return True
    return False


@contextmanager
def all_trainable(model: nn.Module) -> Iterator[None]:
    """Inside, every trainable parameter requires gradients; afterwards only those that did before."""
    flags = [(p, p.requires_grad) for p in differentiable(model).values()]
    try:
        for p, _ in flags:
            p.requires_grad_()
        yield
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)
