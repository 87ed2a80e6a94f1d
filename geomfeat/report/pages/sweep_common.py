"""What the pages of a sweep share: pictures with their tables, the explorer's choices, every training as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geomfeat.charts import Heat, Plot, figure_of
from geomfeat.charts.paper_style import style
from geomfeat.comparison.relations.runs import FIT, Frame, Trainings
from geomfeat.errors import BadInput
from geomfeat.report.content.components import Cell, Table, grid, number_cell, text_cell
from geomfeat.report.content.explorer_data import explorer_data, json_text
from geomfeat.report.content.sentences import named
from geomfeat.report.content.study_sections import flattened
from geomfeat.report.content.sweep_charts import LOCATION, PLACES, axis_name, varying
from geomfeat.report.figures import as_bytes, data_uri
from geomfeat.report.pages.frame import page_text
from geomfeat.report.plotly.charts import row_figure
from geomfeat.storage.owned_files import as_path, make_folder, replace_picture, require_own

MOST_ROWS = 400  # rows of a table in the page; the parquet file holds all
Picture = Plot | Heat


@dataclass(frozen=True)
class PictureRow:
    """Pictures that stand side by side: one of a kind for each quantity, or for each group."""

    title: str
    pictures: Sequence[Picture]


def rows_by_group(found: Trainings, pictures: Mapping[str, Picture], most: int) -> list[PictureRow]:
    """Pictures named "..._1", "..._2", ... by the group of trainings as a row for each group, in which they are titled
    by what they show alone."""
    rows = []
    for i, (facts, _) in enumerate(found.groups()[:most]):
        group = named(facts)
        own = [picture for name, picture in pictures.items() if name.endswith(f"_{i + 1}")]
        if own:
            rows.append(PictureRow(group, [replace(p, title=p.title.removesuffix(f", {group}")) for p in own]))
    return rows


def save_pictures(pictures: Mapping[str, Picture], folder: str | Path) -> list[Path]:
    """Every picture as `<name>.svg` in the folder; returns the paths.

    BadInput where a file is in the way of the folder; OutputExists for a picture that geomfeat did not write.
    """
    folder = as_path(folder, "figures")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"figures={str(folder)!r} is a file: name a folder")
    paths = [folder / f"{name}.svg" for name in pictures]
    require_own(paths)
    make_folder(folder)
    for path, picture in zip(paths, pictures.values(), strict=True):
        with style():
            content = as_bytes(figure_of(picture), "svg")
        replace_picture(path, content)
    return paths


def rendered(
    template: str, pictures: Mapping[str, Sequence[PictureRow]], explorer: dict[str, Any] | None, *,
    settings: Mapping[str, Any], **fields: Any,
) -> str:  # fmt: skip
    """A page as text. pictures: section -> its rows; explorer: see `explorer_of`; fields: for the template."""
    numbered = [(section, row) for section, several in pictures.items() for row in several]
    figures: dict[str, list[Any]] = {section: [] for section in pictures}
    stills = {}
    with style():
        for i, (section, row) in enumerate(numbered):
            figures[section].append(row_figure(row.title, row.pictures, static=str(i)))
            stills[str(i)] = data_uri(figure_of(*row.pictures))
    return page_text(
        template, [figure for several in figures.values() for figure in several], static=stills, figures=figures,
        explore=explorer, data="" if explorer is None else json_text(explorer["data"]),
        settings=flattened(dict(settings)), **fields,
    )  # fmt: skip


def explorer_of(
    found: Trainings, table: Frame, *, courses: bool = False, lead: Sequence[str] = ()
) -> dict[str, Any] | None:
    """The explorer's data with what is chosen first; None where fewer than two conditions vary or nothing is known.

    `lead`: the conditions that are the axes of the map at first.
    """
    data = explorer_data(found, table, courses=courses)
    names = [n["name"] for n in data["numbers"]]
    if len(data["axes"]) < 2 or not names:
        return None
    axes = list(dict.fromkeys([*lead, *(a["name"] for a in data["axes"])]))
    seed_last = sorted(data["filters"], key=lambda f: f["name"] == "seed")
    filters = [
        {"name": f["name"], "title": f["title"], "choices": (choices := _choices(found, f)),
         "first": choices[0] if f["one"] else ""}
        for f in seed_last
    ]  # fmt: skip
    others = [f for f in filters if f["name"] in axes[2:]]
    for f in others:  # a map shows one value of a further condition at a time, the middle one first
        f["first"] = f["choices"][len(f["choices"]) // 2]
    pair = _first_known(names, ("richness R", "movement M")) or (names[0], names[min(1, len(names) - 1)])
    last: dict[str, str] = {part: n for n in names for part in ("dimension", "radius") if f"capacity: {part}, " in n}
    plane = (last["dimension"], last["radius"]) if courses and len(last) == 2 else pair
    return {"data": data, "numbers": names, "number": names[0], "axes": axes, "filters": filters, "plane": plane}


def _first_known(names: Sequence[str], wanted: tuple[str, str]) -> tuple[str, str] | None:
    return wanted if all(w in names for w in wanted) else None


def _choices(found: Trainings, filtered: Mapping[str, Any]) -> list[str]:
    """The values to choose from, numbers in their order, as words."""
    raw = found.frame[filtered["name"]].tolist()
    pairs = dict(zip(filtered["values"], raw, strict=True))
    if all(isinstance(v, int | float) and not isinstance(v, bool) and v == v for v in pairs.values()):
        return sorted(pairs, key=lambda word: pairs[word])
    return list(pairs)


def counted(found: Trainings) -> str:
    """How many trainings there are, of how many configurations, how many can be compared, and their phases."""
    frame: Frame = found.frame
    names = [*found.by, *varying(found)]
    cells = len(frame.drop_duplicates(names)) if names else 1
    phases = frame["phase"].replace("", "of unknown phase").value_counts()
    by_phase = ", ".join(f"{n} {phase}" for phase, n in phases.items())
    used = int(frame["used"].sum())
    rest = f"; the other {len(frame) - used} diverged, failed or did not reach the target loss"
    rest = rest if used < len(frame) else ""
    return f"{len(frame)} trainings of {cells} configurations: {by_phase}. {used} can be compared{rest}."


def trainings_table(found: Trainings) -> Table:
    """Every training: conditions, phase, fit, R, M, E, and why it is left out; trainings left out come first."""
    every: Frame = found.frame
    frame: Frame = every.sort_values("used", kind="stable").head(MOST_ROWS)
    keys = [k for k in found.values.columns if k[0] == LOCATION and k[1] in PLACES and k[2] == ""]
    numbers: list[tuple[Frame, str]] = [(found.values[k], k[1]) for k in keys]
    conditions = [*found.by, *varying(found), "seed"]
    fits = [f for f in (*FIT, "steps") if frame[f].notna().any()]
    rows = []
    for training, row in frame.iterrows():
        cells = [_cell(row[c]) for c in conditions]
        cells += [text_cell(row["phase"], *(() if row["used"] else ("failed",)))]
        cells += [text_cell(row["why"]), *(number_cell(float(row[f])) for f in fits)]
        cells += [number_cell(float(values[training])) for values, _ in numbers]
        rows.append((str(training), cells))
    titles = [
        *(axis_name(c) if c.startswith("has_") else c for c in conditions),
        "phase",
        "left out because",
        *(f.replace("_", " ") for f in fits),
        *(n for _, n in numbers),
    ]
    return grid(("run", *titles), rows)


def _cell(value: Any) -> Cell:
    number = isinstance(value, float | int) and not isinstance(value, bool)
    return number_cell(float(value)) if number else text_cell(value)
