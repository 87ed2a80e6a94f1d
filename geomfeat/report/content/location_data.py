"""Locations on the richness scale and in the plane of demand and movement, as both renderers draw them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from geomfeat.location.regimes import BEYOND_DEMAND, LAZY_BELOW, RICH_DEMAND, RICH_MOVEMENT
from geomfeat.location.result import Location
from geomfeat.report.content.study_view import View

Polygon = list[tuple[float, float]]


def located(several: Sequence[View]) -> list[tuple[View, Location]]:
    """The models that have a place."""
    return [(v, v.location) for v in several if v.location is not None]


def padded_range(values: Iterable[float | None], least: tuple[float, float], pad: float = 0.25) -> tuple[float, float]:
    known = [v for v in values if v is not None and math.isfinite(v)]
    low, high = min([*known, least[0]]), max([*known, least[1]])
    return math.floor((low - pad) * 4) / 4, math.ceil((high + pad) * 4) / 4


def scale_range(found: Sequence[tuple[View, Location]]) -> tuple[float, float]:
    """Ends of the richness scale: room for every R, interval and floor, and always for all three bands."""
    placed = [w for _, w in found if on_scale(w)]
    return padded_range([x for w in placed for x in (w.richness, w.low, w.high, w.floor)], least=(-1.75, 1.0))


def on_scale(where: Location) -> bool:
    """Whether a model has a place from lazy to rich: a frozen one has none."""
    return math.isfinite(where.richness) and not where.is_frozen


def regime_areas(x: tuple[float, float], y: tuple[float, float]) -> dict[str, list[Polygon]]:
    """The areas of the (R, M) plane by regime, as polygons inside the ranges; what is left over is 'transition'.

    The same boundaries as `regime_of` by features alone: M = R + .5 above M = -.5 for R < 0, then lazy, then rich.
    """
    (x0, x1), (y0, y1) = x, y
    corner = LAZY_BELOW - BEYOND_DEMAND  # where the line of constant excess leaves the lazy square
    meet = RICH_MOVEMENT - BEYOND_DEMAND
    beyond = [(x0, LAZY_BELOW), (corner, LAZY_BELOW), (0.0, BEYOND_DEMAND), (0.0, y1), (x0, y1)]
    lazy = [(x0, y0), (x0, LAZY_BELOW), (LAZY_BELOW, LAZY_BELOW), (LAZY_BELOW, y0)]
    rich = [
        (meet, RICH_MOVEMENT), (0.0, BEYOND_DEMAND), (0.0, y1), (x1, y1), (x1, y0), (RICH_DEMAND, y0),
        (RICH_DEMAND, RICH_MOVEMENT),
    ]  # fmt: skip
    return {"moved by the optimizer": [beyond], "lazy": [lazy], "rich": [rich]}


def plane_ranges(several: Sequence[View]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ranges of R and of M that hold every layer of every model, and the corners of the regimes."""
    demand, movement = [], []
    for _, where in located(several):
        asked, moved = ([getattr(where, name), *column(where, name)] for name in ("richness", "movement"))
        drawn = [(r, m) for r, m in zip(asked, moved, strict=True) if math.isfinite(m)]
        demand += [r for r, _ in drawn]
        movement += [m for _, m in drawn]
    x, y = padded_range(demand, (-1.5, 1.0)), padded_range(movement, (-1.5, 1.0))
    return (x[0], x[1]), (min(y[0], x[0] + BEYOND_DEMAND), y[1])


def column(where: Location, name: str) -> list[float]:
    """A column of the layers of a location; empty if it is missing."""
    return [float(v) for v in where.layers[name]] if name in where.layers else []
