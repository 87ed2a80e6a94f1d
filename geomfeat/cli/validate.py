"""`geomfeat validate`: train families of networks of known richness or known outcomes; test the location on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geomfeat.cli import options
from geomfeat.cli._app import app, command

PAGE, FAMILIES = "validation.html", "families.parquet"


@app.command()
def validate(
    out: Annotated[Path, options.path("Folder of the validation; an interrupted one resumes there.")],
    only: Annotated[str, typer.Option(help="Family names, as a glob; default all; see --list.")] = "*",
    seeds: Annotated[int, typer.Option(help="Number of initial weights for each family.", min=1)] = 2,
    engine: Annotated[str, typer.Option(help="serial, dask or tcp://HOST:PORT; see geomfeat sweep.")] = "serial",
    workers: Annotated[int, typer.Option(help="Number of processes for --engine dask.", min=1)] = 2,
    device: options.DeviceOfRuns = None,
    laws: Annotated[bool, typer.Option(help="Also fit the slopes of R on initial scale and width.")] = True,
    ladders: Annotated[bool, typer.Option(help="Also train the ladders of output scales, which take the time.")] = True,
    shipped: Annotated[
        bool, typer.Option(help="Train nothing; write the page of the packaged validation results.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="Only list the families.")] = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Validate the location: train over sixty families, and test R, M, kappa, regimes and intervals on them.

    Ladders of output scales take one or two hours on two cores, families that are judged by what became of them a
    quarter of an hour on one. Finished runs are not repeated. Writes validation.html and tables.
    """
    with command(debug, "Finished runs are saved: run the same command to resume."):
        from geomfeat.comparison.sweeps.executors.registry import device_of_runs
        from geomfeat.comparison.validation.campaign import family_names, validate as run_validation
        from geomfeat.comparison.validation.files import TABLES, load_validation, save_validation
        from geomfeat.comparison.validation.outcomes.judgement import DERIVED
        from geomfeat.report.pages.validation import write_validation
        from geomfeat.storage.owned_files import require_own

        if listed:
            typer.echo("\n".join(family_names()))
            return
        require_own([out / PAGE, *(out / f"{name}.parquet" for name in (*TABLES, *DERIVED))])
        if shipped:
            found, settings = load_validation(), {"campaign": "packaged"}
        else:
            if device is not None:
                device = device_of_runs(engine, device)
                typer.echo(f"device of the ladders: {device}")
            found = run_validation(
                out, only=only, seeds=seeds, engine=engine, workers=workers, device=device, laws=laws, ladders=ladders,
                progress=not quiet,
            )  # fmt: skip
            settings = {"only": only, "seeds": seeds, "laws": laws, "ladders": ladders}
        save_validation(found, out)
        page = write_validation(found, out / PAGE, settings=settings, table_file=FAMILIES)
        for name, reason in found.absent.items():
            typer.echo(f"not trained: {name}: {reason}", err=True)
        for name, value in found.summary().items():
            typer.echo(f"{name:50} {value:.4g}")
        if found.by_outcome is not None:
            typer.echo(f"\n{found.by_outcome.foretold.set_index('coordinate').T.round(3).to_string()}")
        typer.echo(f"\npage: {page}")
