"""Rates, and running sizes of gradients, in the groups and the state of a torch optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput, near
from geomfeat.models.modules import real_pairs
from geomfeat.models.trained_parameters import plain_name

# torch's names for a running mean (or sum) of squared gradients; and for a running maximum of their size.
SQUARES, SIZES = ("exp_avg_sq", "square_avg", "sum"), ("exp_inf",)
# Adafactor's factors of the squares, and the number of steps made.
FACTORS, STEP = ("row_var", "col_var"), "step"
# What has the shape of the parameter in every optimizer comes first: some hold one size for a whole tensor.
SHAPED = ("exp_avg", "momentum_buffer", *SQUARES, *SIZES)
# Options that only optimizers have which divide by the size of the gradient.
ADAPTIVE = {"betas", "rho", "etas", "initial_accumulator_value", "beta2_decay", "centered"}
ORTHOGONAL = {"ns_steps"}
Groups = Sequence[Mapping[str, Any]]
State = Mapping[Any, Mapping[str, Any]]


def parts_of(saved: Mapping[Any, Any]) -> tuple[Groups, State]:
    """(groups, state) of an optimizer's state_dict; BadInput where it does not have the form of one."""
    groups, state = saved["param_groups"], saved.get("state", {})
    fine = isinstance(groups, list | tuple) and all(_is_group(group) for group in groups) and len(groups) > 0
    if not fine or not isinstance(state, Mapping) or not all(isinstance(own, Mapping) for own in state.values()):
        raise BadInput("optimizer: its state is not that of a torch optimizer: give optimizer.state_dict()")
    return groups, state


def _is_group(group: Any) -> bool:
    if not isinstance(group, Mapping) or not isinstance(group.get("params"), list | tuple):
        return False
    return all(isinstance(key, Tensor | int | str) for key in group["params"])


def rates_of(
    groups: Groups, state: State, known: Mapping[str, Tensor]
) -> tuple[dict[str, float], dict[str, Tensor], set[str], set[str]]:
    """(rates, sizes of gradients, names of adaptive and of orthogonal rules) of parameters that have these names.

    Raises BadInput for an optimizer of other parameters, and rates that are no rates.
    """
    keys = [key for group in groups for key in group["params"]]
    found = _names_of(groups, keys, state, known)
    names = dict(zip(map(_key, keys), map(plain_name, found), strict=True))
    shapes = {plain_name(name): real_pairs(known[name]).shape for name in found}
    rates: dict[str, float] = {}
    sizes: dict[str, Tensor] = {}
    adaptive, orthogonal = set[str](), set[str]()
    for group in groups:
        own = [names[_key(key)] for key in group["params"]]
        rate = group.get("initial_lr", group.get("lr"))
        rates |= dict.fromkeys(own, checked_rate(rate, ", ".join(own[:2]))) if own else {}
        adaptive |= set(own) if is_adaptive(group) else set()
        orthogonal |= set(own) if ORTHOGONAL & set(group) else set()
        for key, name in zip(group["params"], own, strict=True):
            size = _size_of(state.get(key, {}), group, name)
            # One size for a whole tensor counts for every entry; of another layout (in blocks) nothing is known.
            if size is not None and size.shape in (shapes[name], torch.Size()):
                sizes[name] = size.expand(shapes[name])
    return rates, sizes, adaptive | set(sizes), orthogonal


def is_adaptive(group: Mapping[str, Any]) -> bool:
    """Whether an optimizer divides the updates of this group by the size of the gradient.

    >>> is_adaptive({"lr": 0.1}), is_adaptive({"lr": 0.1, "betas": (0.9, 0.999)})
    (False, True)
    """
    return bool(ADAPTIVE & set(group))


def checked_rate(value: Any, where: str) -> float:
    """A rate as a number; BadInput where it is negative, infinite or no number."""
    one = isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)
    rate = float(value) if one and not isinstance(value, bool) else math.nan
    if not (math.isfinite(rate) and rate >= 0):
        raise BadInput(f"optimizer: the rate of {where!r} is {value!r}: give a number of at least 0")
    return rate


def _key(param: Any) -> Any:
    return id(param) if isinstance(param, Tensor) else param


def _names_of(groups: Groups, keys: Sequence[Any], state: State, known: Mapping[str, Tensor]) -> list[str]:
    """The name in the model of every parameter of the optimizer."""
    by_identity = {id(p): name for name, p in known.items()}
    if keys and all(id(key) in by_identity for key in keys):
        return [by_identity[id(key)] for key in keys]
    given = [str(name) for group in groups for name in group.get("param_names", ())]
    given = [key for key in keys if isinstance(key, str)] if len(given) < len(keys) else given
    shapes = [_shape_of(key, state.get(key, {})) for key in keys]
    if len(given) == len(keys):
        names = _by_name(given, known)
    elif len(groups) > 1 and not any(isinstance(key, Tensor) for key in keys):
        raise BadInput(
            f"optimizer: a state_dict of {len(groups)} groups without parameter names does not say which parameter is "
            "which: give the optimizer itself, make it from named_parameters(), or give {parameter pattern: rate}"
        )
    else:
        names = _by_order(shapes, known)
    _require_shapes(shapes, names, known)
    return names


def _by_name(given: Sequence[str], known: Mapping[str, Tensor]) -> list[str]:
    plain = {plain_name(name): name for name in known}
    missing = [name for name in given if plain_name(name) not in plain]
    if missing:
        raise BadInput(f"optimizer: the model has no parameter {missing[0]!r}; near: {near(missing[0], list(known))}")
    return [plain[plain_name(name)] for name in given]


def _by_order(shapes: Sequence[tuple[int, ...] | None], known: Mapping[str, Tensor]) -> list[str]:
    trainable = [name for name, p in known.items() if p.requires_grad]
    for names in (list(known), trainable):
        if len(names) == len(shapes):
            return names
    _require_shapes(shapes, list(known), known)
    raise BadInput(
        f"optimizer: it holds {len(shapes)} parameters, the model {len(known)}: it is the optimizer of another model, "
        "or of a part of it; give {parameter pattern: rate}"
    )


def _require_shapes(
    shapes: Sequence[tuple[int, ...] | None], names: Sequence[str], known: Mapping[str, Tensor]
) -> None:
    """BadInput that names the first parameter whose shape in the optimizer, where it is known, is another one."""
    for shape, name in zip(shapes, names, strict=False):
        if shape is not None and shape != tuple(known[name].shape):
            raise BadInput(
                f"optimizer: it holds {shape} where parameter {name!r} of the model is {tuple(known[name].shape)}: it "
                "is the optimizer of another model"
            )


def _shape_of(key: Any, state: Mapping[str, Any]) -> tuple[int, ...] | None:
    if isinstance(key, Tensor):
        return tuple(key.shape)
    found = [state[name] for name in SHAPED if isinstance(state.get(name), Tensor)]
    return tuple(found[0].shape) if found else None


def _size_of(state: Mapping[str, Any], group: Mapping[str, Any], name: str) -> Tensor | None:
    """The size of the gradients in an optimizer's state, or None where it holds none."""
    found = _squares_of(state, group, name)
    if found is not None and not bool((found >= 0).all() and torch.isfinite(found).all()):
        raise BadInput(
            f"optimizer: its state for {name!r} holds NaN, infinite or negative squares: training diverged, or it is "
            "damaged; give that of an earlier step"
        )
    return None if found is None else found.sqrt()


def _squares_of(state: Mapping[str, Any], group: Mapping[str, Any], name: str) -> Tensor | None:
    if all(isinstance(state.get(name), Tensor) for name in FACTORS):
        rows, columns = (state[name].double() for name in FACTORS)
        return rows * columns / rows.mean(-2, keepdim=True)  # Adafactor's factors (Shazeer & Stern 2018, algorithm 4)
    kind = next((kind for kind in (*SQUARES, *SIZES) if isinstance(state.get(kind), Tensor)), None)
    if kind is None:
        return None
    step = _step_of(state)
    if step == 0:
        raise BadInput(f"optimizer: its state for {name!r} has made no step: give the state after training")
    found = real_pairs(state[kind].detach()).double()
    betas = group.get("betas")
    if kind == "exp_avg_sq" and step > 0 and isinstance(betas, list | tuple) and len(betas) > 1 and 0 < betas[1] < 1:
        found = found / -math.expm1(step * math.log(betas[1]))  # Kingma & Ba 2015, algorithm 1
    return found if kind not in SIZES else torch.where(found < 0, found, found.square())


def _step_of(state: Mapping[str, Any]) -> float:
    """The number of steps made, or NaN where it is not known."""
    step = state.get(STEP)
    one = isinstance(step, int | float) or (isinstance(step, Tensor) and step.numel() == 1)
    return float(step) if one else math.nan  # type: ignore[arg-type]
