"""The layers that a network is measured on, and what to say of those that cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from geomfeat.activations._feature_sites import did_not_fire
from geomfeat.activations._layer_choice import choose_layers
from geomfeat.activations.hidden_layers import few, fired_on, hidden_weight_layers, home, placed
from geomfeat.activations.layer_selection import (
    Patterns,
    holder_of_bare_parameters,
    inside,
    module_name,
    modules_by_name,
    own_parameters,
)
from geomfeat.errors import BadInput, LayerDidNotFire
from geomfeat.models.functional import Readout, unwrapped
from geomfeat.models.nested_inputs import as_inputs, moved


@dataclass(frozen=True, eq=False)
class ChosenLayers:
    """Hidden layers of a network.

    Attributes:
        names: in forward order. named: those asked for by their own name, which must be measurable; others are left
            out where they are not.
    """

    names: tuple[str, ...]
    named: frozenset[str]

    @classmethod
    def by_name(cls, names: Sequence[str]) -> ChosenLayers:
        """Layers that were all asked for by name."""
        return cls(tuple(names), frozenset(names))

    def must(self, key: str) -> bool:
        """Whether a layer (or a tensor of it, "rnn[0]") was asked for by name."""
        return key in self.named or module_name(key) in self.named


def choose_hidden_layers(
    model: nn.Module, inputs: Any, layers: Patterns, *, readout: Readout | None = None, device: Any = None
) -> ChosenLayers:
    """The hidden layers that `layers` selects.

    "*" is every hidden layer with a weight matrix; other patterns are read as `extract` reads them. A layer asked for
    by its own name must be called; what a pattern matches beyond the layers that are is left out.

    Raises LayerNotFound for a pattern that matches nothing, LayerDidNotFire, or BadInput where no layer is hidden.
    """
    if layers in ("*", ["*"], ("*",)):
        names = hidden_weight_layers(model, inputs, readout=readout, device=device)
        if not names:
            raise BadInput(no_hidden_layer(model))
        return ChosenLayers(tuple(names), frozenset())
    layers = inside(model, layers)
    model, inputs = placed(model, device), as_inputs(inputs)
    probe = moved(few(inputs, 2), *home(model))
    names, named = choose_layers(model, probe, layers, readout)
    fired = {"", *fired_on(model, probe)}
    silent = [name for name in names if module_name(name) not in fired]
    if silent:
        raise LayerDidNotFire(did_not_fire(silent[0]))
    return ChosenLayers(tuple(names), frozenset(named))


def no_hidden_layer(model: nn.Module) -> str:
    """Why a network has no hidden layers to measure, and what to do."""
    model = unwrapped(model)
    holder = holder_of_bare_parameters(model)
    own = [] if holder is None else list(own_parameters(holder[1]))
    if holder is not None and not type(holder[1]).__module__.startswith("torch.nn."):
        return (
            f"the weights ({', '.join(own[:5])}) are bare nn.Parameters of the model itself, and no submodule is "
            "called on its hidden features, so these cannot be seen: call one on them in forward, such as "
            "self.hidden = nn.Identity(), and name it in layers= if need be"
        )
    tables = [n for n, m in modules_by_name(model).items() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    if tables:
        return (
            f"the only hidden weights are embedding tables ({', '.join(tables[:5])}), which '*' leaves out, since what "
            f"they give depends on the token alone: ask for them by name, layers={tables[:5]!r}"
        )
    return "the model has no hidden layer with weights, so it has no features that could move"
