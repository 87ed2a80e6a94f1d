"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def path_of(text: str | Path) -> Path:
    """The path that an argument (or a default) names. An empty one is refused: it would mean the current folder.

    >>> path_of("runs/mine").name
    'mine'
    """
    if not str(text).strip():
        raise typer.BadParameter("it is empty: name a file or a folder")
    return Path(text)


def path(help: str, **more: Any) -> Any:
    """An option that takes a path."""
    return typer.Option(help=help, parser=path_of, metavar="PATH", **more)


def seed_of(seed: int) -> int:
    """A seed that fits the int64 column of a table."""
    if not -(2**63) <= seed < 2**63:
        raise typer.BadParameter(f"{seed} is too large: use a whole number from -2**63 to 2**63 - 1")
    return seed


def device_of(device: str | None) -> str | None:
    """The device that --device names; "auto" becomes the one that is taken, and is printed."""
    if device != "auto":
        return device
    from geomfeat.numerics import resolve_device

    found = str(resolve_device(device))
    typer.echo(f"device: {found}", err=True)
    return found


MODELS = (
    "hf:FOLDER, a folder of save_pretrained with its weights (or of sentence-transformers, or an adapter of peft); "
    "timm:NAME, torchvision:NAME; or a function that builds it, without arguments: pkg.module:name or "
    "path/file.py:name. Nothing is downloaded."
)
Named = Annotated[str | None, typer.Argument(metavar="MODEL", help=f"The model, in place of --model: {MODELS}")]
Model = Annotated[str | None, typer.Option(help="The model, as MODEL.")]
Trained = Annotated[
    Path | None,
    path(
        "Trained weights: .safetensors, .pt, .pth, .ckpt, .bin (read without pickle), or a save_pretrained folder. "
        "Default those of hf:FOLDER."
    ),
]
Adapter = Annotated[Path | None, path("Folder of an adapter that peft saved, on top of the model; it stays unmerged.")]
Initial = Annotated[
    Path | None,
    path(
        "Initial weights, if known; default fresh ones drawn from the model (with --adapter: a fresh adapter on its "
        "base). 'pretrained', for a fine-tuned model: the base of its adapter, which is then merged into the base's "
        "weights, or the folder that config.json names; else name it, hf:FOLDER."
    ),
]
Checkpoints = Annotated[
    Path | None,
    path("Folder of weights during training, step number in the file name; or of checkpoint-N folders."),
]
_DATA = typer.Option(
    help="Inputs and labels: digits, fashion-mnist, npz:FILE (x, y), cifar10:DIR or cifar10:FILE.npz; "
    "text:FILE[:text=COLUMN,label=COLUMN,max_length=N,tokenizer=FOLDER], of .txt, .jsonl or .parquet; "
    "images:FOLDER[:size=N,scaling=imagenet], a folder for each class; hf-dataset:FOLDER[:...], saved to disk; "
    "task:NAME[:n=N,...], trials of a task for recurrent networks; or pkg.module:factory. Texts and "
    "images are read as hf:FOLDER says."
)
Data = Annotated[str, _DATA]
OptionalData = Annotated[str | None, _DATA]
Recording = Annotated[
    str | None,
    typer.Option(
        metavar="FILE[:FIELD=NAME,...]",
        help="A recording, without any model: .npz, .npy, .mat, .csv, .parquet, .nc, .nwb, .h5, .nii. Fields say where "
        "its parts are, as x=rates,condition=stim,run=run,area=region; missing=drop trials; of .nwb event=, "
        "window=0:0.5, bin=0.05; of .nii mask=FILE,labels=TABLE. Default: the usual names.",
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(help="Of a recording: what errors are over and what is held out: run, session, subject, or none."),
]
OverTime = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MEASURE",
        help="Of a recording with a time axis: what is measured in every bin, repeatable; trajectories, or none. "
        "Default: probe accuracy, dimension, CKA between areas, and trajectories, in at most 50 bins.",
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        help="Layers, repeatable: a name, a glob ('layer3.*'), re:..., type:Conv2d, leaf, block. "
        "Default: hidden layers with weights."
    ),
]
Measures = Annotated[
    list[str] | None,
    typer.Option(help="Measures, repeatable; default every measure that the inputs allow. Names: geomfeat measures."),
]
Optimizer = Annotated[
    Path | None,
    path(
        "What trained the network, for the location: an optimizer's state_dict() saved by torch.save, a checkpoint "
        "that holds one (read without pickle), .json of {pattern: rate}, or a sweep's optimizer.safetensors. Default: "
        "plain gradient descent."
    ),
]
Ladder = Annotated[
    str | None,
    typer.Option(
        metavar="N|FILE",
        help="Train N reference networks at known gamma and interpolate this model's gamma; or a saved ladder.",
    ),
]
UmapLayer = Annotated[
    str | None, typer.Option(help="Layer for the UMAP plot; default the last; 'none' for no plot.")
]  # fmt: skip
Compared = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="A network, [NAME=]hf:FOLDER[@ADAPTER] or [NAME=]pkg.module:factory[@WEIGHTS]; features from "
        "geomfeat extract, [NAME=]features.npz; a recording of trials, [NAME=]recording:FILE[:FIELD=NAME,...], as "
        "in geomfeat analyze --recording; or dissimilarity matrices, [NAME=]FILE.npz:KEY,...",
    ),
]
Trials = Annotated[
    str,
    typer.Option(
        help="With recordings, rows are: means (of conditions), matched (as many trials of each condition, drawn at "
        "random) or same (trials correspond one by one)."
    ),
]
Probes = Annotated[
    int | None, typer.Option(help="Samples for the location; default up to 256, fewer with many outputs.")
]
Projections = Annotated[
    int | None,
    typer.Option(help="Leading directions of the outputs for the location; default all of them."),
]
Budget = Annotated[
    str | None,
    typer.Option(metavar="SECONDS[,GB]", help="Time and memory for the location: it takes the most samples that fit."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what the location will take, by a few samples, and end.")]
Readout = Annotated[
    str | None,
    typer.Option(
        help="Outputs of a model of tokens: last, mean, cls, token:i, masked (all but padding), or tokens:k (k of each "
        "sequence as samples). Or a function (output, inputs) -> tensor (n, C): pkg.module:name or path/file.py:name. "
        "Default: the last token of a language model; logits less their mean."
    ),
]
Reduce = Annotated[
    str,
    typer.Option(
        help="How feature maps and sequences become vectors: flatten, mean, max, adaptive(k), cls, last, "
        "token_mean, ..."
    ),
]
Project = Annotated[
    str,
    typer.Option(
        help="Sparse random projection: auto (layers of more than 4096 features, to 2048), none, or a number of "
        "features."
    ),
]
Samples = Annotated[
    int | None,
    typer.Option("--n", help="Number of samples, balanced over the classes; default up to 500; 0 uses all.", min=0),
]
Seed = Annotated[int, typer.Option(help="Random seed: the same seed gives the same numbers.", callback=seed_of)]
Device = Annotated[
    str | None,
    typer.Option(
        help="Device to compute on: cpu, cuda, cuda:1, ..., or auto: cuda if it is there, else cpu; default cpu.",
        callback=device_of,
    ),
]
DeviceOfRuns = Annotated[
    str | None,
    typer.Option(help="Device of every run: cpu, cuda, cuda:1, ..., or auto; default cpu. dask: one process per GPU."),
]
BatchSize = Annotated[int, typer.Option(help="Samples per forward pass; no effect on the numbers.", min=1)]
Force = Annotated[bool, typer.Option("--force", help="Replace existing results, even of other settings.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress bars.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the full log.")]


def projection(text: str) -> str | int | None:
    """The value of --project.

    >>> projection("none"), projection("512"), projection("auto")
    (None, 512, 'auto')
    """
    from geomfeat.errors import BadInput

    if text == "none":
        return None
    if text == "auto":
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise BadInput(f"--project {text!r}: use auto, none, or a number of features of at least 1")
