"""Which layers resemble brains and areas: rankings with the noise ceiling, and the likeness over time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from geomfeat.charts import Curve, Plot, theme as look
from geomfeat.report.content.components import (  # fmt: skip
    Figure,
    Panel,
    Table,
    axis,
    error_bars,
    grid,
    layout,
    note,
    number_cell,
    plain,
    text_cell,
)
from geomfeat.report.content.number_format import number
from geomfeat.report.content.quantity_labels import similarity_words
from geomfeat.report.content.study_view import clipped
from geomfeat.report.plotly.charts import MOST_ROWS, curves_panel
from geomfeat.report.plotly.depth import marks_of
from geomfeat.report.plotly.depth_places import DEPTH, depth_axis, places

if TYPE_CHECKING:
    from geomfeat.comparison.models.result import ModelComparison

MOST_RANKED = 14  # layers, above which only the best of each model is drawn
MOST_CURVES = 6  # layers in a panel over time
EDGE = {"color": look.QUIET, "width": 1, "dash": "dot"}


def brain_figures(found: ModelComparison) -> list[Figure]:
    """For each brain or area, similarity over the depth of every model, and the ranking, with the noise ceiling."""
    return [_brain_figure(found, brain, rows) for brain, rows in found.ranking.groupby("brain", sort=False)]


def _brain_figure(found: ModelComparison, brain: Any, rows: Any) -> Figure:
    lower, upper = rows["ceiling_lower"].iloc[0], rows["ceiling_upper"].iloc[0]
    how = similarity_words(rows["comparator"].iloc[0])
    word = subjects_word(found, str(brain))
    caption = (
        f"Similarity of each layer's dissimilarity matrix to that of {brain} ({how}; correlation distance between "
        f"patterns), the mean over {word}s. Bars are ± one standard error over stimuli and, if there are several, "
        f"{word}s."
    )
    if math.isfinite(lower):
        caption += (
            f" The grey band is the noise ceiling, {number(lower)} to {number(upper)}".replace("-", "−")
            + f": the similarity that the true model would reach, given how much the {word}s differ."
        )
    else:
        caption += f" With one {word} there is no noise ceiling."
    panels = [_brain_profile(found, rows, how), _brain_best(found, rows, how)]
    return Figure(str(brain), caption, panels, [_brain_table(rows)])


def subjects_word(found: ModelComparison, brain: str) -> str:
    """What the matrices are of: "subject" of brains, "run" (or session, ...) of an area."""
    facts = found.settings.get("recordings", {}).get(found.settings.get("areas", {}).get(brain, brain))
    if facts is None:
        return "subject"
    return "set of trials" if facts["errors_over"] == "trials" else facts["errors_over"].split()[-1].removesuffix("s")


def _band(rows: Any, along: str) -> list[dict[str, Any]]:
    """The noise ceiling across the whole plot, `along` which axis it is constant."""
    lower, upper = rows["ceiling_lower"].iloc[0], rows["ceiling_upper"].iloc[0]
    if not math.isfinite(lower):
        return []
    other = "y" if along == "x" else "x"
    return [{
        "type": "rect", f"{along}ref": "paper", f"{along}0": 0, f"{along}1": 1, f"{other}0": lower, f"{other}1": upper,
        "fillcolor": look.BAND, "opacity": 0.6, "line": {"width": 1, "color": look.FLOOR}, "layer": "below",
    }]  # fmt: skip


def _reach(rows: Any) -> list[float]:
    """Ends of an axis for every similarity with its error, and the noise ceiling, whose band makes no room."""
    good = rows[rows["ok"]]
    errors = good["stderr"].fillna(0)
    values = [*(good["similarity"] - errors), *(good["similarity"] + errors)]
    values += [*rows["ceiling_lower"], *rows["ceiling_upper"]]
    known = [float(v) for v in values if math.isfinite(v)] or [0.0, 1.0]
    room = 0.06 * max(max(known) - min(known), 0.1)
    return [min(known) - room, max(known) + room]


def _brain_profile(found: ModelComparison, rows: Any, how: str) -> Panel:
    data, shapes, names = [], _band(rows, "x"), []
    at = places(found)
    ends = depth_axis(found) if rows["depth"].isna().any() else axis("relative depth, %", **DEPTH)
    for i, name in enumerate(found.names):
        mine = rows[rows["model"] == name].sort_values("depth", kind="stable")
        good = mine[mine["ok"]]
        if len(good) == 1 and len(mine) == 1 and good["depth"].notna().all():
            value = float(good["similarity"].iloc[0])
            data.append({
                "type": "scatter", "mode": "lines", "x": ends["range"], "y": [value, value], "meta": {"model": i},
                "line": {"color": look.colour(i), "width": 1.5, "dash": "dash"},
                "hovertemplate": f"{plain(name)}: %{{y:.3f}}<extra></extra>",
            })  # fmt: skip
            names.append(note(0, value, plain(clipped(name, 24)), xanchor="left", yshift=8))
        elif len(good):
            values = [v if ok else None for v, ok in zip(mine["similarity"], mine["ok"], strict=True)]
            data.append(marks_of(found, name, mine, values, [at[name, layer] for layer in mine["layer"]]))
    frame = layout(ends, axis(plain(how), range=_reach(rows)), shapes=shapes, annotations=names)
    return Panel("Over depth", data, frame)


def _brain_best(found: ModelComparison, rows: Any, how: str) -> Panel:
    every = rows[rows["ok"]]  # ranked
    few = len(every) <= MOST_RANKED
    first = every if few else every.groupby("model", sort=False).head(1)
    data, ticks = [], []
    for place, r in enumerate(first.to_dict("records")):
        i = found.names.index(r["model"])
        label = r["model"] if r["layer"] == r["model"] else f"{r['model']}: {r['layer']}"
        ticks.append(plain(clipped(label, 26)))
        data.append({
            "type": "scatter", "mode": "markers", "x": [r["similarity"]], "y": [place], "meta": {"model": i},
            "marker": {"color": look.colour(i), "symbol": look.symbol(i), "size": 9},
            "error_x": {**error_bars([r["stderr"]]), "color": look.colour(i)},
            "hovertemplate": f"{plain(label)}: %{{x:.3f}}<extra></extra>",
        })  # fmt: skip
    where = {"tickvals": list(range(len(ticks))), "ticktext": ticks, "showgrid": False}
    low, high = _reach(rows)
    frame = layout(
        axis(plain(how), range=[min(low, 0.0), max(high, 0.0)]), axis("", range=[len(ticks) - 0.5, -0.5], **where),
        shapes=_band(rows, "y"),
    )  # fmt: skip
    return Panel("Ranked" if few else "The best layer of each model", data, frame)


def _brain_table(rows: Any) -> Table:
    columns = ("rank", "model", "layer", "depth", "similarity", "95 % interval", "p above 0", "p below the ceiling")
    lines = []
    for r in rows.to_dict("records"):
        if not r["ok"]:
            lines.append(("–", [text_cell(r["model"]), text_cell(r["layer"]), number_cell(r["depth"]),
                                text_cell("failed", "failed", r["note"]), *[text_cell("")] * 3]))  # fmt: skip
            continue
        lines.append((
            str(r["rank"]),
            [
                text_cell(r["model"]), text_cell(r["layer"]), number_cell(r["depth"]),
                number_cell(r["similarity"], r["stderr"]),
                text_cell(f"{r['low']:.3f} to {r['high']:.3f}".replace("-", "−")),
                number_cell(r["p_zero"]), number_cell(r["p_ceiling"]),
            ],
        ))  # fmt: skip
    return grid(columns, lines, "All layers, ranked; p values are for single comparisons")


def course_figures(found: ModelComparison) -> list[Figure]:
    """For each recording, a panel for each area: how similar the geometry of layers is to it in each time bin."""
    return [_course_figure(found, str(name), rows) for name, rows in found.courses.groupby("recording", sort=False)]


def _course_figure(found: ModelComparison, recording: str, rows: Any) -> Figure:
    word, how = subjects_word(found, recording), similarity_words(str(found.settings["comparator"]))
    several = rows["stderr"].notna().any()
    caption = (
        f"Each line is the similarity ({how}) of a layer's dissimilarity matrix to that of "
        f"the area in a time bin, the mean over {word}s"
    )
    caption += (
        f"; bands are ± one standard error over {word}s, for these stimuli. Dotted lines are the noise ceiling of each "
        "bin. Bars at the lower edge are bins in which it differs from 0 (cluster-based permutation test over the "
        f"{word}s, 5 %, corrected for all bins; a cluster may begin a bin or two early or late, and needs 6 {word}s)."
        if several else "."
    )  # fmt: skip
    keys = list(rows[["model", "layer"]].drop_duplicates().itertuples(index=False, name=None))
    chosen = keys[:MOST_CURVES]
    if len(keys) > MOST_CURVES:
        own = [title for title, name in found.settings["areas"].items() if name == recording]
        ranked: Any = found.ranking
        ranked = ranked[ranked["brain"].isin(own) & ranked["ok"]].sort_values("rank")
        order = dict.fromkeys(zip(ranked["model"], ranked["layer"], strict=True))
        best = [key for key in order if key in keys][:MOST_CURVES]
        chosen = [key for key in keys if key in best]
        caption += f" Of {len(keys)} layers the {len(chosen)} that rank first are drawn; all are in the results."
    panels, tables = [], []
    for area, mine in rows.groupby("area", sort=False):
        plot = _course_plot(found, recording, str(area), mine, chosen)
        panels.append(_with_ceiling(curves_panel(plot), mine))
        tables.append(_course_table(str(area), mine, chosen))
    return Figure(recording, caption, panels, tables)


def _course_plot(found: ModelComparison, recording: str, area: str, rows: Any, keys: list[tuple[str, str]]) -> Plot:
    curves = []
    for model, layer in keys:
        mine = rows[(rows["model"] == model) & (rows["layer"] == layer)]
        bars = [
            (one["start"], one["stop"])
            for one in found.settings.get("clusters", [])
            if (one["recording"], one["area"], one["model"], one["layer"]) == (recording, area, model, layer)
        ]
        errors = None if mine["stderr"].isna().all() else mine["stderr"].fillna(0).tolist()
        curves.append(
            Curve(f"{model}: {layer}", mine["time"].tolist(), mine["similarity"].tolist(), errors, "band", bars)
        )
    return Plot(area, "time (s)", similarity_words(str(found.settings["comparator"])), curves)


def _with_ceiling(panel: Panel, rows: Any) -> Panel:
    """The panel with the noise ceiling of every bin behind its curves."""
    bins = rows.drop_duplicates("time")
    bounds = [
        {"type": "scatter", "mode": "lines", "x": bins["time"].tolist(), "y": bins[name].tolist(), "line": EDGE,
         "hovertemplate": f"{words} noise ceiling: %{{y:.3f}}<extra></extra>"}
        for name, words in (("ceiling_lower", "lower"), ("ceiling_upper", "upper"))
        if bins[name].notna().any()
    ]  # fmt: skip
    panel.data[:0] = bounds
    return panel


def _course_table(area: str, rows: Any, keys: list[tuple[str, str]]) -> Table:
    by_key = {key: of.set_index("time") for key, of in rows.groupby(["model", "layer"], sort=False)}
    bins = rows.drop_duplicates("time")
    lines = []
    for r in bins.to_dict("records")[:MOST_ROWS]:
        cells = [number_cell(*by_key[key].loc[r["time"], ["similarity", "stderr"]]) for key in keys]
        lines.append((f"{r['time']:.4g}", [*cells, number_cell(r["ceiling_lower"]), number_cell(r["ceiling_upper"])]))
    heads = ("time (s)", *(f"{model}: {layer}" for model, layer in keys), "ceiling, lower", "upper")
    return grid(heads, lines, f"{area}: likeness over time")
