"""The page of `geomfeat relate`: how init scale, learning rate and width set the location, compared with theory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.comparison.relations._relate import ALL, Related, residuals
from geomfeat.comparison.relations.runs import Frame, Trainings, trainings_of
from geomfeat.report.content.relate_content import (
    answer,
    comparisons,
    follow_table,
    match_table,
    slopes_table,
    theory_tables,
)
from geomfeat.report.content.sentences import named
from geomfeat.report.content.sweep_charts import (
    LOCATION,
    PLACES,
    axis_name,
    curve_of,
    grid_on,
    label_of,
    map_caption,
    map_of,
    middle_of,
    rows_of,
    unit_of,
    varying,
)
from geomfeat.report.pages.frame import page_path, save_page
from geomfeat.report.pages.sweep_common import (
    MOST_ROWS,
    Picture,
    PictureRow,
    counted,
    explorer_of,
    rendered,
    rows_by_group,
    save_pictures,
    trainings_table,
)

MOST_GROUPS = 6  # groups with static maps; the explorer shows all
RESIDUAL = "residual"
LEFT = "Residuals of the fitted slopes: a visible pattern means that constant slopes do not describe the data fully."


def write_relate_page(
    related: Related, table: pd.DataFrame, path: str | Path, *, settings: Mapping[str, Any] | None = None,
    table_file: str = "", notes: tuple[str, ...] = (), seed: int = 0,
) -> Path:  # fmt: skip
    """Write the page of a sweep's relations to `path`; returns the path.

    Args:
        related: of `table`, see `geomfeat.relate`. settings: the sweep's. table_file: with the whole
            table. notes: further ones, of an unfinished sweep for example. seed: of the bootstrap at equal fit.

    Raises BadInput for a path that is a folder.
    """
    path = page_path(path, "relate.html")
    found = trainings_of(table)
    pictures = relate_pictures(related, table, found)
    maps = {name: picture for name, picture in pictures.items() if not name.startswith(RESIDUAL)}
    left = [picture for name, picture in pictures.items() if name.startswith(RESIDUAL)]
    place = {"maps": rows_by_group(found, maps, MOST_GROUPS), "residuals": [PictureRow("", left)] if left else []}
    slopes, total = slopes_table(related, MOST_ROWS)
    equal = [
        {"title": c.title, "problem": c.problem, "statement": c.found.statement if c.found else "",
         "notes": c.found.notes if c.found else (), "table": match_table(c.found) if c.found else None}
        for c in comparisons(found, table, related.level, seed)
    ]  # fmt: skip
    tables, reasons = theory_tables(related)
    follow, limits = follow_table(related)
    text = rendered(
        "relate.html.j2", place, explorer_of(found, table), settings=settings or {},
        title="What sets the regime: " + ", ".join(axis_name(a) for a in related.axes), counted=counted(found),
        answer=answer(related), theory=tables, reasons=reasons, slopes=slopes, slopes_total=total,
        follow=follow, limits=limits, equal=equal, notes=[*notes, *related.notes], trainings=trainings_table(found),
        count=len(found.frame), table_file=table_file, level=f"{100 * related.level:.0f} %",
        more_groups=len(found.groups()) - MOST_GROUPS,
    )  # fmt: skip
    return save_page(text, path)


def save_relate_figures(related: Related, table: pd.DataFrame, folder: str | Path) -> list[Path]:
    """The maps, or curves where one condition varies, as SVG files for papers; returns the paths."""
    return save_pictures(relate_pictures(related, table, trainings_of(table)), folder)


def relate_pictures(related: Related, table: pd.DataFrame, found: Trainings) -> dict[str, Picture]:
    """Name -> picture: of R, M and E over the first two conditions that vary, and what the plane leaves of R."""
    axes = varying(found)
    out: dict[str, Picture] = {}
    for number, (facts, group) in enumerate(found.groups()[:MOST_GROUPS]):
        for quantity in PLACES:
            key = (LOCATION, quantity, "")
            if key not in {k[:3] for k in found.values.columns}:
                continue
            theory = _theory(related, facts, quantity)
            title = ", ".join(filter(None, [label_of(key), named(facts)]))
            name = f"{quantity}_{number + 1}"
            rows: Frame = rows_of(found, key, group)
            if not (rows["used"] & rows["value"].notna()).any():
                continue
            if len(axes) == 1:
                out[name] = curve_of(rows, axes[0], title, unit_of(key), slope=theory.get(axes[0]))
                continue
            if (drawn := _map(rows, axes, title, unit_of(key), theory)) is not None:
                out[name] = drawn
            if quantity == "richness" and (left := _residual(table, group, axes, title)) is not None:
                out[f"{RESIDUAL}_{number + 1}"] = left
    return out


def _map(rows: Any, axes: list[str], title: str, unit: str, theory: Mapping[str, float]) -> Picture | None:
    where = middle_of(rows, axes[2:])
    grid = grid_on(rows, axes[0], axes[1], where)
    if grid is None:
        return None
    slopes = (theory[axes[0]], theory[axes[1]]) if all(a in theory for a in axes[:2]) else None
    slopes = None if slopes == (0.0, 0.0) else slopes
    caption = map_caption(where, theory=slopes is not None)
    return map_of(grid, title, unit, lines=True, theory=slopes, centered=True, caption=caption)


def _residual(table: pd.DataFrame, group: Any, axes: list[str], title: str) -> Picture | None:
    left: Any = residuals(table, LOCATION, "richness")
    left = left[left["training"].isin(group.index)]
    grid = grid_on(left, axes[0], axes[1], middle_of(left, axes[2:]), "residual")
    if grid is None or not np.isfinite(grid.value).any():
        return None
    return map_of(grid, f"Residuals of {title}", "residual, decades", centered=True, caption=LEFT)


def _theory(related: Related, facts: Mapping[str, Any], quantity: str) -> dict[str, float]:
    """Axis -> theory's slope, where theory has a number."""
    rows: Any = related.slopes
    rows = rows[(rows["measure"] == LOCATION) & (rows["quantity"] == quantity) & (rows["layer"] == "")]
    rows = rows[(rows["cells"] == ALL) & rows["theory"].notna()]
    for name, value in facts.items():
        rows = rows[rows[name] == value]
    return dict(zip(rows["term"], rows["theory"].astype(float), strict=True))
