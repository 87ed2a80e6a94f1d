"""A model by its SPEC, as the command line and `load_model` name it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.sources.adapters import Adapted, base_of
from geomfeat.models.sources.base import Factory, Source
from geomfeat.models.sources.hugging_face import HuggingFace
from geomfeat.models.sources.image_libraries import LIBRARIES, library_factory
from geomfeat.models.sources.saved_folders import CONFIG, MODULES, PREFIX, is_adapter, path_of
from geomfeat.models.weights.checkpoints import load_factory


def load_model(
    spec: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    adapter: str | os.PathLike[str] | None = None,
) -> nn.Module:
    """The network that a SPEC names, with its trained weights, in evaluation mode; offline and without pickle.

    Args:
        spec: "hf:FOLDER", what `save_pretrained` or the Trainer wrote, with the head that its config names; also a
            folder of sentence-transformers (its transformer), or one of peft (on the base that it names).
            "timm:NAME", "torchvision:NAME": the architecture, whose weights must be given: nothing is downloaded.
            "path/file.py:factory", "pkg.module:factory": what this function returns.
        weights: a file or folder of weights (see `load_weights`) in place of those that come with the model.
        adapter: a folder of peft, on top of the model; it stays unmerged (`model.merge_and_unload()` merges it).

    Raises BadInput for what is missing (a folder, a shard, a base), half-written, pickled, or NaN, by layer;
    CheckpointMismatch, with the first names and shapes, for weights of another config.

    >>> type(load_model("geomfeat.models.mlp:mlp")).__name__
    'Sequential'
    """
    return source_of(spec, weights=weights, adapter=adapter).load().eval()


def source_of(spec: Any, *, weights: Any = None, adapter: Any = None) -> Source:
    """Where the model of a SPEC comes from. `weights` may also be the folder of an adapter; see `load_model`.

    Raises BadInput for a SPEC of no known form, and two adapters.
    """
    name = os.fspath(spec) if isinstance(spec, os.PathLike) else spec
    if not isinstance(name, str):
        raise BadInput(f"model is a {type(spec).__name__}: give a SPEC, such as 'hf:FOLDER' or 'FILE.py:factory'")
    trained = None if weights is None else path_of(weights, "weights")
    on_top = None if adapter is None else path_of(adapter, "adapter")
    if trained is not None and is_adapter(trained):
        if on_top is not None:
            raise BadInput(f"weights {str(trained)!r} and adapter {str(on_top)!r} are both adapters: give one")
        trained, on_top = None, trained
    found = _of_folder(path_of(name), trained) if name.startswith(PREFIX) else Factory(name, _factory(name), trained)
    if on_top is None:
        return found
    if isinstance(found, Adapted):
        raise BadInput(f"{name!r} is an adapter, and {str(on_top)!r} is another: name the base, hf:BASE")
    return Adapted(found, on_top)


def _of_folder(path: Path, weights: Path | None) -> Source:
    """The model of a folder, or the adapter in it on the base that it names."""
    if not is_adapter(path):
        return HuggingFace(path, weights)
    return Adapted(HuggingFace(base_of(path), weights), path)


def folder_of_inputs(model: Any) -> Path:
    """The folder that says how a model of `hf:FOLDER` takes its inputs: its tokenizer, and how images are scaled."""
    path = path_of(model)
    described = is_adapter(path) or any((path / name).is_file() for name in (CONFIG, MODULES))
    found = _of_folder(path, None).tokenizer if described else None
    return path if found is None else found


def _factory(name: str) -> Callable[[], nn.Module]:
    library, separator, architecture = name.partition(":")
    if separator and library in LIBRARIES:
        return library_factory(library, architecture)
    return load_factory(name)
