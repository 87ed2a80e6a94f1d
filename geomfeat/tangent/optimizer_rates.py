"""What an optimizer says about how fast each parameter moves: its rate, and the size that it divides gradients by."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput, near
from geomfeat.models.modules import inside_wrappers, wrapper_names
from geomfeat.models.trained_parameters import differentiable, plain_name

# torch's names for a running mean (or sum) of squared gradients; and for a running maximum of their size.
SQUARES, SIZES = ("exp_avg_sq", "square_avg", "sum"), ("exp_inf",)
# Options that only optimizers have which divide by the size of the gradient.
ADAPTIVE = {"betas", "rho", "etas", "initial_accumulator_value", "beta2_decay", "centered"}
ORTHOGONAL = {"ns_steps"}


@dataclass(frozen=True, eq=False)
class OptimizerRates:
    """Rates of a network's parameters; only their ratios matter.

    Attributes:
        rates: name -> learning rate; names are without the wrappers of compiled parts.
        sizes: name -> size of the gradients that updates are divided by, if it is known.
        adaptive: names of the parameters whose updates are divided by it, known or not.
        orthogonal: names of the matrices whose updates have singular values of 1 (Muon).
    """

    rates: Mapping[str, float]
    sizes: Mapping[str, Tensor] = field(default_factory=dict)
    adaptive: frozenset[str] = frozenset()
    orthogonal: frozenset[str] = frozenset()


def optimizer_rates(optimizer: Any, model: nn.Module) -> OptimizerRates:
    """The rates in a torch optimizer, its `state_dict()`, or {parameter glob: rate} for the parameters of `model`.

    A schedule is left aside: the rates are those it began with ("initial_lr"). Parameters are found by identity, else
    by the names that the optimizer was given (`model.named_parameters()`), else by their order.

    Raises BadInput for an optimizer of other parameters, a state without steps, rates that are not positive, and
    patterns that match nothing.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    >>> optimizer_rates({"0.*": 0.1, "1.*": 0.2}, net).rates["1.bias"]
    0.2
    >>> optimizer_rates(torch.optim.SGD(net.parameters(), lr=0.5), net).rates["0.weight"]
    0.5
    """
    if isinstance(optimizer, OptimizerRates):
        return optimizer
    if isinstance(optimizer, Mapping) and "param_groups" not in optimizer:
        return OptimizerRates({plain_name(name): rate for name, rate in _by_pattern(optimizer, model).items()})
    if isinstance(optimizer, torch.optim.Optimizer):
        groups, state = optimizer.param_groups, optimizer.state
    elif isinstance(optimizer, Mapping):
        groups, state = optimizer["param_groups"], optimizer.get("state", {})
    else:
        raise BadInput(
            f"optimizer is a {type(optimizer).__name__}: give a torch optimizer, its state_dict(), or "
            "{parameter pattern: rate}"
        )
    return _of_groups(groups, state, model)


def _by_pattern(rates: Mapping[Any, Any], model: nn.Module) -> dict[str, float]:
    names, found = list(differentiable(model)), {}
    wrappers = wrapper_names(model)
    for pattern, rate in rates.items():
        matching = fnmatch.filter(names, str(pattern)) or fnmatch.filter(names, inside_wrappers(str(pattern), wrappers))
        if not matching:
            raise BadInput(f"optimizer: {pattern!r} matches no parameter; near: {near(str(pattern), names)}")
        found |= dict.fromkeys(matching, _rate(rate, str(pattern)))
    return _some_positive(found)


def _rate(value: Any, where: str) -> float:
    rate = float(value) if isinstance(value, int | float | Tensor) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(rate) and rate >= 0):
        raise BadInput(f"optimizer: the rate of {where!r} is {value!r}: give a number of at least 0")
    return rate


def _some_positive(rates: dict[str, float]) -> dict[str, float]:
    if not any(rates.values()):
        raise BadInput("optimizer: all rates are 0, so it moves nothing: give the rates that training had")
    return rates


def _of_groups(groups: Sequence[Mapping[str, Any]], state: Mapping[Any, Any], model: nn.Module) -> OptimizerRates:
    keys = [key for group in groups for key in group["params"]]
    names = dict(zip(map(_key, keys), map(plain_name, _names_of(groups, keys, state, model)), strict=True))
    rates, sizes = {}, {}
    adaptive, orthogonal = set[str](), set[str]()
    for group in groups:
        own = [names[_key(key)] for key in group["params"]]
        rates |= dict.fromkeys(own, _rate(group.get("initial_lr", group["lr"]), ", ".join(own[:2])))
        adaptive |= set(own) if ADAPTIVE & set(group) else set()
        orthogonal |= set(own) if ORTHOGONAL & set(group) else set()
        for key, name in zip(group["params"], own, strict=True):
            size = _size_of(state.get(key, {}), group, name)
            if size is not None:
                sizes[name] = size
    return OptimizerRates(_some_positive(rates), sizes, frozenset(adaptive | set(sizes)), frozenset(orthogonal))


def _key(param: Any) -> int:
    return id(param) if isinstance(param, Tensor) else int(param)


def _names_of(
    groups: Sequence[Mapping[str, Any]], keys: Sequence[Any], state: Mapping[Any, Any], model: nn.Module
) -> list[str]:
    """The name in the model of every parameter of the optimizer."""
    known = differentiable(model)
    by_identity = {id(p): name for name, p in known.items()}
    if keys and all(id(key) in by_identity for key in keys):
        return [by_identity[id(key)] for key in keys]
    given = [name for group in groups for name in group.get("param_names", ())]
    if len(given) == len(keys):
        names = _by_name(given, known)
    elif len(groups) > 1 and not any(isinstance(key, Tensor) for key in keys):
        raise BadInput(
            f"optimizer: a state_dict of {len(groups)} groups without parameter names does not say which parameter is "
            "which: give the optimizer itself, make it from named_parameters(), or give {parameter pattern: rate}"
        )
    else:
        names = _by_order(keys, known)
    for key, name in zip(keys, names, strict=True):
        shape = _shape_of(key, state.get(key, {}))
        if shape is not None and shape != tuple(known[name].shape):
            raise BadInput(
                f"optimizer: it holds {shape} where parameter {name!r} of the model is {tuple(known[name].shape)}: it "
                "is the optimizer of another model"
            )
    return names


def _by_name(given: Sequence[str], known: Mapping[str, Tensor]) -> list[str]:
    plain = {plain_name(name): name for name in known}
    missing = [name for name in given if plain_name(name) not in plain]
    if missing:
        raise BadInput(f"optimizer: the model has no parameter {missing[0]!r}; near: {near(missing[0], list(known))}")
    return [plain[plain_name(name)] for name in given]


def _by_order(keys: Sequence[Any], known: Mapping[str, Tensor]) -> list[str]:
    trainable = [name for name, p in known.items() if p.requires_grad]
    for names in (list(known), trainable):
        if len(names) == len(keys):
            return names
    raise BadInput(
        f"optimizer: it holds {len(keys)} parameters, the model {len(known)}: it is the optimizer of another model, or "
        "of a part of it; give {parameter pattern: rate}"
    )


def _shape_of(key: Any, state: Mapping[str, Any]) -> tuple[int, ...] | None:
    if isinstance(key, Tensor):
        return tuple(key.shape)
    found = [state[name] for name in (*SQUARES, *SIZES, "exp_avg", "momentum_buffer") if _is_tensor(state.get(name))]
    return tuple(found[0].shape) if found else None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _size_of(state: Mapping[str, Any], group: Mapping[str, Any], name: str) -> Tensor | None:
    """The size of the gradients in an optimizer's state, or None where it holds none."""
    if _is_tensor(state.get("row_var")):  # Adafactor's factored mean of squares (Shazeer & Stern 2018, algorithm 4)
        rows, columns = state["row_var"].double(), state["col_var"].double()
        return (rows * columns / rows.mean(-2, keepdim=True)).sqrt()
    kind = next((kind for kind in (*SQUARES, *SIZES) if _is_tensor(state.get(kind))), None)
    if kind is None:
        return None
    step = float(state.get("step", math.nan))
    if step == 0:
        raise BadInput(f"optimizer: its state for {name!r} has made no step: give the state after training")
    found = state[kind].detach().double()
    if kind == "exp_avg_sq" and step > 0:
        found = found / -math.expm1(step * math.log(group["betas"][1]))  # Kingma & Ba 2015, algorithm 1
    return found if kind in SIZES else found.sqrt()
