"""The layers that a location is measured on, and what to say of those that cannot be."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from torch import nn

from geomfeat.activations import fired_layers, hidden_weight_layers, module_name, select_layers
from geomfeat.activations.select import Patterns, as_list, modules_by_name
from geomfeat.activations.sites import did_not_fire
from geomfeat.errors import BadInput, LayerDidNotFire
from geomfeat.models.functional import Readout, unwrapped

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LocatedLayers:
    """names: in order. named: those asked for by their own name, which must be measurable; others are left out."""

    names: tuple[str, ...]
    named: frozenset[str]

    def must(self, key: str) -> bool:
        """Whether a layer (or a tensor of it, "rnn[0]") was asked for by name."""
        return key in self.named or module_name(key) in self.named


def located_layers(
    model: nn.Module, inputs: Any, layers: Patterns, *, readout: Readout | None = None, device: Any = None
) -> LocatedLayers:
    """The hidden layers that `layers` stands for.

    "*" is every hidden layer with a weight matrix. A layer asked for by its own name must be called; what a kind, a
    glob, an expression or a predicate matches beyond that is left out, with a line in the log.

    Raises LayerNotFound for a pattern that matches nothing, LayerDidNotFire, or BadInput where no layer is left.
    """
    if layers in ("*", ["*"], ("*",)):
        names = hidden_weight_layers(model, inputs, readout=readout, device=device)
        if not names:
            raise BadInput(no_hidden_layer(model))
        return LocatedLayers(tuple(names), frozenset())
    patterns = as_list(layers)
    if not patterns:
        raise BadInput("layers is empty: name some, or '*' for every hidden layer with weights")
    chosen = select_layers(model, patterns)
    modules = {"", *modules_by_name(model)}
    named = {p for p in patterns if isinstance(p, str) and p != "*" and module_name(p) in modules}
    fired = {"", *fired_layers(model, inputs, device=device)}
    silent = [name for name in chosen if module_name(name) not in fired]
    for name in silent:
        if name in named:
            raise LayerDidNotFire(did_not_fire(name))
        _log.info("layer %r is not called in a forward pass: left out", name)
    names = [name for name in chosen if name not in silent]
    if not names:
        raise LayerDidNotFire(f"none of the layers {layers!r} is called in a forward pass: name others")
    return LocatedLayers(tuple(names), frozenset(named))


def no_hidden_layer(model: nn.Module) -> str:
    """Why a network has no hidden layers to look at, and what to do."""
    model = unwrapped(model)
    own = [name for name, _ in model.named_parameters(recurse=False)]
    if own and not type(model).__module__.startswith("torch.nn."):
        return (
            f"the weights ({', '.join(own[:5])}) are bare nn.Parameters of the model itself, and no submodule is "
            "called on its hidden features, so these cannot be seen: call one on them in forward, such as "
            "self.hidden = nn.Identity(), and name it in layers= if need be"
        )
    return "the model has no hidden layer with weights, so it has no features that could move"
