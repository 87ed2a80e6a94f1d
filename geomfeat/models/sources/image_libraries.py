"""Architectures of timm and torchvision by name, without weights: nothing is downloaded."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from geomfeat.errors import BadInput, near
from geomfeat.models.weights.checkpoints import called

LIBRARIES = ("timm", "torchvision")


def library_factory(library: str, name: str) -> Callable[[], nn.Module]:
    """A function that builds the architecture `name` with fresh weights.

    Raises BadInput where the library cannot be imported, and, with near names, for an unknown name.
    """
    spec = f"{library}:{name}"
    if not name:
        raise BadInput(f"model={spec!r} names no architecture: give {library}:NAME, e.g. {library}:resnet18")
    package = _imported(library, spec)
    known = list((package if library == "timm" else package.models).list_models())
    if name not in known:
        raise BadInput(f"model={spec!r}: {library} has no {name!r}; near: {near(name, known)}")
    if library == "timm":
        return lambda: called(lambda: package.create_model(name, pretrained=False), spec, "model")
    build = package.models.get_model_builder(name)
    # Some networks would download the weights of their backbone, by an argument of its own.
    none = {key: None for key in ("weights", "weights_backbone") if key in inspect.signature(build).parameters}
    return lambda: called(lambda: build(**none), spec, "model")


def _imported(library: str, spec: str) -> Any:
    try:
        return importlib.import_module(library)
    except Exception as cause:
        # A torchvision of another torch fails in other ways than by its absence.
        raise BadInput(
            f"model={spec!r} needs the package {library}, which cannot be imported ({type(cause).__name__}: {cause}): "
            f"pip install {library}, in the release for this torch, or build the network in a file of yours and give "
            "FILE.py:factory"
        ) from cause
