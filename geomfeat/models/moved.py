"""Which parameters training moved: told by their values before and after, never by requires_grad."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import Functional, functional, unwrapped


def differentiable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that could have been trained, floating or complex, by name."""
    named = unwrapped(model).named_parameters()
    return {name: p for name, p in named if p.is_floating_point() or p.is_complex()}


def require_values(model: nn.Module, what: str) -> None:
    """BadInput for weights without values, as they are made under torch.device("meta")."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta:
            raise BadInput(
                f"the weights of {what} have no values: {name!r} is on the meta device. Make room for them with "
                "model.to_empty(device='cpu') and load them first (load_weights, load_state_dict)"
            )


def moved_parameters(before: nn.Module, after: nn.Module) -> frozenset[str]:
    """Names of the parameters of `before` whose values differ in `after`, or that `after` has not in this shape.

    Where one of the two was saved in a coarser type (bfloat16), what differs by its rounding only did not move.

    >>> import copy
    >>> start = nn.Linear(2, 1)
    >>> end = copy.deepcopy(start)
    >>> _ = end.requires_grad_(False).bias.add_(1)
    >>> sorted(moved_parameters(start, end))
    ['bias']
    """
    new = {plain_name(name): p.detach() for name, p in differentiable(after).items()}
    return frozenset(
        name for name, old in differentiable(before).items() if _differs(old.detach(), new.get(plain_name(name)))
    )


def functional_in(model: nn.Module, names: Collection[str] | None = None, **options: Any) -> Functional:
    """`functional` with the parameters of these names (None: all) as its theta, whatever their requires_grad says.

    >>> frozen = nn.Linear(2, 1).requires_grad_(False)
    >>> list(functional_in(frozen).theta), list(functional_in(frozen, ["bias"]).theta)
    (['weight', 'bias'], ['bias'])
    """
    wanted = None if names is None else {plain_name(name) for name in names}
    with all_trainable(model):
        return functional(model, params=lambda name: wanted is None or plain_name(name) in wanted, **options)


def coarsest(*models: nn.Module) -> torch.dtype:
    """The coarsest type that a parameter of these models has."""
    types = {p.dtype for model in models for p in differentiable(model).values()}
    return max(types, key=lambda dtype: torch.finfo(dtype).eps)


def plain_name(name: str) -> str:
    """A parameter's name without the wrappers of compiled parts.

    >>> plain_name("0._orig_mod.weight")
    '0.weight'
    """
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _differs(old: Tensor, new: Tensor | None) -> bool:
    if new is None or old.shape != new.shape:
        return True
    new = new.to(old.device)
    coarser = max((old.dtype, new.dtype), key=lambda dtype: torch.finfo(dtype).eps)
    return not torch.equal(old.to(coarser), new.to(coarser))


@contextmanager
def all_trainable(model: nn.Module) -> Iterator[None]:
    """Every parameter that can be trained asks for gradients inside; afterwards only those that did."""
    flags = [(p, p.requires_grad) for p in differentiable(model).values()]
    try:
        for p, _ in flags:
            p.requires_grad_()
        yield
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)
