"""Learning rates by layer: factors on the one learning rate, a diagonal metric on the weights."""

import fnmatch
import math
from collections.abc import Mapping

from torch import nn

from geomfeat.errors import BadInput, near
from geomfeat.models.functional import uses_of


def rate_factors(model: nn.Module, lr_multipliers: Mapping[str, float] | None) -> dict[str, float]:
    """The factor on the learning rate of every parameter, by its name in `named_parameters`; 0 freezes it.

    Args:
        lr_multipliers: pattern -> factor. A pattern is the name of a parameter or of a module (then for all parameters
            in it), or a glob of either. Where several match, the last one decides; a parameter that none matches has 1.

    Raises BadInput for a negative or infinite factor, or for a pattern that matches nothing.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> rate_factors(net, {"*": 0.5, "2": 0.0, "2.bias": 10.0})
    {'0.weight': 0.5, '0.bias': 0.5, '2.weight': 0.0, '2.bias': 10.0}
    """
    names: dict[str, list[str]] = {name: [] for name, _ in model.named_parameters()}
    for alias, name in uses_of(model):
        if name in names:
            names[name].append(alias)
    factors = dict.fromkeys(names, 1.0)
    for pattern, factor in (lr_multipliers or {}).items():
        if not (factor >= 0 and math.isfinite(factor)):
            raise BadInput(f"lr_multipliers[{pattern!r}]={factor} must be at least 0 (0 freezes) and finite")
        found = [name for name, aliases in names.items() if any(_matches(alias, pattern) for alias in aliases)]
        if not found:
            known = {part for name in names for part in (name, name.rpartition(".")[0]) if part}
            raise BadInput(f"lr_multipliers: no parameter or module matches {pattern!r}; near: {near(pattern, known)}")
        factors |= dict.fromkeys(found, float(factor))
    return factors


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")
