"""`geomfeat extract`: the features of layers as files, or the list of layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomfeat.cli import options
from geomfeat.cli._app import app, command

if TYPE_CHECKING:
    from torch import nn

    from geomfeat.models.functional import Readout
    from geomfeat.types import Representation


@app.command()
def extract(
    data: options.Data,
    named: options.Named = None,
    model: options.Model = None,
    trained: Annotated[
        Path | None, options.path("Weights: .safetensors or .pt; default those of hf:FOLDER, else the model as built.")
    ] = None,
    adapter: options.Adapter = None,
    layers: options.Layers = None,
    list_layers: Annotated[bool, typer.Option("--list", help="Only list the layers and their shapes.")] = False,
    reduce: options.Reduce = "flatten",
    project: options.Project = "none",
    store: Annotated[Path | None, options.path("Write to this zarr store; an interrupted run resumes there.")] = None,
    npz: Annotated[Path | None, options.path("Write to this .npz file.")] = None,
    checkpoint: Annotated[str, typer.Option(help="Name of these weights in the store.")] = "trained",
    split: Annotated[
        str | None, typer.Option(help="Part of the data: train or test; default the data's main inputs.")
    ] = None,
    readout: options.Readout = None,
    device: options.Device = None,
    seed: options.Seed = 0,
    n: options.Samples = None,
    batch_size: options.BatchSize = 256,
    force: options.Force = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write the features of layers (a row for each sample) to --npz FILE or --store DIR; or --list the layers."""
    with command(debug, f"Complete blocks are saved in {store}: run the same command to resume." if store else ""):
        from geomfeat.cli._networks import model_named
        from geomfeat.cli._request import readout_of, samples
        from geomfeat.data._load_data import load_data
        from geomfeat.models.sources._load_model import source_of
        from geomfeat.models.sources.token_limits import require_tokens_fit

        spec = model_named(named, model)
        if not list_layers:
            _require_destination(store, npz, force)
        width = options.projection(project)
        source = source_of(spec, weights=trained, adapter=adapter)
        net, whole = source.load(), load_data(data, split=split, model=source.tokenizer)
        part = samples(whole, n, seed)
        require_tokens_fit(net, part.inputs)
        read = readout_of(readout)
        if list_layers:
            typer.echo(listed(net, part.inputs, device, read))
            return
        from geomfeat.activations import ActivationStore, ExtractOptions, extract as run, save_npz

        into = None if store is None else ActivationStore(store, checkpoint)
        known = None if part.labels is None else part.known
        reps = run(
            net, part.inputs, known, layers=layers or "weights", reduce=reduce, project=width, groups=part.groups,
            store=into, device=device, seed=seed, progress=not quiet,
            options=ExtractOptions(batch_size=batch_size, readout=read),
        )  # fmt: skip
        if npz is not None:
            reps = _with_inputs(reps, part.inputs)
        for name, rep in reps.items():
            typer.echo(f"{name}: {rep.n} x {rep.d}")
        typer.echo(f"written: {save_npz(npz, reps) if npz is not None else into}")


def _require_destination(store: Path | None, npz: Path | None, force: bool) -> None:
    """BadInput for no destination, or two; OutputExists for a file that may not be replaced."""
    from geomfeat.errors import BadInput, OutputExists
    from geomfeat.storage.owned_files import require_own

    if (store is None) == (npz is None):
        raise BadInput("no destination (or two): give either --npz FILE or --store DIR, or --list to list the layers")
    require_own([npz] if npz is not None else [])
    if npz is not None and npz.exists() and not force:
        raise OutputExists(f"--npz {str(npz)!r} exists: name another file, or --force to replace it")


def _with_inputs(reps: Mapping[str, Representation], inputs: Any) -> dict[str, Representation]:
    """The features with a checksum of their inputs, by which a comparison checks that samples are the same."""
    from geomfeat.activations.stored_representations import fingerprint

    seen = fingerprint(inputs)
    return {name: rep.with_(meta={**rep.meta, "inputs": seen}) for name, rep in reps.items()}


def listed(model: nn.Module, inputs: Any, device: str | None, readout: Readout | None = None) -> str:
    """The layers of a model in module order: name, class, shape of one sample; hidden ones are marked."""
    from geomfeat.activations import extract as run, hidden_weight_layers, module_name
    from geomfeat.activations.layer_selection import modules_by_name
    from geomfeat.models.nested_inputs import n_samples, take

    pair = take(inputs, slice(0, min(2, n_samples(inputs))))
    reps = run(model, pair, layers="*", device=device, progress=False)
    hidden = set(hidden_weight_layers(model, pair, device=device, readout=readout))
    modules = modules_by_name(model)
    rows = [("layer", "class", "shape of a sample", "features", "")]
    for name, rep in reps.items():
        shape = " x ".join(str(size) for size in rep.meta.get("shape", (rep.d,)))
        kind = type(modules[module_name(name)]).__name__
        rows.append((name, kind, shape, str(rep.d), "hidden, with weights" if name in hidden else ""))
    silent = [name for name in modules if name not in {module_name(key) for key in reps}]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    if silent:
        lines.append(f"not called, or output without a row for each sample: {', '.join(silent)}")
    return "\n".join(lines)
