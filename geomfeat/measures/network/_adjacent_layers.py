"""Linear layers of a model that follow one another."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from geomfeat.measures.network.weight_movement import own_weights
from geomfeat.models.functional import unwrapped

# Modules that pass their input on as it is, when evaluated.
_PASSING = (nn.Identity, nn.Dropout, nn.Flatten)


@dataclass(frozen=True, eq=False)
class AdjacentLayers:
    """first (w, i) and second (o, w): the weights; upper: the second layer's name; between: modules on the way."""

    first: Tensor
    second: Tensor
    upper: str
    between: tuple[str, ...]

    @property
    def description(self) -> str:
        """The second layer, and the modules between the two layers, if any."""
        through = f", through {', '.join(self.between)}: a description of the weights only" if self.between else ""
        return f"with {self.upper}{through}"


def adjacent_linear_layers(model: nn.Module) -> dict[str, AdjacentLayers]:
    """First layer's name -> the pair, for torch.nn.Linear one after the other among the modules with sizes that fit.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> {name: pair.description for name, pair in adjacent_linear_layers(net).items()}
    {'0': 'with 2, through ReLU: a description of the weights only'}
    """
    weights = own_weights(model)
    out: dict[str, AdjacentLayers] = {}
    before, between = "", []
    for name, module in unwrapped(model).named_modules():
        if isinstance(module, nn.Linear):
            if before and weights[before]["weight"].shape[0] == weights[name]["weight"].shape[1]:
                out[before] = AdjacentLayers(weights[before]["weight"], weights[name]["weight"], name, tuple(between))
            before, between = name, []
        elif weights.get(name):
            before = ""  # another layer with weights stands between
        elif not list(module.children()) and not isinstance(module, _PASSING):
            between.append(type(module).__name__)
    return out
