"""`geomfeat analyze`: measure a network; writes a folder with page, table, location, arrays and settings."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomfeat.cli import options
from geomfeat.cli._app import app, command
from geomfeat.cli._output_folder import PAGE, PARTS, is_finished, numbered_checkpoints, replacing, require_replaceable
from geomfeat.errors import BadInput

if TYPE_CHECKING:
    from geomfeat.location.planning.plan import LocationPlan
    from geomfeat.study import Study


@app.command()
def analyze(
    out: Annotated[Path, options.path("Folder for the results; an interrupted run resumes there.")],
    data: options.OptionalData = None,
    named: options.Named = None,
    recording: options.Recording = None,
    groups: options.Groups = None,
    over_time: options.OverTime = None,
    model: options.Model = None,
    trained: options.Trained = None,
    adapter: options.Adapter = None,
    initial: options.Initial = None,
    checkpoints: options.Checkpoints = None,
    layers: options.Layers = None,
    measures: options.Measures = None,
    ladder: options.Ladder = None,
    loss: Annotated[str | None, typer.Option(help="Training loss, if known: mse or cross-entropy.")] = None,
    probes: options.Probes = None,
    projections: options.Projections = None,
    budget: options.Budget = None,
    dry_run: options.DryRun = False,
    optimizer: options.Optimizer = None,
    readout: options.Readout = None,
    device: options.Device = None,
    seed: options.Seed = 0,
    n: options.Samples = None,
    reduce: options.Reduce = "flatten",
    project: options.Project = "auto",
    batch_size: options.BatchSize = 256,
    umap_layer: options.UmapLayer = None,
    name: Annotated[str | None, typer.Option(help="Name of the model; default the last part of --out.")] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure a trained network layer by layer and locate it between lazy and rich; or a recording, area by area.

    Writes report.html, results.parquet, location.json, arrays.npz and settings.json to --out. An interrupted run
    resumes from the finished parts in --out/parts. Without --initial, fresh weights are drawn from the model.
    """
    given = dict(locals())
    again = "the same command without --force" if force else "the same command"
    with command(debug, f"Finished parts are saved in {out / PARTS}: run {again} to resume."):
        if recording is not None:
            from geomfeat.cli._analyze_recording import answer

            typer.echo(answer(given, out, force=force, progress=not quiet))
            return
        require_network(data, groups, over_time)
        from geomfeat.cli._networks import model_named

        request: dict[str, Any] = {
            "name": name or os.path.basename(os.path.abspath(out)),
            "model": model_named(named, model, trained), "trained": trained, "adapter": adapter,
            "initial": initial, "checkpoints": checkpoints, "data": data, "n": n, "seed": seed, "layers": layers,
            "measures": None if measures is None else sorted(set(measures)), "ladder": ladder, "loss": loss,
            "device": device or "cpu", "reduce": reduce, "project": options.projection(project),
            "umap_layer": umap_layer, "readout": readout, "probes": probes, "projections": projections,
            "optimizer": optimizer, "budget": budget,
        }  # fmt: skip
        if dry_run:
            typer.echo(str(foreseen(request)))
            return
        study, fresh = analyzed(request, out, batch_size=batch_size, force=force, progress=not quiet)
        print_summary(study, out, fresh)


def require_network(data: str | None, groups: str | None, over_time: list[str] | None) -> None:
    """BadInput where a network lacks its inputs, or an option is given that is of recordings."""
    if data is None:
        raise BadInput("--data is missing: a network needs inputs; for a recording, use --recording")
    if over_time is not None:
        raise BadInput("--over-time is of recordings: a network is followed over its training by --checkpoints")
    if groups is not None:
        raise BadInput("--groups is of recordings: groups of a network's samples come with its --data")


def foreseen(request: dict[str, Any]) -> LocationPlan:
    """What the location of a request will take."""
    from geomfeat.cli._request import planned

    steps = {} if request["checkpoints"] is None else numbered_checkpoints(Path(request["checkpoints"]))
    return planned(request, steps)


def analyzed(
    request: dict[str, Any], out: Path, *, batch_size: int = 256, force: bool = False, progress: bool = True
) -> tuple[Study, bool]:
    """The study of a request, in `out`, and whether it was computed now (False: it was there). See `analyze`.

    Finished numbers are not computed again, failed ones are; with `force`, all are.

    Raises BadInput (or a subclass) before anything is written; OutputExists if `out` holds another request's results.
    """
    from geomfeat.cli._request import ask, dated
    from geomfeat.registry import get
    from geomfeat.study import Study

    for measure in request["measures"] or ():
        get(measure)
    steps = {} if request["checkpoints"] is None else numbered_checkpoints(Path(request["checkpoints"]))
    dates = dated(request, steps)
    if is_finished(out, dates, force):
        there = Study.load(out)
        if there.table.loc[~there.table["ok"]].empty:
            return there, False
    require_replaceable(out)
    with replacing(out, force):
        study = ask(request, steps, batch_size=batch_size, progress=progress, resume=out / PARTS)
        study = replace(study, settings={"request": dates, **study.settings})
        study.save(out)
        study.to_html(out / PAGE)
    return study, True


def print_summary(study: Study, out: Path, fresh: bool) -> None:
    """Print the location, the failures and the path of the page; writes the page again if it is missing."""
    from geomfeat.api import compare_page
    from geomfeat.report.content import location_table

    if not (out / PAGE).is_file():
        compare_page(study, out / PAGE)
    typer.echo(location_table(study))
    failed = study.table.loc[~study.table["ok"]]
    if len(failed):
        typer.echo(f"\n{len(failed)} of {len(study.table)} values could not be computed; see the report. For example:")
        first = failed.iloc[0]
        typer.echo(f"  {first['measure']} ({first['at']} {first['layer']}): {first['note']}".replace(" )", ")"))
    if study.location is not None:
        for flag in study.location.flags:
            typer.echo(f"  note: {flag}")
    typer.echo(f"\n{'page' if fresh else 'results exist, nothing was computed; page'}: {out / PAGE}")
