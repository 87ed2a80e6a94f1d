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
    for view, where in found:
        if where.ladder is not None and len(where.ladder):
            panels.append(_ladder_panel(view, where))
            tables.append(_ladder_table(view, where))
    if not panels:
        return None
    caption = (
        "The first panel shows whether R has converged as probes are added (with few probes it is a lower bound)"
        if probed else "Each panel shows the reference networks trained to find this model's equivalent γ"
    )  # fmt: skip
    if len(panels) > len(probed[:1]):
        caption += (
            "; ladder panels show R of the same architecture trained at known output scales γ, and the model's R as a "
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


def _ladder_panel(view: View, where: Location) -> Panel:
    ladder, meta = where.ladder, {"model": view.index}
    assert ladder is not None
    gammas = [float(g) for g in ladder["gamma"]]
    rungs = {
        "type": "scatter", "mode": "lines+markers", "x": gammas, "y": [float(r) for r in ladder["richness"]],
        "line": {"color": look.QUIET}, "marker": {"color": look.QUIET, "size": 8}, "meta": meta,
        "hovertemplate": "rung γ = %{x:.3g}<br>R = %{y:+.2f}<extra></extra>",
    }  # fmt: skip
    data: list[dict[str, Any]] = [rungs]
    own = {"color": view.colour, "width": 1.5, "dash": "dash"}
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": where.richness, "y1": where.richness, "line": own}
    if where.equivalent_gamma is not None:
        data.append({
            "type": "scatter", "mode": "markers", "x": [where.equivalent_gamma], "y": [where.richness], "meta": meta,
            "marker": {"color": view.colour, "symbol": look.symbol(view.index), "size": 12},
            "hovertemplate": "equivalent γ = %{x:.3g}<extra></extra>",
        })  # fmt: skip
    shapes = [line] if math.isfinite(where.richness) else []
    frame = layout(log_axis("output scale γ"), axis("richness R, decades"), shapes=shapes)
    return Panel(f"Ladder of {view.name}", data, frame, model=view.index)


def _ladder_table(view: View, where: Location) -> Table:
    assert where.ladder is not None
    columns = [str(c) for c in where.ladder.columns]
    rows = [
        (str(i + 1), [number_cell(v) if isinstance(v, int | float) else text_cell(v) for v in row.values()])
        for i, row in enumerate(where.ladder.to_dict("records"))
    ]
    ends = [number_cell(g).text for g in (where.equivalent_gamma, where.gamma_low, where.gamma_high)]
    title = f"Ladder of {view.name}: equivalent γ = {ends[0]} ({ends[1]} to {ends[2]})"
    return grid(("rung", *columns), rows, title)
