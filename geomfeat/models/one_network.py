"""Whether networks are one at several moments: by the weights they compute with, not what these are made of.

A network that was trained under weight norm is often saved after `remove_parametrizations`, so its start holds other
tensors than its end, and the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from geomfeat.errors import CheckpointMismatch
from geomfeat.models.effective_weights import (
    effective_weights,
    inside_parametrization,
    is_reparametrised,
    plain_network,
)
from geomfeat.models.modules import unwrapped
from geomfeat.models.trained_parameters import plain_name

SHOWN = 8  # names listed in a refusal


def weight_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight that a network computes with, whatever it is made of.

    >>> sorted(weight_shapes(nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))).items())
    [('bias', (1,)), ('weight', (1, 2))]
    """
    return {
        plain_name(f"{path}.{name}" if path else name): tuple(weight.shape)
        for path, module in unwrapped(model).named_modules() if not inside_parametrization(path)
        for name, weight in effective_weights(module).items()
    }  # fmt: skip


def require_one_network(model: nn.Module, other: nn.Module, words: str) -> None:
    """CheckpointMismatch where the weights of `model` differ from those of `other` in names or shapes.

    words: what is refused, such as "the weights of 'init' are not of the trained model's architecture".
    """
    own, wanted = weight_shapes(model), weight_shapes(other)
    if own == wanted:
        return
    sizes = [f"{k}: {own[k]} and {wanted[k]}" for k in own if k in wanted and own[k] != wanted[k]]
    parts = {
        "missing": sorted(wanted.keys() - own.keys()), "unexpected": sorted(own.keys() - wanted.keys()),
        "shapes differ": sizes,
    }  # fmt: skip
    listed = [f"{what} {', '.join(names[:SHOWN])}" for what, names in parts.items() if names]
    raise CheckpointMismatch(f"{words} ({'; '.join(listed)}): give snapshots of one network")


def in_one_form(models: Sequence[nn.Module]) -> list[nn.Module]:
    """The models, of the same parameters: with plain weights if what they are made of differs between the models.

    Models that also differ otherwise are returned unchanged.

    >>> net = nn.Sequential(nn.Linear(2, 1))
    >>> normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 1)))
    >>> [len(dict(one.named_parameters())) for one in in_one_form([net, normed])]
    [2, 2]
    """
    names = [_names(model) for model in models]
    if all(one == names[0] for one in names) or not any(is_reparametrised(m) for one in models for m in one.modules()):
        return list(models)
    plain = [plain_network(model) for model in models]
    names = [_names(model) for model in plain]
    return plain if all(one == names[0] for one in names) else list(models)


def _names(model: nn.Module) -> set[str]:
    return {plain_name(name) for name, _ in unwrapped(model).named_parameters()}
