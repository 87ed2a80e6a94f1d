"""Weights moved along a direction, and the derivative along it by one small step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from geomfeat.models.functional import Functional

Outputs = dict[str, Tensor]
Direction = Mapping[str, Tensor]  # parameter -> tensor of its shape
# A direction, or what returns it anew at every call. The memory of the latter, which is as much as the network takes,
# may be overwritten.
AnyDirection = Direction | Callable[[], Direction]
At = Callable[[Direction], Outputs]
# Relative movement of the values by a small step: float32 rounds them by some 1e-6, and curvature counts as much.
# Weights would be no measure of it: there are networks whose features move a thousand times as far as these.
MOVED, LEAST_MOVED, MOST_MOVED = 6e-4, 2e-4, 9e-4
TRIES, FIRST_STEP = 5, 1e-4
LEAST_SEEN = 1.5e-5  # relative movement below which rounding lengthens what moves least by more than two thousandths


def moved_along(theta: Direction, direction: AnyDirection, step: float) -> dict[str, Tensor]:
    """theta + step * direction, for the parameters of the direction."""
    if callable(direction):
        return moved_in_place(theta, direction(), step)
    return {name: torch.add(theta[name], along, alpha=step) for name, along in direction.items()}


def moved_in_place(theta: Direction, direction: Direction, step: float) -> dict[str, Tensor]:
    """The same in the memory of the direction, which is lost.

    Gradients may share memory (those of the terms of a sum are one tensor) or repeat an entry: these are left alone.
    """
    owners = Counter(_storage(along) for along in direction.values())
    return {
        name: torch.add(theta[name], along, alpha=step, out=along if _is_alone(along, owners) else None)
        for name, along in direction.items()
    }


def _is_alone(along: Tensor, owners: Counter[int]) -> bool:
    repeated = any(stride == 0 and size > 1 for stride, size in zip(along.stride(), along.shape, strict=True))
    return owners[_storage(along)] == 1 and not repeated and not along.requires_grad


def _storage(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


def once(first: Direction, again: Callable[[], Direction]) -> Callable[[], Direction]:
    """What returns a direction anew: the first time one that is there, and that `again` gives afterwards."""
    left = [first]
    return lambda: left.pop() if left else again()


def length(direction: Direction) -> float:
    """Euclidean, over all parameters."""
    return math.sqrt(sum(float(v.norm()) ** 2 for v in direction.values()))


def small_step(
    f: Functional, what: Any, at: At, direction: AnyDirection, values: Outputs | None = None
) -> tuple[Outputs, Outputs] | None:
    """Values of `at`, known by `what`, and their change over a step ahead; `values` at theta where they are known.

    The step is one that moves them by less than a thousandth. Its length, for weights, is kept for the next direction.
    None where some of the values move so little beside others that rounding would tell, which is kept as well.
    """
    key = "small step", what
    far = f.known[key] if key in f.known else FIRST_STEP * (length(f.theta) or 1.0)
    if far is None:
        return None
    along = direction() if callable(direction) else direction
    size = length(along) or 1.0
    theta = {name: f.theta[name] for name in along}
    with torch.no_grad():
        values = at(theta) if values is None else values
    for attempt in range(TRIES):
        if attempt and callable(direction):
            along = direction()
        with torch.no_grad():
            move = moved_in_place if callable(direction) else moved_along
            ahead = at(move(theta, along, far / size))
        changes = {name: ahead[name] - value for name, value in values.items()}
        each = [float(change.norm() / (values[name].norm() or 1.0)) for name, change in changes.items()]
        moved, taken = max(each), far
        if not 0 < moved < math.inf or LEAST_MOVED <= moved <= MOST_MOVED:
            break
        far *= MOVED / moved
    f.known[key] = None if min(each) < LEAST_SEEN else far
    if f.known[key] is None:
        return None
    return values, {name: change * (size / taken) for name, change in changes.items()}
