"""`geomfeat report`: write the page of saved results again."""

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
        typer.Argument(help="Folders written by geomfeat analyze.", parser=options.path_of, metavar="FOLDER..."),
    ],
    out: Annotated[
        Path | None, options.path(f"Path of the page; default FOLDER/{PAGE}, or ./{COMPARISON} for several folders.")
    ] = None,
    figures: Annotated[Path | None, options.path("Folder for figures as SVG and PDF, for papers.")] = None,
    debug: options.Debug = False,
) -> None:
    """Write the page of saved results again; for several folders, one page that compares them."""
    with command(debug):
        from geomfeat.api import compare_page
        from geomfeat.report.content import location_table
        from geomfeat.report.pages.frame import page_path

        page = page_path(out or (folders[0] / PAGE if len(folders) == 1 else Path(COMPARISON)))
        studies = load_all(folders)
        compare_page(studies, page)
        typer.echo(location_table(studies))
        typer.echo(f"\npage: {page}")
        if figures is not None:
            from geomfeat.report import save_figures

            typer.echo(f"figures: {len(save_figures(studies, figures))} files in {figures}")


def load_all(folders: list[Path]) -> list[Study]:
    """The studies of these folders; where names are equal, the folder is added to the name."""
    from geomfeat.study import Study

    studies = [Study.load(folder) for folder in dict.fromkeys(folders)]
    names = [study.name for study in studies]
    return [
        replace(study, name=f"{study.name} ({folder})") if names.count(study.name) > 1 else study
        for study, folder in zip(studies, dict.fromkeys(folders), strict=True)
    ]
