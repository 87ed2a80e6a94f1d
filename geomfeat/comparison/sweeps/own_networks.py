"""A network of the user's own in a sweep: what identifies it, how it is built, and the columns of its keywords."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from geomfeat.comparison.sweeps.config_values import Plain, Strict
from geomfeat.data.content_hash import contents
from geomfeat.errors import BadInput, near
from geomfeat.models.parameterization import scaled
from geomfeat.models.reinitialize import random_state
from geomfeat.models.weights.checkpoints import called, load_object
from geomfeat.numerics import stream
from geomfeat.study.table import IDENTITY, RESULT

OWN = "own"  # the parameterization of a network of the user's own: theory of a parameterization says nothing of it
# Columns of a sweep's table; a keyword of one of these names has its column under "knob.<name>".
TAKEN = {
    *IDENTITY, *RESULT, "data", "architecture", "parameterization", "sigma", "eta", "gamma", "alpha", "r", "gamma0",
    "optimizer", "batch_size", "weight_decay", "momentum", "centered", "outcome",
}  # fmt: skip
SIZES = ("width", "depth")  # columns of every sweep, which hold whole numbers


class OwnNetwork(Strict):
    """Which network of the user's a training is of.

    Attributes:
        model: "file.py:function", with the whole path, or "pkg.module:function". sums: SHA-256 of that file.
        knobs: the keywords that the function is called with.
    """

    model: str
    sums: tuple[str, ...]
    knobs: dict[str, Plain]

    @property
    def name(self) -> str:
        """The file and the function, without the folder.

        >>> OwnNetwork(model="/home/me/net.py:make", sums=(), knobs={}).name
        'net.py:make'
        """
        source, _, function = self.model.rpartition(":")
        return f"{Path(source).name if source.endswith('.py') else source}:{function}"

    def size(self, name: str) -> int | None:
        """The keyword `name` where it is a whole number: the width, or the depth, of the network."""
        value = self.knobs.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def columns(self) -> dict[str, Any]:
        """The keywords as columns of the table, but for those that are columns of every sweep already."""
        sizes = {name for name in SIZES if self.size(name) is not None}
        return {column_of(name): value for name, value in self.knobs.items() if name not in sizes}


def column_of(name: str) -> str:
    """The column of a keyword: its name, unless that is a column of something else.

    >>> column_of("heads"), column_of("gamma")
    ('heads', 'knob.gamma')
    """
    return f"knob.{name}" if name in TAKEN or name in SIZES else name


def own_network(own: OwnNetwork, seed: int, sigma: float) -> nn.Module:
    """The network at its start: the same weights for the same seed in every process, times sigma outside norm layers.

    Raises BadInput for a file or function that is missing, or no longer that of the plan; a keyword that the function
    does not take; and where it fails, or returns no module.
    """
    where = f"model={own.model!r}"
    if tuple(contents(own.model)) != own.sums:
        raise BadInput(f"{where} is not what the sweep was planned with: the file has changed, or is another one here")
    with random_state(stream(seed, "initial weights").initial_seed()):  # the file itself may draw numbers
        factory = load_object(own.model, "model")
        if not callable(factory) or isinstance(factory, nn.Module):
            raise BadInput(f"{where} is a {type(factory).__name__}, not a function that returns a network")
        _check_keywords(factory, own.knobs, where)
        made = called(partial(factory, **own.knobs), own.model, "model")
    if not isinstance(made, nn.Module):
        raise BadInput(f"{where} returned {type(made).__name__}, not a torch.nn.Module")
    if not any(p.requires_grad for p in made.parameters()):
        raise BadInput(f"{where} returned a {type(made).__name__} without parameters to train")
    return scaled(made, sigma)


def _check_keywords(factory: Callable[..., Any], knobs: Mapping[str, Any], where: str) -> None:
    try:
        signature = inspect.signature(factory)
    except ValueError:  # some functions written in C have no signature: the call decides
        return
    takes = [p for p in signature.parameters.values() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    anything = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    known = [p.name for p in takes]
    for name in knobs:
        if name not in known and not anything:
            close = f"near: {near(name, known)}" if known else "it takes none"
            raise BadInput(f"knobs.{name}: {where} takes no such keyword; {close}")
    missing = [p.name for p in takes if p.default is p.empty and p.name not in knobs]
    if missing:
        raise BadInput(f"knobs: {where} needs {', '.join(missing)}: give a value, a list of values, or a range")


def whole_path(model: str) -> str:
    """The model with the whole path of its file, so that every process finds the same one."""
    source, _, name = model.rpartition(":")
    return f"{Path(source).expanduser().resolve()}:{name}" if source.endswith(".py") else model
