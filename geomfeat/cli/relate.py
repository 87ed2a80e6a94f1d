"""`geomfeat relate` and `geomfeat portrait`: the two pages of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomfeat.cli import options
from geomfeat.cli._app import app, command

if TYPE_CHECKING:
    import pandas as pd

RELATE_PAGE, PORTRAIT_PAGE = "relate.html", "portrait.html"
Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder written by geomfeat sweep.", parser=options.path_of)
]
Figures = Annotated[Path | None, options.path("Folder for the maps as SVG files, for papers.")]


@app.command()
def relate(
    folder: Folder,
    out: Annotated[Path | None, options.path(f"Path of the page; default DIR/{RELATE_PAGE}.")] = None,
    figures: Figures = None,
    measures: Annotated[
        list[str] | None, typer.Option(help="Measures, repeatable; default all measures of the sweep.")
    ] = None,
    level: Annotated[float, typer.Option(help="Level of all intervals.", min=0.5, max=0.999)] = 0.9,
    seed: options.Seed = 0,
    debug: options.Debug = False,
) -> None:
    """Relate location and measures of a sweep to init scale, learning rate and width, with the slopes theory predicts.

    Prints a summary, and writes a page with slopes, maps, what follows richness or fit, and comparisons at equal fit.
    """
    with command(debug):
        from geomfeat.comparison.relations._relate import relate as related
        from geomfeat.report.content.relate_content import answer
        from geomfeat.report.pages.frame import page_path
        from geomfeat.report.pages.relate import save_relate_figures, write_relate_page

        page = page_path(out or folder / RELATE_PAGE)
        made = read_sweep(folder)
        _print_notes(made)
        found = related(made.table, measures=measures, level=level, seed=seed)
        write_relate_page(
            found, made.table, page, settings=made.settings, table_file=made.table_file, notes=made.notes, seed=seed
        )  # fmt: skip
        typer.echo("\n".join([*found.notes, "", *answer(found), "", f"page: {page}"]).lstrip())
        if figures is not None:
            typer.echo(f"figures: {len(save_relate_figures(found, made.table, figures))} files in {figures}")


@app.command()
def portrait(
    folder: Folder,
    x: Annotated[str | None, typer.Option(help="Condition on the x axis; default the first that varies.")] = None,
    y: Annotated[str | None, typer.Option(help="Condition on the y axis; default the second that varies.")] = None,
    out: Annotated[Path | None, options.path(f"Path of the page; default DIR/{PORTRAIT_PAGE}.")] = None,
    figures: Figures = None,
    debug: options.Debug = False,
) -> None:
    """Draw phase diagrams of a sweep over two conditions, trajectories over training, and sources of capacity."""
    with command(debug):
        from geomfeat.comparison.relations.runs import trainings_of
        from geomfeat.report.pages.frame import page_path
        from geomfeat.report.pages.portrait import save_portrait_figures, write_portrait_page
        from geomfeat.report.pages.sweep_common import counted

        page = page_path(out or folder / PORTRAIT_PAGE)
        made = read_sweep(folder)
        _print_notes(made)
        write_portrait_page(
            made.table, page, x=x, y=y, settings=made.settings, table_file=made.table_file, notes=made.notes
        )  # fmt: skip
        typer.echo(f"{counted(trainings_of(made.table))}\n\npage: {page}")
        if figures is not None:
            typer.echo(f"figures: {len(save_portrait_figures(made.table, figures, x=x, y=y))} files in {figures}")


@dataclass(frozen=True, eq=False)
class ReadSweep:
    """A sweep's finished trainings, its settings, notes about missing runs, and the name of its table's file."""

    table: pd.DataFrame
    settings: Mapping[str, Any]
    notes: tuple[str, ...]
    table_file: str


def _print_notes(made: ReadSweep) -> None:
    """Print the notes about missing runs first: they explain an error that may follow from them."""
    for note in made.notes:
        typer.echo(note)


def read_sweep(folder: Path) -> ReadSweep:
    """The finished trainings of a sweep's folder; missing ones are counted in `notes`.

    Raises BadInput for a folder that is not a sweep, and for one without a finished training.
    """
    from geomfeat.comparison.sweeps._sweep import RESULTS, SweepResult
    from geomfeat.comparison.sweeps.outcomes import MISSING
    from geomfeat.errors import BadInput

    found = SweepResult.load(folder)
    missing = found.outcomes.get(MISSING, 0)
    total = len(found.plan)
    if missing == total:
        first = next(iter(found.damaged.values()), "")
        why = f", and {len(found.damaged)} folders are damaged or of another version ({first})" if first else ""
        raise BadInput(f"none of the {total} runs in {folder} is finished{why}: run the same geomfeat sweep again")
    every: Any = found.table
    table = every[every["outcome"] != MISSING].reset_index(drop=True)
    notes = []
    if missing:
        notes.append(
            f"{missing} of {total} runs are missing: the sweep is unfinished and results may change. "
            "Run the same geomfeat sweep to resume."
        )
    if found.errors:
        why = next(iter(found.errors.values()))
        notes.append(f"{len(found.errors)} runs failed with an error, so they are not missing at random, e.g.: {why}")
    if found.damaged:
        notes.append(f"{len(found.damaged)} damaged runs are left out: run the same geomfeat sweep to replace them.")
    settings = {"version": found.version, **found.config}
    return ReadSweep(table, settings, tuple(notes), RESULTS if (folder / RESULTS).is_file() else "")
