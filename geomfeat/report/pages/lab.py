"""One self-contained HTML page of a lab experiment: the question, the answer, theory's line through the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geomfeat.charts import Heat, Plot, figure_of
from geomfeat.charts.paper_style import style
from geomfeat.lab import Experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.report.content.components import Cell, Table, grid, number_cell, text_cell
from geomfeat.report.content.study_sections import flattened
from geomfeat.report.figures import as_bytes, data_uri
from geomfeat.report.pages.frame import page_path, page_text, save_page
from geomfeat.report.plotly.charts import lab_figure, row_figure
from geomfeat.storage.owned_files import as_path, make_folder, replace_picture, require_own

MOST_ROWS = 300  # rows of the results table in the page; the parquet file holds all


def write_lab_page(asked: Experiment, found: Findings, path: str | Path, *, table_file: str = "") -> Path:
    """Write the page of an experiment to `path`; returns the path. table_file: with the whole table.

    Raises BadInput for a path that is a folder.
    """
    path = page_path(path, "lab.html")
    text = render(asked, found, table_file)
    return save_page(text, path)


def save_lab_figures(found: Findings, folder: str | Path) -> list[Path]:
    """Every plot as an SVG file in `folder`; returns the paths."""
    folder = as_path(folder, "folder")
    paths = [folder / f"figure_{i + 1}.svg" for i in range(len(found.plots))]
    require_own(paths)
    make_folder(folder)
    for path, plot in zip(paths, found.plots, strict=True):
        with style():
            content = as_bytes(figure_of(plot), "svg")
        replace_picture(path, content)
    return paths


def render(asked: Experiment, found: Findings, table_file: str = "") -> str:
    """The page as text."""
    rows = in_rows(found.plots)
    figures = [
        row_figure(title, plots, static=str(i)) if title else lab_figure(plots[0], static=str(i))
        for i, (title, plots) in enumerate(rows)
    ]
    with style():
        stills = {str(i): data_uri(figure_of(*plots)) for i, (_, plots) in enumerate(rows)}
    return page_text(
        "lab.html.j2",
        figures,
        static=stills,
        title=asked.title,
        asked=asked,
        answer=found.answer,
        checks=checks_table(found),
        failed=len(found.failed),
        figures=figures,
        results=results_table(found),
        count=len(found.table),
        table_file=table_file,
        notes=list(found.notes),
        settings=flattened(dict(found.settings)),
    )


def in_rows(plots: Sequence[Plot | Heat]) -> list[tuple[str, list[Plot | Heat]]]:
    """(title, plots) of each row; one without a title holds one plot."""
    rows: list[tuple[str, list[Plot | Heat]]] = []
    for plot in plots:
        title = plot.row if isinstance(plot, Plot) else ""
        if title and rows and rows[-1][0] == title:
            rows[-1][1].append(plot)
        else:
            rows.append((title, [plot]))
    return rows


def checks_table(found: Findings) -> Table | None:
    """Measured and known values, and whether they agree; None if nothing is known."""
    if not found.checks:
        return None
    rows = [(check.what, _cells(check)) for check in found.checks]
    return grid(("number", "measured", "theory", "within", "agrees"), rows)


def _cells(check: Check) -> list[Cell]:
    verdict = text_cell("yes") if check.ok else text_cell("no", "failed", "outside of the tolerance")
    unit = f" {check.unit}" if check.unit else ""
    within = text_cell(f"± {check.tolerance:g}{unit}")
    return [number_cell(check.value), number_cell(check.expected), within, verdict]


def results_table(found: Findings) -> Table:
    """The first rows of the results."""
    columns = [str(c) for c in found.table.columns]
    rows = []
    for record in found.table.head(MOST_ROWS).to_dict("records"):
        first, *rest = record.values()
        number = lambda v: isinstance(v, float | int) and not isinstance(v, bool)  # noqa: E731
        head = f"{first:.4g}" if number(first) else str(first)
        rows.append((head, [number_cell(float(v)) if number(v) else text_cell(v) for v in rest]))
    return grid(columns, rows)
