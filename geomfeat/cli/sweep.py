"""`geomfeat sweep`: train and measure a grid of networks from a YAML file; an interrupted sweep can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geomfeat.cli import options
from geomfeat.cli._app import app, command

UNFINISHED = 1


@app.command()
def sweep(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="SWEEP.yaml", help="Configuration: what to vary, train and measure.", parser=options.path_of
        ),
    ] = None,
    out: Annotated[Path | None, options.path("Folder of the sweep; an interrupted sweep resumes there.")] = None,
    engine: Annotated[
        str, typer.Option(help="serial, dask (local workers), tcp://HOST:PORT (a running dask scheduler) or slurm.")
    ] = "serial",
    workers: Annotated[int, typer.Option(help="Number of processes for --engine dask, one core each.", min=1)] = 2,
    device: options.DeviceOfRuns = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the number of runs and their estimated time.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Only print the JSON schema of the config.")] = False,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Repeat runs made by another version of geomfeat.")
    ] = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train and measure a grid or random design of networks: init scale, learning rate, width, seeds, ...

    Every run is a folder in OUT/runs. OUT/results.parquet is the table of all runs, including those that diverged,
    stalled or missed the target loss. Run the same command again to resume an interrupted sweep.
    """
    with command(debug, "Finished runs are saved: run the same command to resume."):
        from geomfeat.errors import BadInput

        if schema:
            typer.echo(schema_text())
            return
        if config is None or out is None:
            raise BadInput(
                f"{'SWEEP.yaml' if config is None else '--out'} is missing: geomfeat sweep SWEEP.yaml --out DIR"
            )
        if dry_run:
            typer.echo(foreseen(config, out, engine, workers, device))
            return
        from geomfeat.comparison.sweeps._sweep import RESULTS, sweep as run_sweep

        where = asked_device(config, engine, device)
        if where is not None:
            typer.echo(f"device: {where}")
        found = run_sweep(
            config, out, engine=engine, workers=workers, device=where, recompute=recompute, progress=not quiet
        )
        typer.echo(str(found))
        for address, why in list(found.errors.items())[:3]:
            typer.echo(f"  {address} failed: {why}", err=True)
        typer.echo(f"\ntable: {out / RESULTS}")
        if found.errors:
            raise typer.Exit(UNFINISHED)


def schema_text() -> str:
    """The JSON schema of a sweep's config, over reference architectures or over networks of one's own."""
    import json

    from pydantic import TypeAdapter

    from geomfeat.comparison.sweeps.config_schemas import AnyConfig

    return json.dumps(TypeAdapter(AnyConfig).json_schema(), indent=2)


def asked_device(config: Path, engine: str, device: str | None) -> str | None:
    """The device of the runs that the option names, else the file; None where neither does."""
    from geomfeat.comparison.sweeps.config import read_config
    from geomfeat.comparison.sweeps.executors.registry import device_of_runs

    asked = device or read_config(config).device
    return None if asked is None else device_of_runs(engine, asked)


def foreseen(config: Path, out: Path, engine: str, workers: int, device: str | None = None) -> str:
    """What `sweep` would do: number of runs, time, and for SLURM the job script. Writes nothing."""
    from geomfeat.comparison.sweeps._sweep import check_plan, check_versions, found_in, planned
    from geomfeat.comparison.sweeps.config import parse_config
    from geomfeat.comparison.sweeps.executors.base import gpus
    from geomfeat.comparison.sweeps.executors.registry import HERE, engine_named, slurm_script
    from geomfeat.comparison.sweeps.time_estimate import estimate
    from geomfeat.errors import OutputExists

    plan = planned(config, out)
    slurm = parse_config(plan.config).slurm
    where = asked_device(config, engine, device) or "cpu"
    engine_named(engine, workers, slurm, where)
    local = len(gpus()) if where == "cuda" else workers
    parallel = {"serial": 1, "slurm": slurm.jobs, "dask": local}.get(engine, workers)
    todo, there = found_in(plan, where if engine in HERE else "cpu")
    forecast = estimate(todo, there).describe(parallel)
    try:
        check_plan(plan)
        check_versions(plan, todo)
    except OutputExists as other:
        forecast += f"\nBut {other}"
    return f"{forecast}\n\n{slurm_script(slurm, where)}" if engine == "slurm" else forecast
