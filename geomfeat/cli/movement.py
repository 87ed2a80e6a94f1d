"""`geomfeat movement`: how far a network moved in its training, without derivatives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomfeat.cli import options
from geomfeat.cli._app import app, command
from geomfeat.cli._output_folder import require_file

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

BATCH = 8  # samples: large networks are what the command is for


@app.command()
def movement(
    data: options.Data,
    named: options.Named = None,
    model: options.Model = None,
    trained: options.Trained = None,
    adapter: options.Adapter = None,
    initial: Annotated[
        Path | None,
        options.path("Weights that training began from: a file, hf:FOLDER, or 'pretrained', see geomfeat analyze."),
    ] = None,
    layers: Annotated[
        list[str] | None, typer.Option(help="Layers, as in geomfeat analyze. Default: the blocks, or else them.")
    ] = None,
    reduce: Annotated[
        str | None,
        typer.Option(help="How a layer's output becomes a vector; default the mean over tokens, else flatten."),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Hold one block's weights in memory at a time; both ends are hf:FOLDER.")
    ] = False,
    out: Annotated[Path | None, options.path("Write the table to this .parquet file too.")] = None,
    device: options.Device = None,
    seed: options.Seed = 0,
    n: options.Samples = None,
    batch_size: Annotated[int, typer.Option(help="Samples per forward pass.", min=1)] = BATCH,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure how far features and weights moved, by two forward passes: for networks too large to locate."""
    with command(debug):
        from geomfeat.cli._request import samples
        from geomfeat.data._load_data import load_data
        from geomfeat.location.movement_only import movement as run

        require_file(out, ".parquet")
        after, before, folder = _ends(named, model, trained, adapter, initial)
        part = samples(load_data(data, model=folder), n, seed)
        found = run(
            after, part.inputs, None if part.labels is None else part.known, initial=before, layers=layers,
            reduce=reduce, batch_size=batch_size, stream=stream, seed=seed, device=device, progress=not quiet,
        )  # fmt: skip
        table = found.to_frame()
        if out is not None:
            _write(out, table)
        typer.echo(str(found).partition("\n")[0])
        typer.echo(table.round(3).to_string(index=False, na_rep=""))
        for flag in found.flags:
            typer.echo(f"note: {flag}")


def _ends(
    named: str | None, model: str | None, trained: Path | None, adapter: Path | None, initial: Path | None
) -> tuple[nn.Module | str, nn.Module | str, Path | None]:
    """The network after and before, by name where both are whole folders, and what says how it takes its inputs."""
    from geomfeat.cli._networks import model_named, networks_of
    from geomfeat.errors import BadInput
    from geomfeat.models.sources._load_model import source_of
    from geomfeat.models.sources.saved_folders import PREFIX, is_adapter, path_of

    spec = model_named(named, model, trained)
    if initial is None:
        raise BadInput("--initial is missing: give the weights that training began from, to measure the movement since")
    other = None if str(trained) == spec else trained
    folders = [path_of(name) for name in (spec, initial) if str(name).startswith(PREFIX)]
    if len(folders) == 2 and other is None and adapter is None and not any(map(is_adapter, folders)):
        return spec, str(initial), source_of(spec).tokenizer
    request = {"model": spec, "trained": trained, "adapter": adapter, "initial": initial}
    found = networks_of(request, {})
    assert found.initial is not None
    return found.trained, found.initial, found.folder


def _write(path: Path, table: pd.DataFrame) -> None:
    from geomfeat.storage.atomic import write_parquet
    from geomfeat.storage.owned_files import make_folder, replace_file

    make_folder(path.parent)
    replace_file(path, lambda draft: write_parquet(draft, table))
