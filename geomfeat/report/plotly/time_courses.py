"""Numbers of a recording over time: a panel for each quantity, with bands, and bars below significant bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from geomfeat.charts import Curve, Plot
from geomfeat.report.content.components import Figure, Panel, Table, grid, number_cell
from geomfeat.report.content.quantity_labels import axis_of, title_of
from geomfeat.report.content.study_view import View
from geomfeat.report.plotly.charts import MOST_ROWS, curves_panel
from geomfeat.study.time_courses._trajectories import ALL_PAIRS
from geomfeat.study.time_courses.course import PLACE, TimeCourse, charts_of, curve_name

HEIGHT = 250  # pixels of a panel
MOST_OPEN = 3  # panels of one quantity; those of further areas are closed at first
MOST_CURVES = 7  # of one panel; colours repeat after these
TRAJECTORY = "trajectory_"
# Roots are in the table of results alone: near 0 they have no error.
ROOTS = ("distance", "speed")
TITLES = {
    "squared_distance": "Squared distance between conditions", "squared_speed": "Squared speed by condition",
    "trajectory_tangling": "Tangling by condition",
}  # fmt: skip
AXES = {
    "squared_distance": "squared distance", "squared_speed": "squared speed (per s²)", "trajectory_tangling": "Q (s⁻²)"
}  # fmt: skip
BANDS = (
    "Lines are values in each time bin, bands ± one standard error over runs (or sessions, subjects); trials, runs and "
    "random draws are the same in all bins, so neighbouring bins differ by less than the bands say."
)
OF_TRAJECTORIES = (
    "How the mean responses move. Squared distances and speeds are made of products of different groups of trials, so "
    "noise does not add to them: where conditions do not differ they are around 0, and below it by chance. Bars at the "
    "lower edge are bins in which distances are above 0 (cluster-based permutation test, 5 %, corrected for all bins; "
    "a cluster may begin a bin or two early or late, and needs 6 groups of trials or more). Speeds are of central "
    "differences, which see a step one bin early. Tangling is high where similar states move on in different "
    "directions; noise raises it."
)


def time_figures(several: Sequence[View]) -> list[Figure]:
    """Figures of the measures and of the trajectories; none where nothing was measured over time."""
    measured, moved = [], []
    for view in several:
        course = view.study.course
        if course is None:
            continue
        table: Any = course.table
        of_moves = table["measure"].str.startswith(TRAJECTORY)
        measured.append((view, replace(course, table=table[~of_moves])))
        moved.append((view, replace(course, table=table[of_moves & ~table["quantity"].isin(ROOTS)])))
    found = [_figure("", BANDS, measured), _figure("Trajectories", OF_TRAJECTORIES, moved)]
    return [figure for figure in found if figure.panels]


def _figure(title: str, caption: str, courses: Sequence[tuple[View, TimeCourse]]) -> Figure:
    shown: list[Panel] = []
    closed: list[Panel] = []
    tables: list[Table] = []
    left = 0
    for view, course in courses:
        for plot, (measure, quantity) in zip(charts_of(course), _numbers(course), strict=True):
            name = TITLES.get(quantity) or title_of(measure, quantity, "between areas")
            whole = replace(
                plot, title=f"{view.name}: {name}" if len(courses) > 1 else name,
                y_label=AXES.get(quantity) or axis_of(measure, quantity), curves=_shown(view, plot, quantity),
            )  # fmt: skip
            parts = _by_area(whole)
            left += len(plot.curves) - sum(len(part.curves) for part in parts)
            panels = [curves_panel(part, view.index) for part in parts]
            panels = [replace(p, layout={**p.layout, "height": HEIGHT}, size="small") for p in panels]
            shown += panels[:MOST_OPEN]
            closed += panels[MOST_OPEN:]
            tables += [_table(part) for part in parts]
    if left:
        caption += f" {left} more lines are in the table of results alone."
    return Figure(
        title, caption, shown, tables, shape="triples" if len(shown) > 1 else "", folded=closed,
        fold_title=f"The same in {len(closed)} more areas",
    )  # fmt: skip


def _by_area(plot: Plot) -> list[Plot]:
    """The plot, or one for each area where its lines are too many for one panel."""
    areas: dict[str, list[Curve]] = {}
    for curve in plot.curves:
        area, _, condition = curve.label.partition(", ")
        areas.setdefault(area, []).append(replace(curve, label=condition or area))
    if len(plot.curves) <= MOST_CURVES or len(areas) < 2:
        return [replace(plot, curves=plot.curves[:MOST_CURVES])]
    return [replace(plot, title=f"{plot.title}, {area}", curves=curves[:MOST_CURVES]) for area, curves in areas.items()]


def _numbers(course: TimeCourse) -> list[tuple[str, str]]:
    """(measure, quantity) of the course's charts."""
    table: Any = course.table
    known = table[table["ok"]]
    return [(str(m), str(q)) for m, q in known[["measure", "quantity"]].drop_duplicates().itertuples(index=False)]


def _shown(view: View, plot: Plot, quantity: str) -> list[Curve]:
    """The curves that are drawn, with their significant bins: of distances the mean over all pairs, if there is one."""
    mean = [curve for curve in plot.curves if curve.label.endswith(ALL_PAIRS)]
    bars: dict[str, list[tuple[float, float]]] = {}
    for one in view.study.settings.get("over_time", {}).get("clusters", ()):
        if one["quantity"] == quantity:
            label = curve_name([one[name] for name in PLACE])
            bars.setdefault(label, []).append((one["start"], one["stop"]))
    return [replace(curve, bars=bars.get(curve.label, ())) for curve in mean or plot.curves]


def _table(plot: Plot) -> Table:
    """A row for each bin, a column for each line."""
    times = sorted({x for curve in plot.curves for x in curve.x})[:MOST_ROWS]
    known = [
        dict(zip(curve.x, zip(curve.y, curve.error or [None] * len(curve.x), strict=True), strict=True))
        for curve in plot.curves
    ]
    rows = [(f"{time:.4g}", [number_cell(*of.get(time, (None, None))) for of in known]) for time in times]
    return grid(("time (s)", *(curve.label or plot.y_label for curve in plot.curves)), rows, plot.title)
