"""Intrinsic dimension against the scale at which the points are looked at."""

from dataclasses import dataclass

import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.apart import MIN_POINTS, neighbours_apart
from geomfeat.geometry.correlation_dimension import correlation_of
from geomfeat.geometry.distinct import distinct_points
from geomfeat.geometry.gride import gride_of
from geomfeat.geometry.mle_dimension import mle_of
from geomfeat.types import Points, as_points

ESTIMATORS = ("gride", "mle", "correlation")


@dataclass(frozen=True)
class DimensionCurve:
    """One entry a scale, from small to large: a plateau is a dimension, a slope a change of it with scale.

    neighbours: the furthest neighbour counted. scale: mean distance to it ("correlation": the median).
    value, stderr: dimension; NaN at scales where all distances are equal.
    """

    estimator: str
    neighbours: tuple[int, ...]
    scale: tuple[float, ...]
    value: tuple[float, ...]
    stderr: tuple[float, ...]
    n_duplicates: int


def dimension_curve(x: Points, estimator: str = "gride", *, largest: int = 64) -> DimensionCurve:
    """Dimension at the scales of 2, 4, 8, ... neighbours up to `largest`, of all points, from one search.

    Args:
        estimator: "gride" (the ratio of the distances to neighbours n and 2 n), "mle" (all of 2 n neighbours, from 4
            on) or "correlation" (slope of the correlation integral between the median distances to n and 2 n).
        largest: furthest neighbour; no more than there are points are counted.

    Raises BadInput for another estimator, largest below 2, or with fewer than 10 different points.

    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> curve = dimension_curve(x, largest=8)
    >>> curve.neighbours
    (2, 4, 8)
    >>> all(1.7 < value < 2.3 for value in curve.value)
    True
    """
    x = as_points(x)
    if estimator not in ESTIMATORS:
        raise BadInput(f"estimator={estimator!r}: use one of {', '.join(map(repr, ESTIMATORS))}")
    smallest = 4 if estimator == "mle" else 2
    if largest < smallest:
        raise BadInput(f"largest={largest}: a curve of {estimator!r} begins with {smallest} neighbours")
    most = min(largest, max(len(distinct_points(x)), MIN_POINTS) - 1)
    apart = neighbours_apart(x, most, "a curve of dimensions")
    different = x[apart.rows]
    furthest = [n for n in (2**i for i in range(1, 64)) if smallest <= n <= most]
    rows = []
    for n in furthest:
        try:
            if estimator == "gride":
                found = gride_of(apart, n // 2, n)
            elif estimator == "mle":
                found = mle_of(apart, n, n)
            else:
                found = correlation_of(different, apart, n // 2, n)
            rows.append((found.scale, found.value, found.stderr))
        except BadInput:
            rows.append((float(apart.near.distance[:, n - 1].mean()), torch.nan, torch.nan))
    scale, value, stderr = zip(*rows, strict=True)
    return DimensionCurve(estimator, tuple(furthest), scale, value, stderr, apart.n_copies)
