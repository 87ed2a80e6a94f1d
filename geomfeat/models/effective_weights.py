"""The weights that a module computes with: where a weight is made of other tensors, what results, and how to set it.

Three ways to make a weight of other tensors are known: torch.nn.utils.parametrize (weight_norm, spectral_norm,
orthogonal and those of users), and the older torch.nn.utils.weight_norm and spectral_norm, which compute it in a hook
before every call. Their own tensors do not show how far a weight moved: the length of weight norm's direction acts on
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from geomfeat.models.copying import deep_copy
from geomfeat.models.modules import unwrapped

PowerIteration = parametrizations._SpectralNorm
_PARTS = {WeightNorm: ("_g", "_v"), SpectralNorm: ("_orig",)}
# Spectral norms are estimated by power iterations, one at each use in training mode; as many settle them.
SETTLING = 20


def inside_parametrization(name: str) -> bool:
    """Whether a module of this name only makes the weight of another one.

    >>> inside_parametrization("0.parametrizations.weight"), inside_parametrization("0")
    (True, False)
    """
    return ".parametrizations." in f".{name}." or f".{name}".endswith(".parametrizations")


def is_reparametrised(module: nn.Module) -> bool:
    """Whether a module has a weight that is made of other tensors."""
    return bool(_hooks(module)) or parametrize.is_parametrized(module)


def effective_weights(module: nn.Module) -> dict[str, Tensor]:
    """A module's own parameters by name, floating or complex; one that is made of others as the weight that results.

    >>> normed = nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))
    >>> sorted(effective_weights(normed))
    ['bias', 'weight']
    """
    own: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
    with torch.no_grad(), _evaluated(module):
        for name, hook in _hooks(module).items():
            for part in _PARTS[type(hook)]:
                own.pop(f"{name}{part}", None)
            own[name] = _computed(hook, module)
        for name, made in getattr(module, "parametrizations", {}).items():
            own[name] = made()
    return {k: w.detach() for k, w in own.items() if w.is_floating_point() or w.is_complex()}


def makers_of(module: nn.Module) -> dict[str, list[str]]:
    """Weight that is made of others -> names within the module of the parameters that it is made of.

    >>> makers_of(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 1)))
    {'weight': ['parametrizations.weight.original']}
    """
    by_hook = {name: [f"{name}{part}" for part in _PARTS[type(hook)]] for name, hook in _hooks(module).items()}
    return by_hook | {
        name: [f"parametrizations.{name}.{own}" for own, _ in made.named_parameters()]
        for name, made in getattr(module, "parametrizations", {}).items()
    }


def fixed_buffers(module: nn.Module, weight: str) -> dict[str, Tensor]:
    """The buffers that a weight is made of, less the vectors of a spectral norm's power iteration.

    >>> fixed_buffers(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 1)), "weight")
    {}
    """
    made = getattr(module, "parametrizations", {})
    parts = made[weight].named_modules() if weight in made else ()
    return {
        f"{path}.{name}": buffer
        for path, part in parts if not isinstance(part, PowerIteration)
        for name, buffer in part.named_buffers(recurse=False)
    }  # fmt: skip


def constant_diagonals(model: nn.Module) -> list[str]:
    """Names of the parameters whose diagonal is a constant: 1 and -1, the signs of Householder reflections.

    Orthogonal weights by reflections read them as whole numbers, so no gradient moves them, and by any other value the
    weight jumps.

    >>> square = nn.utils.parametrizations.orthogonal(nn.Linear(2, 2), orthogonal_map="householder")
    >>> constant_diagonals(square)
    ['parametrizations.weight.original']
    """
    reflected = (
        path
        for path, module in model.named_modules()
        if isinstance(module, parametrizations._Orthogonal)
        and module.orthogonal_map is parametrizations._OrthMaps.householder
    )
    return [f"{path.rpartition('.')[0]}.original" for path in reflected]


def power_iterations(model: nn.Module) -> dict[str, Tensor]:
    """Name in the model -> buffer of every vector by which a spectral norm estimates the norm of its weight."""
    return {name: buffer for name, buffer in unwrapped(model).named_buffers() if normed_by(model, name)}


def normed_by(model: nn.Module, name: str) -> list[str]:
    """The parameter that a vector of a power iteration belongs to, as a list; empty for another buffer."""
    path, _, own = name.rpartition(".")
    module = _holder(model, name)
    if isinstance(module, PowerIteration):
        return [f"{path.rpartition('.')[0]}.original"]
    hooks = [key for key, hook in _hooks(module).items() if isinstance(hook, SpectralNorm)]
    return [f"{path}.{key}_orig".lstrip(".") for key in hooks if own in (f"{key}_u", f"{key}_v")]


def _holder(model: nn.Module, name: str) -> nn.Module:
    return unwrapped(model).get_submodule(name.rpartition(".")[0])


def without_reparametrisation(module: nn.Module) -> nn.Module:
    """A copy with plain parameters in place of those that are made of others, of equal values.

    Only of the module itself; what is inside of it stays as it is.
    """
    plain = deep_copy(module)
    _make_plain(plain)
    return plain


def plain_network(model: nn.Module) -> nn.Module:
    """A copy of a whole network in which no weight is made of others; its outputs in evaluation are the same.

    >>> normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 1)))
    >>> [name for name, _ in plain_network(normed).named_parameters()]
    ['0.bias', '0.weight']
    """
    plain = deep_copy(unwrapped(model))
    for module in list(plain.modules()):
        _make_plain(module)
    return plain


def _make_plain(module: nn.Module) -> None:
    hooks, made = _hooks(module), getattr(module, "parametrizations", {})
    names = [*hooks, *made]
    values = {name: value.clone() for name, value in effective_weights(module).items() if name in names}
    for name, hook in hooks.items():
        (remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm)(module, name)
        delattr(module, name)
    if made:
        # Not remove_parametrizations: it strips the class, which a copy shares with its original.
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module._modules["parametrizations"]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))


def set_weights(module: nn.Module, values: dict[str, Tensor]) -> None:
    """Give a reparametrised module these weights, as its constructor would have."""
    with torch.no_grad():
        for name, hook in _hooks(module).items():
            _set_by_hook(module, name, hook, values[name])
        for name in getattr(module, "parametrizations", {}):
            _set_by_parametrization(module, name, values[name])


def _set_by_hook(module: nn.Module, name: str, hook: Any, value: Tensor) -> None:
    if isinstance(hook, WeightNorm):
        getattr(module, f"{name}_g").copy_(torch.norm_except_dim(value, 2, hook.dim))
        getattr(module, f"{name}_v").copy_(value)
        hook(module, None)
        return
    getattr(module, f"{name}_orig").copy_(value)
    with _mode(module, training=True):
        for _ in range(SETTLING):
            hook(module, None)


def _set_by_parametrization(module: nn.Module, name: str, value: Tensor) -> None:
    try:
        setattr(module, name, value)
    except RuntimeError:
        # It cannot be inverted: torch then takes the weight itself as the tensor it is made of.
        module.parametrizations[name].original.copy_(value)  # type: ignore[union-attr]
    with _mode(module, training=True):
        for _ in range(SETTLING):
            getattr(module, name)


def _hooks(module: nn.Module) -> dict[str, Any]:
    hooks = module._forward_pre_hooks.values()
    return {hook.name: hook for hook in hooks if isinstance(hook, WeightNorm | SpectralNorm)}


def _computed(hook: Any, module: nn.Module) -> Tensor:
    return hook.compute_weight(module) if isinstance(hook, WeightNorm) else hook.compute_weight(module, False)


def _evaluated(module: nn.Module) -> Any:
    return _mode(module, training=False)


@contextmanager
def _mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """The mode of a module and its parametrizations for the block: a spectral norm iterates only in training."""
    held = [module, *getattr(module, "parametrizations", nn.Module()).modules()]
    flags = [(m, m.training) for m in held]
    try:
        for m in held:
            m.training = training
        yield
    finally:
        for m, flag in flags:
            m.training = flag
