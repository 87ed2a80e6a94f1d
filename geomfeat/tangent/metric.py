"""The metric in which an optimizer's training is gradient flow: a positive factor D for every parameter entry.

Gradient flow of theta with rates D has the tangent kernel K = J D J' and moves the parameters by Dtheta = D J' a. One
trajectory can be written with multipliers in the forward pass or with rates by layer: J D J' is the same for both.
With phi = theta / sqrt(D) both are the plain ones of phi (`Functional.scaled`).

    rates known:                D = rate
    Adam and its like, state:   D = rate / (sqrt(v) + .01 rms(sqrt(v))), v the running mean of squared gradients
    without it:                 the same, with sqrt(v) := |J' Df| at the start, and .1 in place of .01

The floor is needed: with Adam's own epsilon, units that are dead at the start would make up the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.models.trained_parameters import plain_name
from geomfeat.numerics import WORKING
from geomfeat.tangent.optimizer_rates import OptimizerRates

PLAIN, RATES, STATE, GRADIENT = "plain: not known", "given rates", "Adam state", "gradient at the start"
# Of the root mean square of a tensor. Without a floor, units without gradient would have by far the largest rates, and
# the kernel would be theirs alone.
STATE_FLOOR, GRADIENT_FLOOR = 0.01, 0.1


@dataclass(frozen=True, eq=False)
class Metric:
    """sqrt(D) of every parameter that the optimizer moves, of mean square 1, and what it rests on.

    Attributes:
        scale: name -> number, or tensor of the parameter's shape; empty where all are 1.
        source: "given rates", "Adam state", "gradient at the start" or "plain: not known".
    """

    scale: Mapping[str, Tensor | float]
    source: str = PLAIN


PLAIN_METRIC = Metric({})


def metric_of(
    rates: OptimizerRates,
    parameters: Mapping[str, Tensor],
    gradient: Callable[[], Mapping[str, Tensor]],
) -> Metric:
    """The metric of an optimizer, for the parameters that training moved.

    Args:
        parameters: these, by name. gradient: gives J' Df by name; called where an adaptive optimizer has no state.

    Raises BadInput for a parameter that moved although the optimizer does not move it.

    >>> theta = {"a": torch.ones(3), "b": torch.ones(1)}
    >>> metric_of(OptimizerRates({"a": 1.0, "b": 5.0}), theta, dict).scale
    {'a': 0.7071067811865476, 'b': 1.5811388300841898}
    """
    require_moving(rates, parameters)
    rate_of = {name: rates.rates[plain_name(name)] for name in parameters}
    by_size = rates.adaptive | rates.orthogonal
    unknown = [name for name in parameters if (own := plain_name(name)) in by_size and own not in rates.sizes]
    pulled = _without_rounding(gradient()) if unknown else {}
    squares: dict[str, Tensor | float] = {}
    for name, rate in rate_of.items():
        own = plain_name(name)
        if own in rates.orthogonal:
            squares[name] = rate / _orthogonal_size(pulled[name])
        elif own in rates.sizes:
            squares[name] = rate / _floored(rates.sizes[own].to(parameters[name].device), STATE_FLOOR)
        elif name in unknown:
            squares[name] = rate / _floored(pulled[name].abs(), GRADIENT_FLOOR)
        else:
            squares[name] = rate
    source = GRADIENT if unknown else STATE if rates.sizes else RATES
    values = list(squares.values())
    if all(isinstance(d, float) and d == values[0] for d in values):
        return Metric({}, source)
    return Metric(_normalised(squares, parameters), source)


def require_moving(rates: OptimizerRates, names: Iterable[str], *, given: bool = False) -> None:
    """BadInput for a parameter that moved (or that params= names: `given`) although the optimizer does not move it."""
    still = next((name for name in names if not rates.moves(name)), None)
    if still is None:
        return
    why = "a rate of 0" if plain_name(still) in rates.rates else "no rate"
    if given:
        raise BadInput(f"params= names {still!r}, which has {why} in the optimizer: leave it out of one of them")
    raise BadInput(
        f"optimizer: parameter {still!r} moved, but has {why}: it is not the optimizer of this training, or the "
        "initial weights are not those it began from"
    )


def _without_rounding(gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The gradients, with the size of a usual one for tensors whose own is nothing but rounding.

    The gradient of a bias is a sum over samples, which vanishes for balanced classes: what rounding leaves of it would
    have made its rate, and so its part of the kernel, as good as infinite.
    """
    sizes = {name: float(g.abs().max()) for name, g in gradients.items()}
    least = {name: max(sizes.values()) * torch.finfo(g.dtype).eps ** (2 / 3) for name, g in gradients.items()}
    known = [g.to(WORKING) for name, g in gradients.items() if sizes[name] > least[name]]
    count = sum(g.numel() for g in known)
    usual = math.sqrt(sum(float(g.square().sum()) for g in known) / count) if count else 0.0
    return {name: torch.full_like(g, usual) if 0 < sizes[name] <= least[name] else g for name, g in gradients.items()}


def _floored(size: Tensor, floor: float) -> Tensor:
    size = size.to(WORKING)
    size = size + floor * size.square().mean().sqrt()
    # A tensor without any gradient moves only once others have: its rate is left as that of a gradient of 1.
    return size if bool(size.any()) else torch.ones_like(size)


def _orthogonal_size(gradient: Tensor) -> float:
    """|G|_F / sqrt(rank): an update with all singular values 1 is that many times shorter than the gradient."""
    size = float(gradient.to(WORKING).norm()) / math.sqrt(min(gradient.flatten(1).shape))
    return size if size > 0 else 1.0


def _normalised(squares: Mapping[str, Tensor | float], parameters: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
    """Square roots, of mean square 1 over all entries: a factor of all rates is a change of time alone."""
    count = sum(p.numel() for p in parameters.values())
    total = sum(
        float(d.sum()) if isinstance(d, Tensor) else d * parameters[name].numel() for name, d in squares.items()
    )
    unit = total / count
    return {name: (d / unit).sqrt() if isinstance(d, Tensor) else math.sqrt(d / unit) for name, d in squares.items()}
