"""Intrinsic dimension against the scale at which it is measured."""

from dataclasses import dataclass

import torch

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension._correlation_dimension import correlation_of
from geomfeat.geometry.dimension._gride import gride_of
from geomfeat.geometry.dimension._valid_neighbours import neighbours_apart
from geomfeat.geometry.dimension.mle import mle_of
from geomfeat.types import Points

ESTIMATORS = ("gride", "mle", "correlation")


@dataclass(frozen=True)
class DimensionCurve(PlottableResult):
    """One entry a scale, from small to large: a plateau is a dimension, a slope a change of it with scale.

    neighbours: the furthest neighbour counted. scale: mean distance to it ("correlation": the median).
    value, stderr: dimension; NaN at scales where too many distances are equal. tied: share of those.

    `to_frame()`: one row for each scale: neighbours, scale, value, stderr, estimator, n_duplicates.
    """

    estimator: str
    neighbours: tuple[int, ...]
    scale: tuple[float, ...]
    value: tuple[float, ...]
    stderr: tuple[float, ...]
    n_duplicates: int
    tied: tuple[float, ...] = ()

    _rows = ("neighbours", "scale", "value", "stderr")

    def _chart(self) -> Plot:
        title = f"dimension against scale ({self.estimator})"
        return line_chart(title, "scale", "dimension", self.scale, self.value, self.stderr, log_x=True)


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
    if estimator not in ESTIMATORS:
        raise BadInput(f"estimator={estimator!r}: use one of {', '.join(map(repr, ESTIMATORS))}")
    smallest = 4 if estimator == "mle" else 2
    if largest < smallest:
        raise BadInput(f"largest={largest}: a curve of {estimator!r} begins with {smallest} neighbours")
    apart = neighbours_apart(x, largest, "a curve of dimensions", or_fewer=True)
    most = apart.near.distance.shape[1]
    furthest = [n for n in (2**i for i in range(1, 64)) if smallest <= n <= most]
    rows = []
    for n in furthest:
        try:
            if estimator == "gride":
                found = gride_of(apart, n // 2, n)
            elif estimator == "mle":
                found = mle_of(apart, n, n)
            else:
                found = correlation_of(apart, n // 2, n)
            rows.append((found.scale, found.value, found.stderr, found.tied))
        except BadInput:
            rows.append((float(apart.near.distance[:, n - 1].mean()), torch.nan, torch.nan, apart.tied(n // 2, n)))
    scale, value, stderr, tied = zip(*rows, strict=True)
    return DimensionCurve(estimator, tuple(furthest), scale, value, stderr, apart.n_copies, tied)
