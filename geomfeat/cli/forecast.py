"""`geomfeat forecast`: where a training will be between lazy and rich, before it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomfeat.cli import options
from geomfeat.cli._app import app, command
from geomfeat.cli._output_folder import require_file

if TYPE_CHECKING:
    from torch import nn

    from geomfeat.forecasting import Forecast
    from geomfeat.location.advice import Advice

OPTIMIZERS = ("sgd", "adam", "adamw")


@app.command()
def forecast(
    data: options.Data,
    loss: Annotated[str, typer.Option(help="Training loss: mse or cross-entropy.")],
    named: options.Named = None,
    model: options.Model = None,
    initial: Annotated[
        Path | None,
        options.path("Weights that training begins from; default those of hf:FOLDER, else fresh ones drawn by --seed."),
    ] = None,
    target_loss: Annotated[
        float | None,
        typer.Option(help="Where training ends, as a share of the loss of outputs 0; default 0.1."),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help=f"{', '.join(OPTIMIZERS)}; default plain gradient descent of any rate.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Its learning rate.")] = None,
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = 0.0,
    steps: Annotated[int | None, typer.Option(help="Full-batch steps after which training ends at the latest.")] = None,
    advise: Annotated[
        str | None,
        typer.Option(help="Say what to change for another place: rich, lazy, or the R to reach."),
    ] = None,
    out: Annotated[Path | None, options.path("Write forecast and advice to this .json file, or .html page.")] = None,
    readout: options.Readout = None,
    device: options.Device = None,
    seed: options.Seed = 0,
    n: options.Samples = None,
    debug: options.Debug = False,
) -> None:
    """Foretell how rich a training will be, layer by layer, and which learning rates are stable."""
    with command(debug):
        from geomfeat.cli._networks import model_named
        from geomfeat.cli._request import readout_of, samples
        from geomfeat.data._load_data import load_data
        from geomfeat.forecasting import ForecastOptions, forecast as run
        from geomfeat.models.reinitialize import fresh
        from geomfeat.models.sources._load_model import source_of
        from geomfeat.models.sources.token_limits import require_tokens_fit

        require_file(out, ".json", ".html")
        source = source_of(model_named(named, model), weights=initial)
        net = source.load() if source.has_weights else fresh(source.load, seed, 0)
        part = samples(load_data(data, model=source.tokenizer), n, seed)
        require_tokens_fit(net, part.inputs)
        found = run(
            net, part.inputs, part.known, loss=loss, target_loss=target_loss, n_steps=steps, seed=seed,
            optimizer=_optimizer(optimizer, lr, momentum, net), readout=readout_of(readout),
            options=ForecastOptions(device=device),
        )  # fmt: skip
        advice = None if advise is None else found.advise(_target(advise))
        if out is not None:
            _write(out, found, advice)
        typer.echo(str(found))
        typer.echo(found.to_frame().round(3).to_string(index=False, na_rep=""))
        for flag in found.flags:
            typer.echo(f"note: {flag}")
        if advice is not None:
            typer.echo(f"\n{advice}\n\n{advice.code}")


def _optimizer(name: str | None, lr: float | None, momentum: float, net: nn.Module) -> Any:
    """The optimizer that the options name; BadInput for another one, or one without a rate."""
    import torch

    from geomfeat.errors import BadInput

    if name is None:
        if lr is not None or momentum:
            raise BadInput("--lr and --momentum belong to an optimizer: give --optimizer too")
        return None
    if name not in OPTIMIZERS:
        raise BadInput(f"--optimizer {name!r}: use {', '.join(OPTIMIZERS)}")
    if lr is None or not lr > 0:
        raise BadInput(f"--optimizer {name} needs a positive learning rate: give --lr")
    if momentum and name != "sgd":
        raise BadInput(f"--momentum {momentum:g} is of sgd, not of {name}: leave it out")
    free = [p for p in net.parameters() if p.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(free, lr=lr, momentum=momentum)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](free, lr=lr)


def _target(text: str) -> float | str:
    """A number where the text is one, else the word."""
    try:
        return float(text)
    except ValueError:
        return text


def _write(path: Path, found: Forecast, advice: Advice | None) -> None:
    from geomfeat.forecasting.result import ADVICE
    from geomfeat.storage.owned_files import json_text, make_folder, replace_file

    make_folder(path.parent)
    if path.suffix == ".html":
        found.to_html(path, advice=advice)
        return
    content = json.loads(found.to_json())
    if advice is not None:
        content[ADVICE] = json.loads(advice.to_json())
    replace_file(path, lambda draft: draft.write_text(json_text(content, indent=2), encoding="utf-8"))
