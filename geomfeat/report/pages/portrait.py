"""The page of `geomfeat portrait`: phase diagrams, trajectories over training, strategies and stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.charts import Curve, Plot
from geomfeat.comparison.relations._relate import fixed_conditions
from geomfeat.comparison.relations.expected_slopes import expected_slope
from geomfeat.comparison.relations.runs import Trainings, check_known, trainings_of
from geomfeat.comparison.relations.trajectories import trajectories
from geomfeat.errors import BadInput
from geomfeat.report.content.number_format import number
from geomfeat.report.content.portrait_content import CAPACITY, capacity_layers, stories
from geomfeat.report.content.sentences import named
from geomfeat.report.content.sweep_charts import (
    LOCATION,
    axis_name,
    grid_on,
    is_signed,
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
    Picture,
    PictureRow,
    counted,
    explorer_of,
    rendered,
    rows_by_group,
    save_pictures,
    trainings_table,
)

MOST_COURSES = 7  # trajectories in a static picture: one for each colour of the palette
MOST_GROUPS = 6
PATHS = (
    "Each line is a training from start to end. Shown are {n} trainings of the first seed, evenly spaced in richness "
    "or, if it is unknown, in order; the plot above shows all. Down and to the left is compression."
)


def write_portrait_page(
    table: pd.DataFrame, path: str | Path, *, x: str | None = None, y: str | None = None,
    settings: Mapping[str, Any] | None = None, table_file: str = "", notes: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """Write the portrait of a sweep to `path`; returns the path.

    Args:
        table: the tidy table of a sweep. x, y: the axes that are shown first; default the first two that vary.
        settings, table_file, notes: see `geomfeat.report.pages.relate.write_relate_page`.

    Raises BadInput where fewer than two conditions vary, for unknown axes, and for a path that is a folder.
    """
    path = page_path(path, "portrait.html")
    found = trainings_of(table)
    axes = portrait_axes(found, x, y)
    explorer = explorer_of(found, table, courses=True, lead=axes)
    if explorer is None:
        raise BadInput(
            "the table holds losses only, so there is nothing to draw: run the sweep with measures or location"
        )
    pictures = portrait_pictures(table, found, axes)
    maps = {name: picture for name, picture in pictures.items() if not isinstance(picture, Plot)}
    paths = [picture for picture in pictures.values() if isinstance(picture, Plot)]
    place = {"maps": rows_by_group(found, maps, MOST_GROUPS), "courses": [PictureRow("", paths)] if paths else []}
    text = rendered(
        "portrait.html.j2", place, explorer, settings=settings or {},
        title=f"Portrait over {axis_name(axes[0])} and {axis_name(axes[1])}", counted=counted(found),
        notes=[*notes, *found.notes], stories=stories(found, table), trainings=trainings_table(found),
        count=len(found.frame), table_file=table_file,
    )  # fmt: skip
    return save_page(text, path)


def save_portrait_figures(
    table: pd.DataFrame, folder: str | Path, *, x: str | None = None, y: str | None = None
) -> list[Path]:
    """The maps and trajectories as SVG files for papers; returns the paths."""
    found = trainings_of(table)
    return save_pictures(portrait_pictures(table, found, portrait_axes(found, x, y)), folder)


def portrait_axes(found: Trainings, x: str | None = None, y: str | None = None) -> tuple[str, str]:
    """The two axes of the diagrams; BadInput where there are not two."""
    axes = varying(found)
    split = next((a for a in (x, y) if a in found.by), None)
    if split is not None:
        raise BadInput(
            f"{split} cannot be an axis here: the page draws a diagram for each of its values; use geomfeat.portrait"
        )
    if len(axes) < 2:
        instead = f"only {axes[0]} varies" if axes else "none varies"
        instead += f" ({', '.join(found.by)} would split the diagrams)" if found.by else ""
        raise BadInput(
            f"a phase diagram needs two conditions that vary, and {instead}: vary another one, or use geomfeat relate"
        )
    check_known([a for a in (x, y) if a is not None], axes, "condition that varies")
    first = x or next(a for a in axes if a != y)
    second = y or next(a for a in axes if a != first)
    if first == second:
        raise BadInput(f"x and y are both {first!r}: give two conditions")
    return first, second


def portrait_pictures(table: pd.DataFrame, found: Trainings, axes: tuple[str, str]) -> dict[str, Picture]:
    """Name -> picture: maps of the location and of the last layer's capacity, and the courses of the layers."""
    layers = capacity_layers(found)
    keys = [(LOCATION, q, "") for q in ("richness", "excess")]
    keys += [(CAPACITY, q, layers[-1]) for q in (CAPACITY, "radius", "dimension")] if layers else []
    there = {k[:3] for k in found.values.columns}
    keys = [k for k in keys if k in there] or [next(iter(found.values.columns))[:3]]
    others = [a for a in varying(found) if a not in axes]
    out: dict[str, Picture] = {}
    for number_of, (facts, group) in enumerate(found.groups()[:MOST_GROUPS]):
        for key in keys:
            rows = rows_of(found, key, group)
            where = middle_of(rows, others)
            grid = grid_on(rows, *axes, where)
            if grid is None or not np.isfinite(grid.value).any():
                continue
            title = ", ".join(filter(None, [label_of(key), named(facts)]))
            name = "_".join([key[1], *([key[2].replace("/", "-")] if key[2] else []), str(number_of + 1)])
            theory = _theory(key, axes, group, facts)
            caption = map_caption(where, theory=theory is not None)
            out[name] = map_of(
                grid, title, unit_of(key), lines=True, theory=theory, caption=caption, centered=is_signed(key)
            )
    for layer in layers:
        if (drawn := _courses(table, found, layer)) is not None:
            out[f"course_{layer.replace('/', '-')}"] = drawn
    return out


def _theory(
    key: Sequence[str], axes: tuple[str, str], group: Any, facts: Mapping[str, Any]
) -> tuple[float, float] | None:  # fmt: skip
    """Theory's slopes of the location on both axes; None where it has not both, or both are 0."""
    fixed = fixed_conditions(group[group["used"]], dict(facts))
    found = [expected_slope(key[1], axis, fixed) if key[0] == LOCATION else None for axis in axes]
    slopes = [math.nan if f is None else f.slope for f in found]
    return (slopes[0], slopes[1]) if all(map(math.isfinite, slopes)) and any(slopes) else None


def _courses(table: pd.DataFrame, found: Trainings, layer: str) -> Plot | None:
    """Dimension against radius over training, for a few trainings; None without two moments."""
    path: Any = trajectories(
        table, dimension=(CAPACITY, "dimension", layer), radius=(CAPACITY, "radius", layer)
    )  # fmt: skip
    path = path[path["complete"]]
    counts = path.groupby("training").size()
    frame: Any = found.frame
    frame = frame[frame.index.isin(counts[counts > 1].index) & frame["used"]]
    if frame.empty:
        return None
    frame = frame[frame["seed"] == frame["seed"].min()]
    if (LOCATION, "richness", "") in {k[:3] for k in found.values.columns}:
        frame = frame.loc[found.values.loc[frame.index, [found.key(LOCATION, "richness")]].squeeze(axis=1)
                          .sort_values().index]  # fmt: skip
    kept = np.unique(np.linspace(0, len(frame) - 1, min(len(frame), MOST_COURSES)).round().astype(int))
    curves = []
    for training, row in frame.iloc[kept].iterrows():
        rows = path[path["training"] == training]
        label = ", ".join(f"{a} {number(row[a])}" for a in varying(found)[:3])
        curves.append(Curve(label, rows["dimension"].tolist(), rows["radius"].tolist()))
    return Plot(
        f"Courses of {layer}", f"dimension, {layer}", f"radius, {layer}", curves, caption=PATHS.format(n=len(curves))
    )
