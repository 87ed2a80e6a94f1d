"""Models on the plane of features and kernel: marks, intervals and the areas of the regimes, for both renderers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from geomfeat.location.kernel_demand import CHANGED
from geomfeat.location.regimes import (
    FEATURES_ONLY,
    KERNEL_MOVED,
    KERNEL_ONLY,
    KERNEL_RESTS,
    LAZY_BELOW,
    RICH_DEMAND,
    RICH_MOVEMENT,
    SMALL_CHANGE,
)
from geomfeat.location.result import Location
from geomfeat.report.content.location_data import located, padded_range
from geomfeat.report.content.study_view import View

Span = tuple[float, float]
Box = tuple[Span, Span]
# What happened has thresholds of its own where they differ from those of demand: M above the first is moved, and the
# kernel is at rest below the second, on the scale of kernel demand.
MOVED_FROM, RESTS_UP_TO = RICH_MOVEMENT, math.log10(SMALL_CHANGE / CHANGED)
X_TITLE = "features, decades of their size: demand R, movement M"
Y_TITLE = "kernel, decades: demand κ, measured change over 20 %"
NAMES = 0.12  # of the range of the kernel: room for names of areas above and below all marks
INSIDE = 0.015  # of a range: how far from its edge an infinite value is drawn


@dataclass(frozen=True)
class Place:
    """A point of the plane: x features, y kernel, with their intervals; infinite ones are drawn at the edge."""

    x: float
    y: float
    across: Span | None = None
    along: Span | None = None

    @property
    def known(self) -> bool:
        """Whether both numbers are, be they infinite."""
        return not (math.isnan(self.x) or math.isnan(self.y))


@dataclass(frozen=True)
class KernelMark:
    """A model on the plane: what its function demanded, and what happened in training, where it is known."""

    view: View
    where: Location
    demand: Place
    happened: Place | None


def kernel_marks(several: Sequence[View]) -> list[KernelMark]:
    """The models that have a place on the plane. A frozen one has none: the demand on its features is hypothetical."""
    marks = []
    for view, where in located(several):
        demand = Place(
            where.richness, where.kernel_demand, _span(where.low, where.high), _interval(where, "kernel_demand")
        )
        if where.is_frozen or not demand.known:
            continue
        change = _interval(where, "kernel_change")
        along = None if change is None else _span(on_scale_of_demand(change[0]), on_scale_of_demand(change[1]))
        happened = Place(where.movement, on_scale_of_demand(where.kernel_change), along=along)
        measured = where.tier == "initial" and happened.known
        marks.append(KernelMark(view, where, demand, happened if measured else None))
    return marks


def on_scale_of_demand(change: float) -> float:
    """The measured change |K_T - K_0| / |K_0| on the scale of kernel demand, where 0 is the change that kappa asks for.

    >>> on_scale_of_demand(0.2), on_scale_of_demand(0.0), round(on_scale_of_demand(2.0), 9)
    (0.0, -inf, 1.0)
    """
    return math.log10(change / CHANGED) if change > 0 else -math.inf if change == 0 else math.nan


def kernel_plane_ranges(marks: Sequence[KernelMark]) -> tuple[Span, Span]:
    """Ranges of features and kernel that hold every mark and interval, the corners of the regimes, and their names."""
    places = [place for mark in marks for place in (mark.demand, mark.happened) if place is not None]
    x = [v for p in places for v in (p.x, *(p.across or ()))]
    y = [v for p in places for v in (p.y, *(p.along or ()))]
    known = [v for v in y if math.isfinite(v)]
    room = NAMES * (max([*known, 1.25]) - min([*known, -1.25]))
    return padded_range(x, (-1.5, 1.0)), padded_range(y, (-1.25, 1.25), room)


def kernel_areas(x: Span, y: Span) -> dict[str, Box]:
    """The areas of the regimes as boxes (x, y), by demand alone; what is left over is 'transition'."""
    rests, moved = (x[0], LAZY_BELOW), (RICH_DEMAND, x[1])
    below, above = (y[0], KERNEL_RESTS), (KERNEL_MOVED, y[1])
    return {
        "lazy": (rests, below), "rich": ((LAZY_BELOW, x[1]), above),
        FEATURES_ONLY: (moved, below), KERNEL_ONLY: (rests, above),
    }  # fmt: skip


def area_names(x: Span, y: Span) -> dict[str, tuple[float, float, str]]:
    """Name -> where it stands: x, y and which side of its text is there ("top", "bottom", "middle")."""
    pad = 0.02 * (y[1] - y[0])
    names = {
        name: ((across[0] + across[1]) / 2, along[0] + pad if along[0] == y[0] else along[1] - pad,
               "bottom" if along[0] == y[0] else "top")
        for name, (across, along) in kernel_areas(x, y).items()
    }  # fmt: skip
    return {**names, "transition": ((x[0] + LAZY_BELOW) / 2, (KERNEL_RESTS + KERNEL_MOVED) / 2, "middle")}


def drawn_at(place: Place, x: Span, y: Span) -> tuple[float, float, str]:
    """Where a place is drawn, and which edge ("left", "right", "down", "up") an infinite value put it at, or ""."""
    at, edge = [], ""
    for value, (low, high), names in ((place.x, x, ("left", "right")), (place.y, y, ("down", "up"))):
        if math.isinf(value):
            edge = names[value > 0]
            inset = INSIDE * (high - low)
            value = high - inset if value > 0 else low + inset
        at.append(value)
    return at[0], at[1], edge


def left_out_of_plane(several: Sequence[View]) -> str:
    """Why models are not on the plane, in sentences; "" if all are."""
    shown = {mark.view.index for mark in kernel_marks(several)}
    missing = [(view, where) for view, where in located(several) if view.index not in shown]
    frozen = ", ".join(view.name for view, where in missing if where.is_frozen)
    unknown = ", ".join(view.name for view, where in missing if not where.is_frozen)
    texts = [f"Not drawn, since none of its hidden features moved: {frozen}."] if frozen else []
    texts += [f"Not drawn, since no kernel demand is known: {unknown}."] if unknown else []
    return " ".join(texts)


def _span(low: float, high: float) -> Span | None:
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _interval(where: Location, name: str) -> Span | None:
    return _span(*where.kernel_intervals.get(name, (math.nan, math.nan)))
