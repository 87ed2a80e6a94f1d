"""`geomfeat lab`: run an experiment with a known theoretical answer and write its page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomfeat.cli import options
from geomfeat.cli._app import app, command

if TYPE_CHECKING:
    from geomfeat.lab.result import Findings

PAGE, TABLE = "lab.html", "results.parquet"
FAILED_CHECKS = 1


@app.command()
def lab(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Name of the experiment; see --list.")] = None,
    out: Annotated[Path | None, options.path("Folder for the results; default runs/lab/NAME.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only list the experiments.")] = False,
    small: Annotated[bool, typer.Option("--small", help="Run with fewer points, in seconds.")] = False,
    seed: options.Seed = 0,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device of the trainings: cpu, cuda, cuda:1, ..., or auto: cuda if it is there; default cpu."
        ),
    ] = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Run an experiment with a known theoretical answer, and write a page with figure, numbers and prediction.

    Writes lab.html, results.parquet and figures as SVG to --out. The exit code is 1 if a number is outside its
    tolerance.
    """
    with command(debug, "Nothing was written: run the same command again."):
        from geomfeat.errors import BadInput
        from geomfeat.lab import all_experiments, get_experiment, run_experiment
        from geomfeat.lab.registry import CPU_ALONE
        from geomfeat.report.pages.lab import save_lab_figures, write_lab_page
        from geomfeat.storage.atomic import write_parquet
        from geomfeat.storage.owned_files import make_folder, replace_file, require_own

        if listed:
            wide = max(len(e.name) for e in all_experiments())
            typer.echo("\n".join(f"{e.name:{wide}}  {e.question}" for e in all_experiments()))
            return
        if name is None:
            raise BadInput("NAME is missing: name an experiment; `geomfeat lab --list` lists them")
        asked, folder = get_experiment(name), out or Path("runs") / "lab" / name
        if folder.exists() and not folder.is_dir():
            raise BadInput(f"--out {str(folder)!r} is a file: name a folder")
        require_own([folder / PAGE, folder / TABLE])
        if device is not None:
            device = str(asked.device(device))
            typer.echo(f"device: {device}{'' if asked.takes_device else f' ({name} {CPU_ALONE})'}", err=True)
        start, size = time.perf_counter(), "small" if small else "full"
        found = run_experiment(name, size=size, seed=seed, progress=not quiet, device=device)
        seconds = time.perf_counter() - start
        make_folder(folder)
        save_lab_figures(found, folder)
        replace_file(folder / TABLE, lambda draft: write_parquet(draft, found.table))
        page = write_lab_page(asked, found, folder / PAGE, table_file=TABLE)
        typer.echo(f"{asked.question}\n{found.answer}\n\n{checked(found)}\n\n{seconds:.0f} s; page: {page}")
        if found.failed:
            raise typer.Exit(FAILED_CHECKS)


def checked(found: Findings) -> str:
    """The checks as lines of text."""
    wide = max((len(c.what) for c in found.checks), default=0)
    return "\n".join(
        f"{'ok  ' if c.ok else 'MISS'}  {c.what:{wide}}  {c.value:9.4g}  "
        f"theory {c.expected:.4g} ± {c.tolerance:g} {c.unit}".rstrip()
        for c in found.checks
    )
