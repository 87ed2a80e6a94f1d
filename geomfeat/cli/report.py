"""`geomfeat report` makes the page of saved results again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomfeat.cli import options
from geomfeat.cli._app import app, command
from geomfeat.cli._output_folder import PAGE

if TYPE_CHECKING:
    from geomfeat.study import Study

COMPARISON = "comparison.html"


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders that geomfeat analyze wrote.", parser=options.path_of, metavar="FOLDER..."),
    ],
    out: Annotated[
        Path | None, options.path(f"The page; default {PAGE} in the folder, of several ./{COMPARISON}.")
    ] = None,
    figures: Annotated[Path | None, options.path("A folder for paper figures, SVG and PDF.")] = None,
    debug: options.Debug = False,
) -> None:
    """Make the page of saved results again; of several folders, one page that compares them."""
    with command(debug):
        from geomfeat.api import compare_page
        from geomfeat.report.content import location_table
        from geomfeat.report.pages.study import page_path

        page = page_path(out or (folders[0] / PAGE if len(folders) == 1 else Path(COMPARISON)))
        studies = load_all(folders)
        compare_page(studies, page)
        typer.echo(location_table(studies))
        typer.echo(f"\npage: {page}")
        if figures is not None:
            from geomfeat.report import save_figures

            typer.echo(f"figures: {len(save_figures(studies, figures))} files in {figures}")


def load_all(folders: list[Path]) -> list[Study]:
    """The studies of these folders; those of one name are told apart by their folders' names."""
    from geomfeat.study import Study

    studies = [Study.load(folder) for folder in dict.fromkeys(folders)]
    names = [study.name for study in studies]
    return [
        replace(study, name=f"{study.name} ({folder})") if names.count(study.name) > 1 else study
        for study, folder in zip(studies, dict.fromkeys(folders), strict=True)
    ]
