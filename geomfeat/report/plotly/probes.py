"""What a location rests on: richness against the number of probes, and the ladder of known strengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from geomfeat.charts import theme as look
from geomfeat.location.result import Location
from geomfeat.report.content.components import (  # fmt: skip
    Figure,
    Panel,
    Table,
    axis,
    decades_cell,
    grid,
    layout,
    log_axis,
    number_cell,
    plain,
    text_cell,
)
from geomfeat.report.content.location_data import located
from geomfeat.report.content.shared_parts import alike, names_of, only
from geomfeat.report.content.study_view import View


def probes_and_ladder(several: Sequence[View]) -> Figure | None:
    """How R depends on the number of probes, and the rungs of the user's own ladder, where they are there."""
    found = located(several)
    probed = [(v, w) for v, w in found if len(w.by_probes) > 1]
    panels, tables = [], []
    if probed:
        panels.append(_probes_panel(probed))
        rows = [
            (v.name, [number_cell(float(n)), decades_cell(float(r))])
            for v, w in probed
            for n, r in zip(w.by_probes["n_probes"], w.by_probes["richness"], strict=True)
        ]
        tables.append(grid(("model", "probes", "richness R"), rows, "Richness by number of probes"))
    places = {view.index: where for view, where in found}
    for group in alike([view for view, _ in found], lambda view: _ladder_key(places[view.index])):
        members = [(view, places[view.index]) for view in group]
        name = names_of(group, several)
        panels.append(_ladder_panel(name, members))
        tables.append(_ladder_table(name, members))
    if not panels:
        return None
    caption = (
        "The first panel shows whether R has converged as probes are added (with few probes it is a lower bound)"
        if probed else "Each panel shows the reference networks trained to find this model's equivalent γ"
    )  # fmt: skip
    if len(panels) > len(probed[:1]):
        caption += (
            "; ladder panels show R of the same architecture trained at known output scales γ, and each model's R as a "
            "horizontal line, which meets the ladder at the equivalent γ."
        )
    else:
        caption += "."
    return Figure("What the location is based on", caption, panels, tables, "")


def _probes_panel(probed: list[tuple[View, Location]]) -> Panel:
    data = [
        {
            "type": "scatter", "mode": "lines+markers", "x": list(w.by_probes["n_probes"]), "meta": {"model": v.index},
            "y": list(w.by_probes["richness"]), "line": {"color": v.colour, "width": 2},
            "marker": {"color": v.colour, "symbol": look.symbol(v.index), "size": 7},
            "text": [plain(v.name)] * len(w.by_probes),
            "hovertemplate": "%{text}<br>%{x} probes: R = %{y:+.2f}<extra></extra>",
        }
        for v, w in probed
    ]  # fmt: skip
    counts = sorted({int(n) for _, w in probed for n in w.by_probes["n_probes"]})
    ticks = (
        {"type": "log", "tickvals": counts, "ticktext": [str(n) for n in counts]}
        if len(counts) <= 8
        else {"type": "log"}
    )
    return Panel(
        "Richness by number of probes", data, layout(axis("number of probes", **ticks), axis("richness R, decades"))
    )


def _ladder_key(where: Location) -> tuple[float, ...] | None:
    """What models with the same reference networks share."""
    if where.ladder is None or not len(where.ladder):
        return None
    return tuple(float(v) for column in ("gamma", "richness") for v in where.ladder[column])


def _ladder_panel(name: str, members: list[tuple[View, Location]]) -> Panel:
    ladder, meta = members[0][1].ladder, _meta(members)
    assert ladder is not None
    gammas = [float(g) for g in ladder["gamma"]]
    data: list[dict[str, Any]] = [{
        "type": "scatter", "mode": "lines+markers", "x": gammas, "y": [float(r) for r in ladder["richness"]],
        "line": {"color": look.QUIET}, "marker": {"color": look.QUIET, "size": 8}, "meta": meta,
        "hovertemplate": "rung γ = %{x:.3g}<br>R = %{y:+.2f}<extra></extra>",
    }]  # fmt: skip
    ends = [min(gammas), max(gammas)]
    for view, where in members:
        of = {"meta": {"model": view.index}}
        if math.isfinite(where.richness):
            data.append({
                "type": "scatter", "mode": "lines", "x": ends, "y": [where.richness] * 2, "hoverinfo": "skip",
                "line": {"color": view.colour, "width": 1.5, "dash": "dash"}, **of,
            })  # fmt: skip
        if where.equivalent_gamma is not None:
            data.append({
                "type": "scatter", "mode": "markers", "x": [where.equivalent_gamma], "y": [where.richness], **of,
                "marker": {"color": view.colour, "symbol": look.symbol(view.index), "size": 12},
                "text": plain(view.name), "hovertemplate": "%{text}<br>equivalent γ = %{x:.3g}<extra></extra>",
            })  # fmt: skip
    frame = layout(log_axis("output scale γ", gammas), axis("richness R, decades"))
    return Panel(f"Ladder of {name}", data, frame, model=only([view for view, _ in members]))


def _meta(members: list[tuple[View, Location]]) -> dict[str, Any]:
    return {"model": members[0][0].index} if len(members) == 1 else {}


def _ladder_table(name: str, members: list[tuple[View, Location]]) -> Table:
    ladder = members[0][1].ladder
    assert ladder is not None
    columns = [str(c) for c in ladder.columns]
    rows = [
        (str(i + 1), [number_cell(v) if isinstance(v, int | float) else text_cell(v) for v in row.values()])
        for i, row in enumerate(ladder.to_dict("records"))
    ]
    return grid(("rung", *columns), rows, f"Ladder of {name}: {'; '.join(_equivalent(*one) for one in members)}")


def _equivalent(view: View, where: Location) -> str:
    ends = [number_cell(g).text for g in (where.equivalent_gamma, where.gamma_low, where.gamma_high)]
    return f"equivalent γ of {view.name} = {ends[0]} ({ends[1]} to {ends[2]})"
