"""`geomfeat compare`: compare models on the same samples; writes a folder with page, tables and matrices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomfeat.cli import options
from geomfeat.cli._app import app, command
from geomfeat.cli.report import COMPARISON

if TYPE_CHECKING:
    from geomfeat.comparison.models import ModelComparison


@app.command()
def compare(
    models: options.Compared,
    out: Annotated[Path, options.path("Folder for the results.")],
    data: Annotated[
        str | None,
        typer.Option(help="Inputs and labels, as in geomfeat analyze. Required with networks; recordings need none."),
    ] = None,
    brain: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.npz[:KEY,...]",
            help="Dissimilarity matrices rdm_<name> of brain data, over the inputs in order, to rank layers by.",
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="Layers, or NAME=PATTERN for one network; repeatable. Default: hidden layers with weights."),
    ] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            help="Measures of single layers to plot over depth; repeatable. Default: capacity (with labels), "
            "participation_ratio_corrected and two_nn. Names: geomfeat measures."
        ),
    ] = None,
    similarity: Annotated[str, typer.Option(help="Measure: cka_linear_unbiased or _biased.")] = "cka_linear_unbiased",
    n: options.Samples = None,
    draws: Annotated[int, typer.Option(help="Number of random draws for the capacity.", min=2)] = 200,
    trials: options.Trials = "means",
    boot: Annotated[int, typer.Option(help="Number of bootstrap samples for the brain ranking.", min=2)] = 1000,
    umap: Annotated[
        bool, typer.Option("--umap", help="Also draw a UMAP of the layers, if there are at least 15.")
    ] = False,
    reduce: options.Reduce = "flatten",
    project: options.Project = "auto",
    batch_size: options.BatchSize = 256,
    readout: options.Readout = None,
    device: options.Device = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Compare models on the same samples: similarity, matched layers, profiles over depth, similarity to brain data.

    Writes comparison.html, tables as .parquet, comparison.npz and comparison.json to --out, all of them or none.
    """
    with command(debug, f"Nothing was written to {out}: run the same command again."):
        request: dict[str, Any] = {
            "models": list(models), "data": data, "brain": brain, "layers": layers, "measures": measures,
            "similarity": similarity, "n": n, "draws": draws, "boot": boot, "umap": umap, "trials": trials,
            "reduce": reduce,
            "project": options.projection(project), "readout": readout, "device": device or "cpu", "seed": seed,
        }  # fmt: skip
        found, fresh = compared(request, out, batch_size=batch_size, force=force, progress=not quiet)
        typer.echo(str(found))
        typer.echo(f"\n{'page' if fresh else 'results exist, nothing was computed; page'}: {out / COMPARISON}")


def compared(
    request: dict[str, Any], out: Path, *, batch_size: int = 256, force: bool = False, progress: bool = True
) -> tuple[ModelComparison, bool]:
    """The comparison of a request, in `out`, and whether it was computed now (False: it was there). See `compare`.

    Raises BadInput (or a subclass) before anything is written; OutputExists if `out` holds another request's results.
    """
    from geomfeat.activations import ExtractOptions
    from geomfeat.cli._model_specs import folder_of_inputs, models_of, patterns_of, words
    from geomfeat.cli._request import readout_of, samples
    from geomfeat.comparison.models import CompareOptions, ModelComparison, compare
    from geomfeat.comparison.models.result import SAVED
    from geomfeat.data._load_data import load_data
    from geomfeat.errors import BadInput
    from geomfeat.geometry.rsa.files import load_rdms
    from geomfeat.models.sources.token_limits import require_tokens_fit
    from geomfeat.storage.owned_files import require_own

    named = words(request["models"])
    networks = [word.name for word in named if word.kind == "network"]
    if networks and request["data"] is None:
        raise BadInput(f"--data is missing: {networks[0]!r} is a network, which needs inputs")
    brain, dates = _dated(request, named)
    if len(named) + (brain is not None) < 2:
        raise BadInput("MODEL: one is given, and a comparison needs two or more; for one model, use geomfeat analyze")
    if _is_finished(out, dates, force):
        return ModelComparison.load(out), False
    SAVED.require_replaceable(out)
    require_own([out / COMPARISON])
    part = None
    if request["data"] is not None:
        # A matrix has a row for every input, in the order of the data: a subsample would not match it.
        in_order = brain is not None or any(word.kind == "rdms" for word in named)
        if in_order and request["n"]:
            raise BadInput(f"--n {request['n']}: dissimilarity matrices cover all inputs in order; leave out --n")
        whole = load_data(request["data"], model=folder_of_inputs(named, request["data"]))
        part = samples(whole, 0 if in_order else request["n"], request["seed"])
    models = models_of(named, request["seed"])
    for name in networks:
        require_tokens_fit(models[name], None if part is None else part.inputs)
    found = compare(
        models, None if part is None else part.inputs, None if part is None else part.known,
        layers=patterns_of(request["layers"], networks), measures=request["measures"],
        similarity=request["similarity"], brain=None if brain is None else load_rdms(*brain), seed=request["seed"],
        device=request["device"], progress=progress,
        extraction=ExtractOptions(
            reduce=request["reduce"], project=request["project"], batch_size=batch_size,
            readout=readout_of(request["readout"]),
        ),
        options=CompareOptions(n_draws=request["draws"], n_bootstrap=request["boot"], umap=request["umap"],
                               trials=request["trials"]),
    )  # fmt: skip
    dataset = None if part is None else {"name": part.name, "preprocessing": part.preprocessing}
    found = replace(found, settings={"request": dates, "dataset": dataset, **found.settings})
    found.save(out)
    found.to_html(out / COMPARISON)
    return found, True


def _dated(request: dict[str, Any], named: list[Any]) -> tuple[tuple[Path, tuple[str, ...]] | None, dict[str, Any]]:
    """(brain file with keys, or None; the request as JSON with files by their content)."""
    from geomfeat._version import __version__
    from geomfeat.cli._model_specs import brains_of
    from geomfeat.data.content_hash import contents
    from geomfeat.storage.atomic import file_sha256

    brain = None if request["brain"] is None else brains_of(request["brain"])
    dates = {"version": __version__, **request, "models": [word.dated() for word in named]}
    dates["code"] = {word.spec: contents(word.spec) for word in named if word.kind == "network"}
    dates["data"] = None if request["data"] is None else [request["data"], *contents(request["data"])]
    dates["readout"] = None if request["readout"] is None else [request["readout"], *contents(request["readout"])]
    dates["brain"] = None if brain is None else [request["brain"], file_sha256(brain[0])]
    return brain, dates


def _is_finished(out: Path, request: dict[str, Any], force: bool) -> bool:
    """Whether `out` holds the whole comparison of this request; OutputExists where it is another one's."""
    from geomfeat.cli._output_folder import first_difference
    from geomfeat.comparison.models.result import FILES, SETTINGS
    from geomfeat.errors import BadInput, OutputExists
    from geomfeat.storage.atomic import read_json

    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {str(out)!r} is a file: name a folder")
    if force or not (out / SETTINGS).is_file():
        return False
    try:
        there = read_json(out / SETTINGS).get("request")
    except (ValueError, OSError) as cause:
        raise OutputExists(f"{out / SETTINGS} cannot be read ({cause}): --force replaces the comparison") from cause
    if not isinstance(there, dict):
        raise OutputExists(
            f"--out {str(out)!r} holds a comparison made by another program or notebook: choose another folder, or "
            "--force to replace it"
        )
    found = first_difference(there, request)
    if found:
        name, old, new = found
        raise OutputExists(
            f"--out {str(out)!r} holds a comparison with other settings, first {name}: {old} there, {new} now. "
            "Choose another folder, or --force to replace it"
        )
    return all((out / name).is_file() for name in (*FILES, COMPARISON))
