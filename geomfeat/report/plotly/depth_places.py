"""Where layers and areas stand along a plot: layers by relative depth, areas, which have none, beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geomfeat.report.content.components import axis, plain
from geomfeat.report.content.study_view import clipped

if TYPE_CHECKING:
    from geomfeat.comparison.models.result import ModelComparison

DEPTH = {"range": [-6, 106], "tickvals": [0, 25, 50, 75, 100]}
# Areas stand so far apart, and from the last layer; on the scale of the depth in per cent.
STEP = 16
FIRST = 120
MOST_AREAS = 12  # with names along the axis


def places(found: ModelComparison) -> dict[tuple[str, str], float]:
    """(model, layer) -> place: depth in per cent, and beyond 100 for areas, in the order of the comparison."""
    at: dict[tuple[str, str], float] = {}
    areas = 0
    for r in found.layers.to_dict("records"):
        areas += r["depth"] != r["depth"]
        at[r["model"], r["layer"]] = 100 * r["depth"] if r["depth"] == r["depth"] else FIRST + STEP * (areas - 1)
    return at


def depth_axis(found: ModelComparison) -> dict[str, Any]:
    """The axis of the places, with the names of areas."""
    layers: Any = found.layers
    areas = layers[layers["depth"].isna()]
    if areas.empty:
        return axis("relative depth, %", **DEPTH)
    where = places(found)
    several = areas["model"].nunique() > 1
    named = {
        where[r["model"], r["layer"]]: plain(clipped(f"{r['model']}: {r['layer']}" if several else r["layer"], 16))
        for r in areas.to_dict("records")[:MOST_AREAS]
    }
    last = FIRST + STEP * (len(areas) - 1)
    depths = {} if len(areas) == len(found.layers) else {v: str(v) for v in DEPTH["tickvals"]}
    ticks = {**depths, **named}
    return axis(
        "relative depth, %, and areas" if depths else "areas",
        range=[-6 if depths else FIRST - STEP, last + STEP / 2],
        tickvals=list(ticks), ticktext=list(ticks.values()), tickangle=-40 if len(areas) > 2 else 0,
    )  # fmt: skip
