"""What capacity is made of, and what changed it: log alpha = log Psi + log(1 + R^-2) - log D (Chou et al. 2025)."""

import math
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

from geomfeat.display import BaseResult, quantity_columns


@runtime_checkable
class Geometry(Protocol):
    """The numbers that make up a capacity, with standard errors: a `Capacity`, or those read from a table."""

    @property
    def capacity(self) -> float: ...
    @property
    def capacity_se(self) -> float: ...
    @property
    def utility(self) -> float: ...
    @property
    def utility_se(self) -> float: ...
    @property
    def radius(self) -> float: ...
    @property
    def radius_se(self) -> float: ...
    @property
    def dimension(self) -> float: ...
    @property
    def dimension_se(self) -> float: ...


@dataclass(frozen=True)
class Decomposition(BaseResult):
    """Natural logarithms, of one capacity or of the ratio of two: capacity = utility + radius + dimension exactly.

    Attributes:
        capacity: log alpha. utility: log Psi. radius: log(1 + R^-2). dimension: -log D (a larger dimension costs).
        x_se: standard error of each over the draws; the three terms share the draws, so these do not add up.

    `to_frame()`: one row for each term: quantity, value, stderr.
    """

    capacity: float
    capacity_se: float
    utility: float
    utility_se: float
    radius: float
    radius_se: float
    dimension: float
    dimension_se: float

    def _columns(self) -> dict[str, Any]:
        return quantity_columns(self)


def decompose(of: Geometry) -> Decomposition:
    """The terms of one capacity; NaN where it has no radius.

    >>> from geomfeat.geometry.manifolds import capacity
    >>> found = decompose(capacity([[[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]], [[0.0, 1.0, 1.0]]], n_draws=50))
    >>> abs(found.capacity - (found.utility + found.radius + found.dimension)) < 1e-10
    True
    """
    r = of.radius
    # Errors by the derivative: d log(1 + r^-2) / dr = -2 r^-3 / (1 + r^-2).
    one = 1 + r**-2 if r > 0 else math.nan
    return Decomposition(
        _log(of.capacity), of.capacity_se / of.capacity,
        _log(of.utility), _over(of.utility_se, of.utility),
        _log(one), 2 * of.radius_se / (r**3 * one) if r > 0 else math.nan,
        -_log(of.dimension), _over(of.dimension_se, of.dimension),
    )  # fmt: skip


def what_changed(before: Geometry, after: Geometry) -> Decomposition:
    """How much of the change in log capacity came through utility, radius and dimension.

    Standard errors are those of independent draws: too large where both used the same (common random numbers). NaN
    where one of them is a capacity at the floor, which does not measure separability.
    """
    if any(getattr(of, "at_floor", False) for of in (before, after)):
        return Decomposition(*[math.nan] * len(fields(Decomposition)))
    a, b = vars(decompose(before)), vars(decompose(after))
    return Decomposition(**{k: math.hypot(a[k], b[k]) if k.endswith("_se") else b[k] - a[k] for k in a})


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan


def _over(a: float, b: float) -> float:
    return a / b if b > 0 else math.nan
