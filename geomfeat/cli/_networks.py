"""The networks that a command names: trained, initial and in between, and how fresh ones are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.sources._load_model import source_of
from geomfeat.models.sources.base import Source
from geomfeat.models.sources.saved_folders import PREFIX, adapter_weights, config_folder, is_adapter, path_of
from geomfeat.models.weights.checkpoints import weights_sha256

PRETRAINED = "pretrained"


@dataclass(frozen=True)
class Networks:
    """One network at its moments. folder: what says how it takes its inputs, for `load_data(model=)`."""

    trained: nn.Module
    initial: nn.Module | None
    checkpoints: dict[int, nn.Module]
    factory: Callable[[], nn.Module]
    folder: Path | None


def model_named(argument: str | None, option: str | None, trained: Any = None) -> str:
    """The SPEC of the model, given as an argument, as --model, or as --trained hf:FOLDER; BadInput for none, or two.

    >>> model_named(None, None, Path("hf:runs/bert"))
    'hf:runs/bert'
    """
    if argument is not None and option is not None:
        raise BadInput(f"MODEL {argument!r} and --model {option!r} both name the model: give one")
    given = argument if argument is not None else option
    if given is None and str(trained).startswith(PREFIX):
        given = str(trained)
    if given is None:
        raise BadInput(
            "--model is missing: give hf:FOLDER, path/file.py:factory, pkg.module:factory, timm:NAME or "
            "torchvision:NAME"
        )
    return given


def source_in(request: Mapping[str, Any]) -> Source:
    """Where the trained network of a request comes from; BadInput where its weights are not given."""
    trained = None if str(request["trained"]) == request["model"] else request["trained"]
    source = source_of(request["model"], weights=trained, adapter=request.get("adapter"))
    if not source.has_weights:
        raise BadInput(
            f"--trained is missing: {request['model']} is built with fresh weights; give the file of the trained ones"
        )
    return source


def networks_of(request: Mapping[str, Any], steps: Mapping[int, Path]) -> Networks:
    """The networks of a request. `--initial pretrained` is the model that was fine-tuned, see `Source.pretrained`."""
    source, initial = source_in(request), request["initial"]
    if str(initial) == PRETRAINED:
        source = source.in_pretrained_weights()
        start = source.pretrained()
    else:
        start = None if initial is None else source.start(path_of(initial, "initial"))
    between = {step: source.at(path) for step, path in steps.items()}
    return Networks(source.load(), start, between, source.fresh, source.tokenizer)


def initial_sum(request: Mapping[str, Any]) -> Any:
    """What decides the initial weights, by content; None for fresh ones."""
    if str(request["initial"]) == PRETRAINED:
        files = source_in(request).pretrained_files()
        return [PRETRAINED, *(weights_sha256(file) for file in files)]
    return None if request["initial"] is None else weights_sum(request["initial"], "--initial")


def weights_sum(name: Any, option: str) -> str:
    """SHA-256 of weights: a file, the files of a folder, or an adapter; BadInput that names the option if missing."""
    path = path_of(name, option)
    if not path.exists():
        raise BadInput(f"{option} {str(path)!r}: no such file")
    try:
        if is_adapter(path):
            return weights_sha256(adapter_weights(path))
        return weights_sha256(config_folder(path) if str(name).startswith(PREFIX) else path)
    except BadInput as cause:
        raise BadInput(f"{option}: {cause}") from cause
